"""What the benchmarks share: processes on chosen cores, memory, rounds in turn, photos, tables."""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
GRAIN = 5.0
"""Standard deviation of the noise put on an enlarged photo, in grey levels: without it an enlarged
photo is a smooth picture, which is a smaller file and decodes faster than a camera's."""


# --- processes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    seconds: float
    megabytes: float
    """High-water marks of its processes, added up; 0 if it was not watched."""


def start(words: Sequence[object], cores: Collection[int], **streams: Any) -> subprocess.Popen[str]:
    """Start a command of Python's on those cores; this checkout is what it imports."""
    options: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, *map(str, words)]
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # a process starts on the cores of the one that starts it
    try:
        return subprocess.Popen(command, env=environment, text=True, **options)
    finally:
        os.sched_setaffinity(0, before)


def run(words: Sequence[object], cores: Collection[int], *, watch: bool = False) -> Ran:
    """Run a command to its end; fails if the command does."""
    began = time.perf_counter()
    process = start(words, cores)
    peaks: dict[int, float] = {}
    while watch and process.poll() is None:
        for pid in (process.pid, *_children(process.pid)):
            peaks[pid] = max(peaks.get(pid, 0), peak(pid))
        time.sleep(0.05)  # the mark is the system's own: only a shorter process is missed
    code = process.wait()
    assert code == 0, f"{words}: exit code {code}"
    return Ran(time.perf_counter() - began, sum(peaks.values()))


def alpaca(*words: object) -> list[object]:
    """Return the words of an `alpaca` command."""
    return ["-m", "alpaca_labeler", *words]


def peak(pid: int | str = "self") -> float:
    """Return the most memory that a process has had resident, in MB; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0)


def _children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


# --- figures -------------------------------------------------------------------------------------

Times = dict[str, list[float]]
"""Contestant -> seconds by round."""


def in_turn(rounds: int, acts: dict[str, Callable[[], float]]) -> Times:
    """Let all act in every round, so that a machine whose speed drifts drifts for all of them."""
    found: Times = defaultdict(list)
    for number in range(rounds):
        # Every other round backwards, so that none always comes after the same one.
        for name in acts if number % 2 == 0 else reversed(acts):
            found[name].append(acts[name]())
    return dict(found)


def ratio(found: Times, one: str, other: str) -> float:
    """Return how many times as long as `other` it takes: the median of the rounds' own ratios."""
    return statistics.median(a / b for a, b in zip(found[one], found[other], strict=True))


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a Markdown table: the first column to the left, the others to the right."""
    head = [*header]
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *(map(_cell, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    digits = 0 if value >= 100 or isinstance(value, int) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def say(what: str) -> None:
    """Say on stderr what is being measured."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


# --- photos --------------------------------------------------------------------------------------


def originals() -> list[Path]:
    """Return the photos that all sizes are made of: of the data set, or of the tests."""
    shared = Path(os.environ.get("ALPACA_SHARED", ROOT.parent / "shared")) / "dataset"
    return sorted(shared.glob("*/*.jpg")) or sorted((ROOT / "tests/photos").glob("*.[jp][pn]g"))


def photos(longest: int, count: int, scratch: Path) -> list[str]:
    """Write `count` JPEGs whose longest side has that many pixels; return their paths."""
    folder = scratch / str(longest)
    folder.mkdir()
    found, paths = originals(), []
    for number in range(count):
        path = folder / f"{number:04}.jpg"
        data = found[number * len(found) // count % len(found)].read_bytes()
        path.write_bytes(_resized(data, longest, seed=number))
        paths.append(str(path))
    return paths


def _resized(data: bytes, longest: int, seed: int) -> bytes:
    import numpy as np  # not in the processes whose memory is measured
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        scale = longest / max(image.size)
        if scale == 1:
            return data
        width, height = (max(1, round(side * scale)) for side in image.size)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    if scale > 1:
        pixels = np.asarray(resized, np.int16)
        grain = np.random.default_rng(seed).normal(0, GRAIN, pixels.shape[:2]).astype(np.int16)
        resized = Image.fromarray(np.clip(pixels + grain[..., None], 0, 255).astype(np.uint8))
    made = io.BytesIO()
    resized.save(made, "JPEG", quality=90)
    return made.getvalue()

"""The `alpaca` command as a whole process: seconds from its start to its end, and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.bench_photos import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

WATCHED_SECONDS = 0.05
"""Between two readings of a run's memory. The high-water mark is the system's own, so only that of
a process that ends between two readings is missed."""


CONTENT = b"labelled before; nobody reads it"


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    seconds: float
    megabytes: float
    """High-water marks of its processes, added up."""


def run(words: Sequence[str], cores: Collection[int], *, watch: bool = False) -> Ran:
    """Run a command of Python's on those cores, its output thrown away."""
    began = time.perf_counter()
    with on(cores):
        process = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
    peaks: dict[int, float] = {}
    while watch and process.poll() is None:
        for pid in (process.pid, *_children(process.pid)):
            peaks[pid] = max(peaks.get(pid, 0), _peak(pid))
        time.sleep(WATCHED_SECONDS)
    code = process.wait()
    seconds = time.perf_counter() - began
    assert code == 0, f"{' '.join(words)}: exit code {code}"
    return Ran(seconds, sum(peaks.values()))


@contextmanager
def on(cores: Collection[int]) -> Iterator[None]:
    """Start processes on those cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def environment() -> dict[str, str]:
    """Return the environment in which this checkout is what Python imports."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def label(target: Path | str, cores: Collection[int], scratch: Path, *, watch: bool = False) -> Ran:
    """Run `alpaca label TARGET` with one worker per core, into a manifest that is not there yet."""
    manifest = scratch / "manifest.jsonl"
    manifest.unlink(missing_ok=True)
    words = ["-m", "alpaca_labeler", "label", str(target), "--manifest", str(manifest)]
    return run([*words, "--workers", str(len(cores))], cores, watch=watch)


def labelled_before(count: int, scratch: Path) -> tuple[Path, Path]:
    """Make a folder of `count` files and the manifest of a run that labelled them all."""
    from alpaca_labeler.handler import bundle, manifest_row, storage
    from alpaca_labeler.handler.classifier import decide
    from alpaca_labeler.label import sources
    from alpaca_labeler.table.places import Places

    top = scratch / "labelled"
    for number in range(count):
        folder = top / f"{number // 1000:04}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"IMG_{number:07}.jpg").write_bytes(CONTENT)
    card = bundle.load().card
    found = sorted(sources.find([str(top)], sources.Skipped()), key=lambda image: image.source_ref)
    table = scratch / "labelled.jsonl"
    places, digest = Places(str(table)), storage.digest(CONTENT)
    with table.open("wb") as file:
        for number, image in enumerate(found):
            name = places.name(image.source_ref)
            image = replace(image, source_ref=name, etag=digest)  # noqa: PLW2901
            prediction = decide(card, (number % 17 - 8) / 2)
            row = manifest_row.label_row(image, (1024, 768), prediction, card, datetime.now(UTC))
            file.write(manifest_row.encode(row))
    return top, table


def resume(top: Path, table: Path, cores: Collection[int]) -> Ran:
    """Run `alpaca label` if there is nothing to do; fails if it finds something."""
    before = table.stat()
    ran = run(
        ["-m", "alpaca_labeler", "label", str(top), "--manifest", str(table)], cores, watch=True
    )
    assert table.stat().st_mtime_ns == before.st_mtime_ns
    return ran


def growth(rows: int) -> dict[str, float]:
    """Compact and audit a table of `rows` rows, by `bench_compaction.py`."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("bench_compaction.py"), "--json", str(rows)],
        check=True,
        capture_output=True,
        text=True,
        env=environment(),
    )
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _peak(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0)

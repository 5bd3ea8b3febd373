"""How fast are photos labelled, beside the least that any labeller must do, and beside peers?"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import harness
from tests.benchmarks.contestants import CONTESTANTS

HERE = Path(__file__).parent
COMMAND, EMPTY = "command", "command without photos"
NAMES = {
    "floor": "bare floor",
    "labeler": "this project, library",
    COMMAND: "this project, `alpaca label`",
    "litert": "LiteRT, float",
    "onnx": "ONNX Runtime",
    "keras": "Keras sample",
}


class Server:
    """A contestant in a process of its own."""

    def __init__(self, name: str, models: Path, cores: set[int], *photo: str) -> None:
        self.process = harness.start(
            [HERE / "contestants.py", name, models, *photo],
            cores,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"skipped": "its process died while it loaded"}

    def label(self, paths: list[str]) -> dict[str, Any]:
        assert self.process.stdin
        print(json.dumps(paths), file=self.process.stdin, flush=True)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


Acts = dict[str, Callable[[], float]]
Team = list[Server]
"""The same contestant, one server per core."""


@dataclass
class Labelled:
    """What was measured."""

    photos: dict[int, list[str]]
    """Longest side: the photos."""
    seconds: dict[tuple[int, int], harness.Times] = field(default_factory=dict)
    """(longest side, cores) -> the times for all photos."""
    megabytes: dict[str, float] = field(default_factory=dict)
    starts: harness.Times = field(default_factory=dict)
    """Seconds from the start of the process to its first label."""

    def millis(self, name: str, longest: int = 1024, cores: int = 1) -> float | None:
        """Return the median milliseconds per photo."""
        times = self.seconds.get((longest, cores), {}).get(name)
        return 1000 * statistics.median(times) / len(self.photos[longest]) if times else None

    def names(self) -> list[str]:
        return [name for name in NAMES if self.millis(name)]


def measure(sizes: dict[int, int], rounds: int, keras: str, scratch: Path) -> Labelled:
    """Label photos of those sizes ({longest side: number}) with all contestants in turn."""
    harness.say("photos and networks")
    found = Labelled({size: harness.photos(size, n, scratch) for size, n in sizes.items()})
    models = scratch / "models"
    models.mkdir()
    harness.start([HERE / "contestants.py", "--make", models, keras], ALL).wait()
    cores = sorted(ALL)[-2:]
    teams = _load(models, cores)
    try:
        for longest, paths in found.photos.items():
            for count in range(1, len(cores) + 1):
                harness.say(f"{longest} px, {count} of {len(cores)} cores")
                some = {name: team[:count] for name, team in teams.items()}
                found.seconds[longest, count] = _rounds(rounds, paths, some, cores[:count], scratch)
        for name, [server, *_] in teams.items():
            found.megabytes[name] = server.label([])["megabytes"]
    finally:
        for team in teams.values():
            for server in team:
                server.end()
    largest = str(Path(found.photos[max(sizes)][0]).parent)
    found.megabytes[COMMAND] = _label(largest, cores[:1], scratch, watch=True).megabytes
    harness.say("from start to first label")
    photo = found.photos[1024][0]
    acts: Acts = {name: partial(_first, name, models, cores[:1], photo) for name in teams}
    acts[COMMAND] = lambda: _label(photo, cores[:1], scratch).seconds
    for act in acts.values():
        act()  # fills the file cache
    found.starts = harness.in_turn(rounds, acts)
    return found


ALL = os.sched_getaffinity(0)


def _load(models: Path, cores: list[int]) -> dict[str, Team]:
    teams = {name: [Server(name, models, {core}) for core in cores] for name in CONTESTANTS}
    for name, team in list(teams.items()):
        reasons = [answer["skipped"] for one in team if "skipped" in (answer := one.answer())]
        if reasons:
            harness.say(f"{NAMES[name]} does not take part: {reasons[0]}")
            for server in teams.pop(name):
                server.end()
    return teams


def _rounds(
    rounds: int, paths: list[str], teams: dict[str, Team], cores: list[int], scratch: Path
) -> harness.Times:
    nothing = scratch / "nothing"
    nothing.mkdir(exist_ok=True)
    folder = str(Path(paths[0]).parent)
    for team in teams.values():  # the first photos of a size find cold caches and allocators
        _share(team, paths[: 2 * len(team)])
    acts: Acts = {name: partial(_share, team, paths) for name, team in teams.items()}
    acts[COMMAND] = lambda: _label(folder, cores, scratch).seconds
    acts[EMPTY] = lambda: _label(str(nothing), cores, scratch).seconds
    times = harness.in_turn(rounds, acts)
    # Its start and end are in the table of starts.
    empty = times.pop(EMPTY)
    times[COMMAND] = [a - b for a, b in zip(times[COMMAND], empty, strict=True)]
    return times


def _label(target: str, cores: list[int], scratch: Path, *, watch: bool = False) -> harness.Ran:
    """Run `alpaca label` with one worker per core, into a manifest that is not there yet."""
    manifest = scratch / "manifest.jsonl"
    manifest.unlink(missing_ok=True)
    words = ["label", target, "--manifest", manifest, "--workers", len(cores)]
    return harness.run(harness.alpaca(*words), cores, watch=watch)


def _share(team: Team, paths: list[str]) -> float:
    """Return the seconds of a team for the photos, dealt out to its servers."""
    with ThreadPoolExecutor(len(team)) as pool:
        hands = [paths[number :: len(team)] for number in range(len(team))]
        answers = [*pool.map(lambda server, hand: server.label(hand), team, hands)]
    return max(float(answer["seconds"]) for answer in answers)


def _first(name: str, models: Path, cores: list[int], photo: str) -> float:
    began = time.perf_counter()
    server = Server(name, models, set(cores), photo)
    assert server.process.stdout
    assert server.process.stdout.readline(), name
    seconds = time.perf_counter() - began
    server.end()
    return seconds


# --- what the document says ----------------------------------------------------------------------


def section(found: Labelled) -> str:
    """Return the tables of speed, starts and memory."""
    sizes, names = list(found.photos), found.names()
    one = found.seconds[1024, 1]

    def rates(name: str, cores: int) -> list[float | None]:
        times = [found.millis(name, size, cores) for size in sizes]
        return [1000 / time if time else None for time in times]

    single = [
        [
            NAMES[name],
            *rates(name, 1),
            found.millis(name),
            harness.ratio(one, name, "floor"),
            harness.ratio(one, "keras", name),
        ]
        for name in names
    ]
    double = [
        [NAMES[name], *rates(name, 2), *(gain(found, name, size) for size in sizes)]
        for name in names
    ]
    starts = [
        [NAMES[name], statistics.median(found.starts[name]), found.megabytes[name]]
        for name in names
    ]
    per_second = [f"{size} px, /s" for size in sizes]
    tables = [
        harness.table(["one core", *per_second, "1024 px, ms", "x floor", "Keras / it"], single)
    ]
    if (1024, 2) in found.seconds:
        header = ["two cores", *per_second, *(f"gain, {size}" for size in sizes)]
        tables.append(harness.table(header, double))
    tables.append(harness.table(["one core", "first label, s", "memory, MB"], starts))
    return "\n\n".join([TEXT, *tables])


def gain(found: Labelled, name: str, longest: int = 1024) -> float | None:
    """Return how many times as many photos per second two cores give as one does."""
    one, two = found.millis(name, longest, 1), found.millis(name, longest, 2)
    return one / two if one and two else None


TEXT = """\
## Labelling

Read, decoded and labelled. The floor reads the file, decodes it scaled, makes the product's own
pixels of it and runs the int8 model: nothing else. Two cores are two processes, each with half of
the photos (`alpaca label`: two workers); the floor's gain is the most that this machine allows. The
first label counts from the start of the process (`alpaca label PHOTO`: to its end). Memory is the
high-water mark of all processes after the largest photos."""

"""How fast are photos labelled, beside the least that any labeller must do, and beside peers?"""

from __future__ import annotations

import itertools
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
    "keras": "Keras sample",
}


class Server:
    """A contestant in a process of its own."""

    def __init__(self, name: str, models: Path, cores: set[int]) -> None:
        words = [HERE / "contestants.py", name, models]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = harness.start(words, cores, **pipes)

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

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

    def rate(self, name: str, longest: int = 1024, cores: int = 1) -> float:
        """Return the median photos per second."""
        times = self.seconds[longest, cores][name]
        return len(self.photos[longest]) / statistics.median(times)

    def gain(self, name: str, longest: int = 1024) -> float:
        """Return how many times as many photos per second two cores give as one does."""
        return self.rate(name, longest, 2) / self.rate(name, longest)


def measure(sizes: dict[int, int], rounds: int, scratch: Path) -> Labelled:
    """Label photos of those sizes ({longest side: number}) with all contestants in turn."""
    harness.say("photos and networks")
    found = Labelled({size: harness.photos(size, n, scratch) for size, n in sizes.items()})
    models = scratch / "models"
    models.mkdir()
    everywhere = os.sched_getaffinity(0)
    harness.run([HERE / "contestants.py", "--make", models], everywhere)
    cores = sorted(everywhere)[-2:]
    teams = {name: [Server(name, models, {core}) for core in cores] for name in CONTESTANTS}
    try:
        for server in itertools.chain(*teams.values()):
            server.answer()  # it is ready
        for longest, paths in found.photos.items():
            for count in (1, 2):
                harness.say(f"{longest} px, {count} cores")
                some = {name: team[:count] for name, team in teams.items()}
                found.seconds[longest, count] = _rounds(rounds, paths, some, cores[:count], scratch)
        for name, [server, *_] in teams.items():
            found.megabytes[name] = server.label([])["megabytes"]
    finally:
        for server in itertools.chain(*teams.values()):
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
    server = Server(name, models, set(cores))
    server.answer()  # it is ready
    server.label([photo])
    seconds = time.perf_counter() - began
    server.end()
    return seconds


# --- what the document says ----------------------------------------------------------------------


def section(found: Labelled) -> str:
    """Return the tables of speed, starts and memory."""
    one = found.seconds[1024, 1]
    single, double, starts = [], [], []
    for name, called in NAMES.items():
        compared = (harness.ratio(one, name, "floor"), harness.ratio(one, "keras", name))
        rates = [found.rate(name, size) for size in found.photos]
        single.append([called, *rates, 1000 / found.rate(name), *compared])
        both = [found.rate(name, size, 2) for size in found.photos]
        double.append([called, *both, *(found.gain(name, size) for size in found.photos)])
        starts.append([called, statistics.median(found.starts[name]), found.megabytes[name]])
    per_second = [f"{size} px, /s" for size in found.photos]
    gains = [f"gain, {size}" for size in found.photos]
    tables = [
        harness.table(["one core", *per_second, "1024 px, ms", "x floor", "Keras / it"], single),
        harness.table(["two cores", *per_second, *gains], double),
        harness.table(["one core", "first label, s", "memory, MB"], starts),
    ]
    return "\n\n".join([TEXT, *tables])


TEXT = """\
## Labelling

Read, decoded and labelled. The floor reads the file, decodes it scaled, makes the product's own
pixels of it and runs the int8 model: nothing else. Two cores are two processes, each with half of
the photos (`alpaca label`: two workers); the floor's gain is the most that this machine allows. The
first label counts from the start of the process (`alpaca label PHOTO`: to its end). Memory is the
high-water mark of all processes after the largest photos."""

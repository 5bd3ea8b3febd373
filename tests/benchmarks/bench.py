"""How fast it is, beside its peers and beside the least that any labeller must do.

    make bench                                     all of it, and writes docs/benchmarks.md
    make bench QUICK=1                             two minutes, and writes nothing
    make bench KERAS=FILE                          the peers run that float network

Every figure of a table comes from one interleaved run: in each round all contestants label the same
photos one after the other, so that a machine whose speed drifts drifts for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import bench_commands as commands
from tests.benchmarks import bench_photos, bench_report, bench_stages
from tests.benchmarks.contestants import CONTESTANTS

HERE = Path(__file__).parent
COMMAND, COMMAND_START = "command", "command-start"
BATCHES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    photos: dict[int, int]
    """Longest side: number of photos."""
    rounds: int
    starts: int
    inferences: int
    """Of each batch size, in photos."""
    labelled: int
    """Files of the resumed folder."""
    rows: tuple[int, ...]
    """Tables that are compacted and audited."""


FULL = Plan({480: 160, 1024: 327, 4000: 32}, 5, 5, 64, 100_000, (10**4, 10**5, 10**6))
QUICK = Plan({480: 8, 1024: 16, 4000: 3}, 2, 1, 16, 10_000, (10**4,))


@dataclass
class Results:
    """What was measured."""

    plan: Plan
    network: str
    """Path of the float network that the peers ran, as it was given; empty without one."""
    photos: list[bench_photos.Photos] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Contestant: why it did not take part."""
    seconds: dict[tuple[int, int], dict[str, list[float]]] = field(default_factory=dict)
    """(longest side, cores) -> contestant -> seconds for all photos, by round."""
    logits: dict[str, list[float]] = field(default_factory=dict)
    """Of the photos of 1,024 px."""
    megabytes: dict[str, float] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from the start of the process to its first label."""
    batches: dict[str, dict[int, float]] = field(default_factory=dict)
    """Contestant -> batch size -> milliseconds per photo, inference only, one thread."""
    parallel: dict[str, dict[int, float]] = field(default_factory=dict)
    """Arrangement on two cores -> batch size -> milliseconds per photo, inference only."""
    helps: list[float] = field(default_factory=list)
    resumed: list[commands.Ran] = field(default_factory=list)
    growth: dict[int, dict[str, float]] = field(default_factory=dict)
    stages: dict[int, dict[str, float]] = field(default_factory=dict)


class Server:
    """A contestant in its process, on one core."""

    def __init__(self, name: str, models: Path, cores: set[int], *options: str) -> None:
        with commands.on(cores):
            self.process = subprocess.Popen(
                [sys.executable, HERE / "contestants.py", name, models, *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=commands.environment(),
            )

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"skipped": "its process died while it loaded"}

    def ask(self, **request: object) -> dict[str, Any]:
        assert self.process.stdin
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keras", default="")
    given = parser.parse_args()
    results = Results(QUICK if given.quick else FULL, given.keras)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        measure(results, Path(folder), given.keras)
    text = bench_report.document(results, time.monotonic() - began)
    print(text)
    if not given.quick:
        (bench_photos.ROOT / "docs/benchmarks.md").write_text(text, encoding="utf-8")


def measure(results: Results, scratch: Path, keras: str) -> None:
    """Fill in all results."""
    plan = results.plan
    say("photos and networks")
    results.photos = [
        bench_photos.make(longest, count, scratch) for longest, count in plan.photos.items()
    ]
    models = scratch / "models"
    models.mkdir()
    subprocess.run(
        [
            sys.executable,
            HERE / "bench_models.py",
            os.path.abspath(keras) if keras else "-",
            models,
        ],
        check=False,  # without TensorFlow there are no peers, and they say so
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    cores = sorted(os.sched_getaffinity(0))[-2:]
    teams = start(results, models, cores)
    try:
        for photos in results.photos:
            for count in range(1, len(cores) + 1):
                say(f"{photos.longest} px, {count} of {len(cores)} cores")
                rounds(results, photos, [team[:count] for team in teams], cores[:count], scratch)
        say("batches and threads")
        sweep(results, models, teams, cores)
    finally:
        for team in teams:
            for _, server in team:
                server.end()
    say("from start to first label")
    starts(results, models, cores[:1], scratch)
    say("the command")
    results.helps = [
        commands.run(["-m", "alpaca_labeler", "--help"], cores).seconds
        for _ in range(2 * plan.starts)
    ]
    top, table = commands.labelled_before(plan.labelled, scratch)
    results.resumed = [commands.resume(top, table, cores) for _ in range(plan.starts)]
    for rows in plan.rows:
        say(f"a table of {rows:,} rows")
        results.growth[rows] = commands.growth(rows)
    say("stages")
    os.sched_setaffinity(0, cores[:1])
    for photos in results.photos:
        results.stages[photos.longest] = bench_stages.profile(photos.paths, plan.rounds)


Team = list[tuple[str, Server]]
"""The same contestant, one server per core."""


def start(results: Results, models: Path, cores: list[int]) -> list[Team]:
    """Load all contestants on every core."""
    teams = []
    for name in CONTESTANTS:
        team = [(name, Server(name, models, {core})) for core in cores]
        reasons = [answer["skipped"] for _, one in team if "skipped" in (answer := one.answer())]
        if reasons:
            results.skipped[name] = reasons[0]
            for _, server in team:
                server.end()
        else:
            teams.append(team)
    return teams


def rounds(
    results: Results,
    photos: bench_photos.Photos,
    teams: list[Team],
    cores: list[int],
    scratch: Path,
) -> None:
    """Let all label the photos in turn, in every round."""
    seconds = results.seconds[photos.longest, len(cores)] = defaultdict(list)
    nothing = scratch / "nothing"
    nothing.mkdir(exist_ok=True)
    for team in teams:  # the first photos of a size find cold caches and allocators
        share(team, photos.paths[: 2 * len(team)])
    commands.label(photos.folder, cores, scratch)
    for number in range(results.plan.rounds):
        # Every other round backwards, so that none always comes after the same one.
        for team in teams if number % 2 == 0 else reversed(teams):
            answers = share(team, photos.paths)
            name = team[0][0]
            seconds[name].append(max(answer["seconds"] for answer in answers))
            if len(cores) == 1:
                results.megabytes[name] = answers[0]["megabytes"]
                if photos.longest == 1024:
                    results.logits[name] = answers[0]["logits"]
        ran = commands.label(photos.folder, cores, scratch, watch=number == 0)
        seconds[COMMAND].append(ran.seconds)
        seconds[COMMAND_START].append(commands.label(nothing, cores, scratch).seconds)
        if len(cores) == 1 and number == 0:
            results.megabytes[COMMAND] = max(ran.megabytes, results.megabytes.get(COMMAND, 0))


def share(team: Team, paths: tuple[str, ...]) -> list[dict[str, Any]]:
    """Have a team label the photos, dealt out to its servers, at once."""
    servers = [server for _, server in team]
    with ThreadPoolExecutor(len(servers)) as pool:
        hands = [paths[number :: len(servers)] for number in range(len(servers))]
        return [*pool.map(lambda server, hand: server.ask(photos=hand), servers, hands)]


def sweep(results: Results, models: Path, teams: list[Team], cores: list[int]) -> None:
    """Measure inference alone: by batch size for all, by threads for LiteRT."""
    alone = {team[0][0]: [team[0][1]] for team in teams if team[0][0] != "labeler"}
    arranged = {
        "1 process of 2 threads": [Server("floor", models, set(cores), "--threads=2")],
        "2 processes of 1 thread": [Server("floor", models, {core}) for core in cores],
    }
    try:
        for server in (server for servers in arranged.values() for server in servers):
            server.answer()
        for batch in BATCHES:
            for name, servers in alone.items():
                results.batches.setdefault(name, {})[batch] = inference(results, servers, batch)
            for name, servers in arranged.items():
                results.parallel.setdefault(name, {})[batch] = inference(results, servers, batch)
    finally:
        for server in (server for servers in arranged.values() for server in servers):
            server.end()


def inference(results: Results, servers: list[Server], batch: int) -> float:
    """Return milliseconds per photo if all those servers work at once: median of the rounds."""
    times = max(1, results.plan.inferences // batch)
    with ThreadPoolExecutor(len(servers)) as pool:
        slowest: list[float] = [
            max(pool.map(lambda one: one.ask(batch=batch, times=times)["seconds"], servers))
            for _ in range(results.plan.rounds)
        ]
    return 1000 * statistics.median(slowest) / (batch * times * len(servers))


def starts(results: Results, models: Path, cores: list[int], scratch: Path) -> None:
    """Measure from the start of a process to its first label, of a photo of 1,024 px."""
    photo = next(photos for photos in results.photos if photos.longest == 1024).paths[0]
    found = results.starts = defaultdict(list)
    for number in range(results.plan.starts + 1):
        for name in CONTESTANTS:
            if name in results.skipped:
                continue
            began = time.perf_counter()
            server = Server(name, models, set(cores), photo)
            assert server.process.stdout
            assert server.process.stdout.readline(), name
            seconds = time.perf_counter() - began
            server.end()
            if number:  # the first fills the file cache
                found[name].append(seconds)
        ran = commands.label(photo, cores, scratch)
        if number:
            found[COMMAND].append(ran.seconds)


def say(what: str) -> None:
    """Say on stderr what is being measured."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""`make fuzz`: throw broken input at everything that reads, for a while, and count.

    python tests/fuzz/fuzz.py                          # every target, 8 s each
    python tests/fuzz/fuzz.py --seconds 600 --target pictures --target events
    python tests/fuzz/fuzz.py --target pictures --repeat build/fuzz/findings/…/input

Each target runs in a process of its own under limits of memory and time; one that dies or hangs is
a finding, and another takes its place. With atheris installed (`pip install atheris`) libFuzzer
guides the mutations by the code they reach; without it they are random. Findings lie in
build/fuzz/findings, the first input of each kind. Exit code 1 if there are any.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz import worker

ROOT = Path(__file__).parents[2]
HANG_SECONDS = 60.0
"""A case that takes so long hangs; the machine may be busy with other things."""
MAX_DEATHS = 50
ASKED_FOR = {"models"}
"""Targets that are left out unless they are named."""


def names() -> list[str]:
    from tests.fuzz.targets import TARGETS

    return [*TARGETS]


def fuzz(name: str, seconds: float, seed: int, folder: Path, engine: str) -> dict[str, Any]:
    """Fuzz one target and count."""
    (folder / "findings").mkdir(parents=True, exist_ok=True)
    shared = worker.Shared(f"{folder}/{name}.state")
    shared.begin(0, b"")
    before = set(findings(folder, name))
    began, deaths = time.monotonic(), 0
    while deaths < MAX_DEATHS and (left := began + seconds - time.monotonic()) > 0.5:
        ended = _run_worker(name, left, seed + deaths, folder, engine, shared)
        if ended == "done":
            break
        deaths += 1
        if ended:
            cases, _, data = shared.read()
            worker.save(str(folder), name, ended, data, f"{ended} at case {cases:,}, seed {seed}\n")
    return {
        "target": name,
        "engine": engine,
        "seed": seed,
        "cases": shared.read()[0],
        "seconds": round(time.monotonic() - began, 1),
        "deaths": deaths,
        "findings": sorted({*findings(folder, name)} - before),
    }


def findings(folder: Path, name: str) -> list[str]:
    return [path.name for path in (folder / "findings").glob(f"{name}-*")]


def _run_worker(  # noqa: PLR0917
    name: str, seconds: float, seed: int, folder: Path, engine: str, shared: worker.Shared
) -> str:
    """Run a worker to its end: `done`, how it died, or nothing if it said so itself."""
    log = folder / f"{name}.log"
    command = [
        sys.executable,
        str(Path(worker.__file__)),
        name,
        str(seconds),
        str(seed),
        str(folder),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, engine], cwd=ROOT, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
        try:
            while process.poll() is None:
                time.sleep(0.1)
                cases, began, _ = shared.read()
                if cases and time.monotonic() - began > HANG_SECONDS:
                    return "hang"
        finally:
            process.kill()
            process.wait()
    if process.returncode in {0, worker.OUT_OF_MEMORY}:
        return "" if process.returncode else "done"
    if process.returncode < 0:
        return f"crash-{signal.Signals(-process.returncode).name}"
    if not shared.read()[0]:  # it never began: not an input's fault
        raise SystemExit(f"{name}: the fuzzer did not start:\n{log.read_text(errors='replace')}")
    return f"exit-{process.returncode}"


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8, help="for each target  [8]")
    parser.add_argument("--target", action="append", choices=names(), help="[all but models]")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="[random]")
    parser.add_argument("--engine", choices=["atheris", "random"], help="[atheris if installed]")
    parser.add_argument("--folder", type=Path, default=ROOT / "build/fuzz")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="run this one input, and stop")
    asked = parser.parse_args()
    chosen = asked.target or [name for name in names() if name not in ASKED_FOR]
    if asked.repeat:
        from tests.fuzz.targets import TARGETS

        TARGETS[chosen[0]].check(asked.repeat.read_bytes())
        print("nothing happens")
        return
    guided = importlib.util.find_spec("atheris") is not None
    engine = asked.engine or ("atheris" if guided else "random")
    found = 0
    print(f"{'target':10} {'cases':>11} {'seconds':>8} {'cases/s':>8}  findings ({engine})")
    for name in chosen:
        done = fuzz(name, asked.seconds, asked.seed, asked.folder, engine)
        with (asked.folder / "runs.jsonl").open("a") as file:
            file.write(json.dumps(done) + "\n")
        found += len(done["findings"])
        print(
            f"{name:10} {done['cases']:>11,} {done['seconds']:>8.1f} "
            f"{done['cases'] / done['seconds']:>8,.0f}  {', '.join(done['findings']) or '-'}",
            flush=True,
        )
    print(f"seed {asked.seed}; findings lie in {asked.folder / 'findings'}")
    sys.exit(found > 0)


if __name__ == "__main__":
    main()

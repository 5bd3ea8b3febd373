"""`make fuzz`: throw broken input at everything that reads, for a while, and count.

    python tests/fuzz/fuzz.py                          # every target, 8 s each
    python tests/fuzz/fuzz.py --seconds 600 --target pictures --target events
    python tests/fuzz/fuzz.py --target pictures --repeat build/fuzz/pictures-…

A case is its seed and number, so an input that kills its process can be made again. Each target
runs in a process of its own under a limit of memory; one that dies or hangs is a finding, and
another takes its place. The first input of each kind of finding is kept in build/fuzz. Exit code 1
if there are any.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz.targets import MAX_PIXELS, TARGETS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build/fuzz"
HANG_SECONDS = 60.0
"""A case that takes so long hangs; the machine may be busy with other things."""
SLOW_SECONDS = 3.0
"""Processor time of one case."""
ADDRESS_SPACE = 8 * 2**30
MAX_DEATHS = 50


def case(name: str, seeds: list[bytes], seed: int, number: int) -> bytes:
    """Return an input: first the seeds as they are, then mutations of them."""
    if number < len(seeds):
        return seeds[number]
    rng = random.Random(f"{seed}-{number}")
    data, other = rng.choice(seeds), rng.choice(seeds)
    if rng.random() < 0.1:  # the beginning of one and the end of another
        data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
    return TARGETS[name].mutate(data, rng)


def work(name: str, seed: int, ends: float, number: Any) -> None:
    """Run cases until the time is up; what a check raises is kept, and the next one comes."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what decoders say
    target, seeds = TARGETS[name], TARGETS[name].seeds()
    while number.value < len(seeds) or time.monotonic() < ends:
        data = case(name, seeds, seed, number.value)
        began, held = time.process_time(), _peak()
        try:
            target.run(data)
        except Exception as error:  # every other way out is a finding
            keep(name, _place(error), data, traceback.format_exc())
        if (seconds := time.process_time() - began) > SLOW_SECONDS:
            keep(name, "slow", data, f"{seconds:.1f} s of processor time")
        if (grown := _peak() - held) > target.megabytes:
            keep(name, "memory", data, f"memory grew by {grown:.0f} MB")
        number.value += 1


def fuzz(name: str, seconds: float, seed: int) -> int:
    """Fuzz one target; return the number of cases."""
    began = time.monotonic()
    number = multiprocessing.Value("Q", 0)
    for _ in range(MAX_DEATHS):
        worker = multiprocessing.Process(target=work, args=(name, seed, began + seconds, number))
        worker.start()
        died = _watch(worker, number)
        if not died:
            break
        data = case(name, TARGETS[name].seeds(), seed, number.value)
        keep(name, died, data, f"{died} at case {number.value:,}, seed {seed}")
        number.value += 1
    return int(number.value)


def _watch(worker: multiprocessing.Process, number: Any) -> str:
    """Wait for a worker's end; return how it died, or nothing."""
    seen, since = -1, time.monotonic()
    while worker.is_alive():
        worker.join(1)
        if number.value != seen:
            seen, since = number.value, time.monotonic()
        elif time.monotonic() - since > HANG_SECONDS:
            worker.kill()
            worker.join()
            return "hang"
    return f"exit{worker.exitcode}" if worker.exitcode else ""


def keep(name: str, kind: str, data: bytes, about: str) -> None:
    """Keep the first input of each kind, and the words that say what happened."""
    path = FOLDER / f"{name}-{kind}"
    if not path.exists():
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(f"{about}\n")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _place(error: BaseException) -> str:
    """Name an error by its type and the last place in our own code."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(f"{ROOT}/alpaca_labeler/")]
    last = (ours or frames)[-1]
    return f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8, help="for each target  [8]")
    parser.add_argument("--target", action="append", choices=[*TARGETS], help="[all]")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="[random]")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="run this one input, and stop")
    asked = parser.parse_args()
    chosen = asked.target or [*TARGETS]
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # as if the limit had never been higher
    if asked.repeat:
        TARGETS[chosen[0]].run(asked.repeat.read_bytes())
        print("nothing happens")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    before, found = {*FOLDER.glob("*.txt")}, set[Path]()
    print(f"{'target':10} {'cases':>11} {'cases/s':>8}  findings")
    for name in chosen:
        cases = fuzz(name, asked.seconds, asked.seed)
        new = {*FOLDER.glob(f"{name}-*.txt")} - before
        found |= new
        kinds = ", ".join(sorted(path.stem for path in new)) or "-"
        print(f"{name:10} {cases:>11,} {cases / asked.seconds:>8,.0f}  {kinds}", flush=True)
    print(f"seed {asked.seed}; findings lie in {FOLDER}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()

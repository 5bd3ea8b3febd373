"""One fuzzing process, started by fuzz.py: `python worker.py TARGET SECONDS SEED FOLDER ENGINE`.

Whatever a decoder does to this process, the input that it was at lies in a shared file. What a
check raises is saved here, once for each place in the code, and fuzzing goes on.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import resource
import struct
import sys
import time
import traceback
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

STATE = struct.Struct("<QdI")
"""Cases so far, when this one began (`time.monotonic`), its length; the input follows."""
MAX_BYTES = 2**15
"""Of an input that libFuzzer makes."""
LARGE_BYTES = 2**23
"""Of an input at all: a model is the largest."""
SLOW_SECONDS = 3.0
"""Processor time of one case."""
ADDRESS_SPACE = 8 * 2**30
OUT_OF_MEMORY = 77


class Shared:
    """The input in hand, in a file that outlives this process."""

    def __init__(self, path: str) -> None:
        size = STATE.size + LARGE_BYTES
        with open(path, "a+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)

    def begin(self, cases: int, data: bytes) -> None:
        self._map[STATE.size : STATE.size + len(data)] = data
        self._map[: STATE.size] = STATE.pack(cases, time.monotonic(), len(data))

    def read(self) -> tuple[int, float, bytes]:
        cases, began, size = STATE.unpack(self._map[: STATE.size])
        return cases, began, self._map[STATE.size : STATE.size + size]


class Session:
    """Runs cases of one target and keeps what goes wrong."""

    def __init__(self, name: str, folder: str) -> None:
        from tests.fuzz.targets import TARGETS

        self.name, self.target, self.folder = name, TARGETS[name], folder
        self.shared = Shared(f"{folder}/{name}.state")
        self.cases = self.shared.read()[0]
        self.seeds = self.target.seeds()
        for seed in self.seeds:
            self.run(seed)

    def run(self, data: bytes) -> None:
        self.cases += 1
        self.shared.begin(self.cases, data)
        began, held = time.process_time(), _peak()
        try:
            self.target.check(data)
        except Exception as error:  # every other way out is a finding
            save(self.folder, self.name, _place(error), data, traceback.format_exc())
        seconds = time.process_time() - began
        if seconds > SLOW_SECONDS:
            save(self.folder, self.name, "slow", data, f"{seconds:.1f} s of processor time\n")
        if (grown := (_peak() - held) / 2**20) > self.target.megabytes:
            about = f"memory grew by {grown:.0f} MB in one case\n"
            save(self.folder, self.name, "memory", data, about)
            os._exit(OUT_OF_MEMORY)

    def mutational(self, seconds: float, seed: int) -> None:
        """Change whole inputs at random until the time is up."""
        from tests.fuzz.mutators import splice

        rng = Random(seed)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            data = rng.choice(self.seeds)
            if rng.random() < 0.1:
                data = splice(data, rng.choice(self.seeds), rng)
            self.run(self.target.mutate(data, rng)[:LARGE_BYTES])

    def guided(self, seconds: float, seed: int) -> None:
        """Let libFuzzer keep what reaches new code, and mutate that further."""
        import atheris

        def mutator(data: bytes, size: int, number: int) -> bytes:
            rng = Random(number)
            if rng.random() < 0.3:
                mutated: bytes = atheris.Mutate(data, size)
                return mutated
            return self.target.mutate(data, rng)[:size]

        corpus = Path(self.folder) / "corpus" / self.name
        corpus.mkdir(parents=True, exist_ok=True)
        for whole in self.seeds:
            (corpus / hashlib.sha1(whole).hexdigest()).write_bytes(whole)
        options = {
            "max_total_time": max(1, int(seconds)),
            "seed": seed % 2**31,
            "max_len": MAX_BYTES,
            "timeout": 3600,
            "rss_limit_mb": 0,
            "verbosity": 0,
            "artifact_prefix": f"{corpus}.",
        }
        arguments = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *arguments, str(corpus)], self.run, custom_mutator=mutator)
        atheris.Fuzz()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _place(error: BaseException) -> str:
    """Name an error by its type and the last place in our own code."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(f"{ROOT}/alpaca_labeler/")]
    last = (ours or frames)[-1]
    return f"{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}"


def save(folder: str, target: str, kind: str, data: bytes, about: str) -> None:
    """Keep the first input of each kind, and the words that say how to run it again."""
    place = Path(folder) / "findings" / f"{target}-{kind}"
    if place.exists():
        return
    place.mkdir(parents=True)
    (place / "input").write_bytes(data)
    again = f"python tests/fuzz/fuzz.py --target {target} --repeat {place / 'input'}\n"
    (place / "about.txt").write_text(f"{about}\nAgain: {again}")


def main() -> None:
    name, seconds, seed, folder, engine = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if engine == "atheris":
        import atheris

        with atheris.instrument_imports(
            include=["alpaca_labeler", "PIL"], enable_loader_override=False
        ):
            session = Session(name, folder)
        session.guided(float(seconds), int(seed))
    else:
        Session(name, folder).mutational(float(seconds), int(seed))


if __name__ == "__main__":
    main()

"""All that is measured, as one document.

make bench                  all of it, and writes docs/benchmarks.md
make bench QUICK=1          two minutes, and writes nothing
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks import bench_compaction, bench_folder, bench_labelling, harness

COMMAND = bench_labelling.COMMAND
Growth = dict[int, dict[str, float]]
PACKAGES = ("ai-edge-litert", "pillow", "numpy", "tensorflow", "keras")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    tables: tuple[int, ...] = (10**4, 10**5, 10**6)
    sizes, rounds, files = {480: 160, 1024: 327, 4000: 32}, 5, 100_000
    if given.quick:
        sizes, rounds, files, tables = {480: 8, 1024: 16, 4000: 3}, 2, 10_000, (10**4,)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        labelled = bench_labelling.measure(sizes, rounds, scratch)
        commands = bench_folder.measure(files, rounds, scratch)
        growth = {rows: bench_compaction.measure(rows) for rows in tables}
        sections = [
            head(labelled, rounds, time.monotonic() - began),
            aims(labelled, commands, growth),
            bench_labelling.section(labelled),
            bench_folder.section(files, commands),
            bench_compaction.section(growth),
        ]
    text = "\n\n".join(sections) + "\n"
    print(text)
    if not given.quick:
        (harness.ROOT / "docs/benchmarks.md").write_text(text, encoding="utf-8")


def head(found: bench_labelling.Labelled, rounds: int, seconds: float) -> str:
    """Say where and how it was measured."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    sizes = ", ".join(
        f"{len(paths)} of {longest:,} px "
        f"({sum(map(os.path.getsize, paths)) / len(paths) / 1000:,.0f} kB each)"
        for longest, paths in found.photos.items()
    )
    return f"""# Benchmarks

Written by `make bench`; every figure below comes from that one run.

- **Machine**: {_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}
- **Versions**: Python {platform.python_version()}, {", ".join(versions)}
- **Command**: `make bench`, {time.strftime("%d %B %Y")}, \
{seconds / 60:.0f} minutes
- **Photos**: {sizes}, made of {len(harness.originals())} photos. Enlarged ones have grain added, so
  that they weigh and decode as a camera's do
- **The Keras sample** runs a network of the same architecture with random weights, which is as
  fast. All get one thread and one photo at a time
- **Rounds**: {rounds}. In each, all contestants take turns, every other one backwards.
  Times are medians, ratios the medians of each round's own ratio"""


def _processor() -> str:
    """Return the processor's name and its vector instructions, which int8 inference depends on."""
    facts = Path("/proc/cpuinfo").read_text()
    [name] = re.findall(r"model name\s*: (.*)", facts)[:1] or ["unknown"]
    vector = {*re.findall(r"\b(?:avx|amx|asimd|sve|i8mm)\w*", facts)}
    return f"{name} ({', '.join(sorted(vector))})"


def aims(found: bench_labelling.Labelled, commands: dict[str, harness.Ran], growth: Growth) -> str:
    """Return what is aimed at beside what was measured."""
    one, memory, ratio = found.seconds[1024, 1], found.megabytes, harness.ratio
    resumed = commands["`alpaca label`, all labelled before"].seconds
    steepest = bench_compaction.steepest(growth)
    rows: list[tuple[str, float, float | None]] = [  # a negative aim is a least
        (f"{KERAS}, time per photo", -10, ratio(one, "keras", COMMAND)),
        ("library over bare floor", 1.1, ratio(one, "labeler", "floor")),
        ("`alpaca label` over bare floor", 1.1, ratio(one, COMMAND, "floor")),
        ("`alpaca label`, two cores over one", -1.9, found.gain(COMMAND)),
        (f"start to first label, {KERAS}", -15, ratio(found.starts, "keras", COMMAND)),
        (f"memory, {KERAS}", -6, memory["keras"] / memory[COMMAND]),
        ("resume over 100,000 labelled files, s", 5, resumed if growth.get(10**6) else None),
        ("compaction and audit, growth of time over growth of rows", 1, steepest),
    ]
    lines = []
    for what, aim, value in rows:
        met = value is not None and (value >= -aim if aim < 0 else value <= aim)
        said = "not measured" if value is None else "met" if met else "**missed**"
        lines.append([what, f"{'>=' if aim < 0 else '<='} {abs(aim):g}", value, said])
    return f"{AIMS}\n\n{harness.table(('aim', 'at', 'measured', ''), lines)}"


KERAS = "Keras sample over `alpaca label`"
AIMS = """\
## Aims

One core and 1,024 px unless said otherwise; `alpaca label` without its start and end, which the
table of starts has."""

if __name__ == "__main__":
    main()

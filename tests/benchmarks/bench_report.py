"""Results as Markdown tables, aligned so that a terminal shows them as well as a browser."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import bench_photos
from tests.benchmarks.contestants import CONTESTANTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.benchmarks.bench import Results

COMMAND, COMMAND_START = "command", "command-start"
OURS = ("ai-edge-litert", "boto3", "click", "numpy", "orjson", "pillow")
NAMES = {name: title for name, (_, title, _) in CONTESTANTS.items()}
NAMES[COMMAND] = "this project, `alpaca label`"
PACKAGES = {name: packages for name, (_, _, packages) in CONTESTANTS.items()} | {COMMAND: OURS}

LAMBDA_GB = 1769 / 1024
"""The memory at which a Lambda function has one whole core."""
GB_SECOND_DOLLARS = 0.0000166667
"""x86, us-east-1, first tier, as published in November 2026."""

Cell = str | float | int | None


def document(results: Results, seconds: float) -> str:
    """Return all of it as one Markdown text."""
    sections = [_head(results, seconds), _aims(results), _one_core(results), _cores(results)]
    sections += [_start(results), _stages(results), _batches(results), _command(results)]
    return "\n\n".join(section for section in sections if section) + "\n\n" + NOTES


def table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Return an aligned Markdown table: the first column to the left, the others to the right."""
    lines = [[*header], *([_cell(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        f"| {line[0]:<{widths[0]}} | "
        + " | ".join(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        + " |"
        for line in (lines[0], rule, *lines[1:])
    )


def _cell(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    digits = 0 if value >= 100 or isinstance(value, int) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


# --- figures -------------------------------------------------------------------------------------


def millis(results: Results, name: str, longest: int = 1024, cores: int = 1) -> float | None:
    """Return the median milliseconds per photo; of the command without its start and end."""
    found = results.seconds.get((longest, cores), {})
    if name not in found:
        return None
    times = found[name]
    if name == COMMAND:
        times = [whole - idle for whole, idle in zip(times, found[COMMAND_START], strict=True)]
    return 1000 * statistics.median(times) / results.plan.photos[longest]


def ratio(results: Results, name: str, other: str, longest: int = 1024) -> float | None:
    """Return how many times as long as `other` it takes: the median over the rounds."""
    found = results.seconds[longest, 1]
    if name not in found or other not in found:
        return None
    times = found[name]
    if name == COMMAND:
        times = [whole - idle for whole, idle in zip(times, found[COMMAND_START], strict=True)]
    return statistics.median(a / b for a, b in zip(times, found[other], strict=True))


def gain(results: Results, name: str, longest: int = 1024) -> float | None:
    """Return how many times as many photos per second two cores give as one does."""
    one, two = millis(results, name, longest, 1), millis(results, name, longest, 2)
    return one / two if one and two else None


def differing(results: Results, name: str) -> int | None:
    """Return the number of 1,024 px photos that get another label than from this project."""
    from alpaca_labeler.handler import bundle
    from alpaca_labeler.handler.classifier import decide

    card = bundle.load().card
    if name not in results.logits or (not results.network and name not in {"floor", "labeler"}):
        return None
    return sum(
        decide(card, mine).index != decide(card, theirs).index
        for mine, theirs in zip(results.logits["floor"], results.logits[name], strict=True)
    )


def installed(packages: Iterable[str]) -> float:
    """Return the megabytes (10^6) that those distributions and all they need take on disk."""
    waiting, seen, total = list(packages), set[str](), 0
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra, or for another system
        for file in found.files or ():
            path = Path(str(found.locate_file(file)))
            total += path.stat().st_size if path.is_file() else 0
        waiting += [
            re.split(r"[^A-Za-z0-9._-]", needed)[0]
            for needed in found.requires or ()
            if "extra ==" not in needed
        ]
    return total / 1e6


def _ran(results: Results, *, command: bool = True) -> list[str]:
    names = [name for name in CONTESTANTS if name not in results.skipped]
    return [*names[:2], *([COMMAND] if command else []), *names[2:]]


# --- sections ------------------------------------------------------------------------------------


def _head(results: Results, seconds: float) -> str:
    versions = []
    for name in (
        "ai-edge-litert",
        "pillow",
        "numpy",
        "tensorflow",
        "keras",
        "onnxruntime",
        "openvino",
    ):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    sizes = ", ".join(
        f"{len(photos.paths)} of {photos.longest:,} px ({photos.kilobytes:,.0f} kB each)"
        for photos in results.photos
    )
    network = (
        "their float form of the network that the built-in model was made of"
        if results.network
        else "the same architecture with random weights (as fast; its labels mean nothing)"
    )
    skipped = "".join(f"\n- **Skipped**: {NAMES[n]}: {why}" for n, why in results.skipped.items())
    keras = f" KERAS={results.network}" if results.network else ""
    return f"""# Benchmarks

Written by `make bench`; every figure below comes from that one run.

- **Machine**: {_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}
- **Versions**: Python {platform.python_version()}, {", ".join(versions)}
- **Command**: `make bench{keras}`, {time.strftime("%d %B %Y")}, {seconds / 60:.0f} minutes
- **Photos**: {sizes}, made of {bench_photos.originals()[1]}. Enlarged ones have grain added, so
  that they weigh and decode as a camera's do
- **Peers** run {network}. All get one thread and one photo at a time, and all but the Keras sample
  get this project's own decoding, so that they differ by their runtime alone
- **Rounds**: {results.plan.rounds}. In each, all contestants take turns, every other one backwards.
  Times are medians, ratios the medians of each round's own ratio{skipped}"""


def _processor() -> str:
    """Return the processor's name and its vector instructions, which int8 inference depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    parts = (line.partition(":") for line in lines)
    facts = {name.strip(): value.strip() for name, _, value in parts}
    flags = facts.get("flags", facts.get("Features", "")).split()
    vector = [flag for flag in flags if re.match(r"avx|amx|asimd|sve|i8mm", flag)]
    return f"{facts.get('model name', 'unknown')} ({', '.join(sorted(vector))})"


def _aims(results: Results) -> str:
    def row(what: str, aim: float, found: float | None, *, least: bool) -> list[Cell]:
        if found is None:
            return [what, f"{'>=' if least else '<='} {aim:g}", None, "not measured"]
        met = found >= aim if least else found <= aim
        return [what, f"{'>=' if least else '<='} {aim:g}", found, "met" if met else "**missed**"]

    growth = results.growth
    steeper = [
        growth[more][what] / growth[fewer][what] / (more / fewer)
        for what in ("compaction s", "audit s")
        for fewer, more in pairwise(sorted(growth))
    ]
    first = {name: statistics.median(times) for name, times in results.starts.items()}
    keras = "keras" in first
    memory = results.megabytes
    resumed = statistics.median(ran.seconds for ran in results.resumed)
    rows = [
        row(
            "Keras sample over `alpaca label`, time per photo",
            10,
            _over(millis(results, "keras"), millis(results, COMMAND)),
            least=True,
        ),
        row("library over bare floor", 1.1, ratio(results, "labeler", "floor"), least=False),
        row("`alpaca label` over bare floor", 1.1, ratio(results, COMMAND, "floor"), least=False),
        row("`alpaca label`, two cores over one", 1.9, gain(results, COMMAND), least=True),
        row(
            "start to first label, Keras sample over `alpaca label`",
            15,
            first["keras"] / first[COMMAND] if keras else None,
            least=True,
        ),
        row(
            "memory, Keras sample over `alpaca label`",
            6,
            memory["keras"] / memory[COMMAND] if keras else None,
            least=True,
        ),
        row(f"resume over {results.plan.labelled:,} labelled files, s", 5, resumed, least=False),
        row(
            "compaction and audit, growth of time over growth of rows",
            1,
            max(steeper, default=None),
            least=False,
        ),
    ]
    return (
        "## Aims\n\nOne core and 1,024 px unless said otherwise; `alpaca label` without its start "
        "and end, which the table of starts has.\n\n" + table(("aim", "at", "measured", ""), rows)
    )


def _over(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _one_core(results: Results) -> str:
    sizes = [photos.longest for photos in results.photos]
    rows = [
        [
            NAMES[name],
            *(_over(1000, millis(results, name, longest)) for longest in sizes),
            millis(results, name),
            ratio(results, name, "floor"),
            _over(ratio(results, "keras", "floor"), ratio(results, name, "floor"))
            if "keras" not in results.skipped
            else None,
            differing(results, name),
        ]
        for name in _ran(results)
    ]
    header = (
        "one core",
        *(f"{size} px, /s" for size in sizes),
        "1024 px, ms",
        "x floor",
        "Keras / it",
        "differ",
    )
    return (
        "## Photos per second\n\nRead, decoded and labelled. The floor reads the file, decodes it "
        "scaled, makes the product's own pixels of it and\nruns the int8 model: nothing else. "
        "`differ` counts the photos that get another label.\n\n" + table(header, rows)
    )


def _cores(results: Results) -> str:
    sizes = [photos.longest for photos in results.photos]
    if (sizes[0], 2) not in results.seconds:
        return ""
    rows = [
        [
            NAMES[name],
            *(_over(1000, millis(results, name, longest, 2)) for longest in sizes),
            *(gain(results, name, longest) for longest in sizes),
        ]
        for name in _ran(results)
    ]
    header = ("two cores", *(f"{size} px, /s" for size in sizes), *(f"gain, {s}" for s in sizes))
    return (
        "Two processes, one per core, each with half of the photos; `alpaca label` with two "
        "workers. The floor's gain is\nthe most that this machine allows.\n\n" + table(header, rows)
    )


def _start(results: Results) -> str:
    rows: list[list[Cell]] = []
    for name in _ran(results):
        floor = name == "floor"
        cost = millis(results, name)
        rows.append(
            [
                NAMES[name],
                statistics.median(results.starts[name]),
                results.megabytes[name],
                None if floor else installed(PACKAGES[name]),
                cost * 1e6 / 1000 * LAMBDA_GB * GB_SECOND_DOLLARS if cost and not floor else None,
            ]
        )
    header = ("one core", "first label, s", "memory, MB", "installed, MB", "10^6 photos, $")
    return (
        "## Start, memory, size, cost\n\nFrom the start of the process to its first label "
        "(`alpaca label PHOTO`: to its end). Memory is the high-water mark\nafter all photos of "
        "all sizes, of all processes. Installed are the packages with all that they need (for "
        "`alpaca label`\nS3 included), without Python and model.\n\n"
        + table(header, rows)
        + f"""

The cost of a million photos of 1,024 px is arithmetic, not a bill: the measured time per photo,
times 1,769 MB, at which Lambda gives one whole core, times ${GB_SECOND_DOLLARS:.10f} per
GB-second (x86, us-east-1). Lambda's cores differ from this one. Requests, S3 and queue come on top
and are the same for all: about a dollar, see [scale.md](scale.md)."""
    )


def _stages(results: Results) -> str:
    sizes = sorted(results.stages)
    stages = list(results.stages[sizes[0]])
    rows: list[list[Cell]] = [
        [stage, *(results.stages[size][stage] for size in sizes)] for stage in stages
    ]
    rows.append(["all of these", *(sum(results.stages[size].values()) for size in sizes)])
    return (
        "## Where the time goes\n\nMilliseconds of processor time per photo, one core, in the "
        "library's own steps.\n\n" + table(("stage", *(f"{size:,} px" for size in sizes)), rows)
    )


def _batches(results: Results) -> str:
    batches = list(next(iter(results.batches.values())))
    header = ("batch of", *map(str, batches))
    names = {**NAMES, "floor": "LiteRT, int8 (ours)"}
    alone: list[list[Cell]] = [
        [names[n], *(found[b] for b in batches)] for n, found in results.batches.items()
    ]
    both: list[list[Cell]] = [
        [n, *(found[b] for b in batches)] for n, found in results.parallel.items()
    ]
    return (
        "## Batches, threads, processes\n\nInference only, milliseconds per photo, on one core "
        "with one thread.\n\n"
        + table(header, alone)
        + "\n\nLiteRT int8 on two cores, two ways.\n\n"
        + table(header, both)
        + "\n\nSo: batches of one, one thread, as many processes as cores."
    )


def _command(results: Results) -> str:
    first = {
        "`alpaca --help`": statistics.median(results.helps),
        f"`alpaca label`, {results.plan.labelled:,} files labelled before": statistics.median(
            ran.seconds for ran in results.resumed
        ),
    }
    rows: list[list[Cell]] = []
    for count, found in results.growth.items():
        rows.append(
            [
                f"{count:,}",
                found["table MB"],
                found["compaction s"],
                found["compaction MB"],
                found["audit s"],
                found["audit MB"],
            ]
        )
    memory = max(ran.megabytes for ran in results.resumed)
    header = ("rows", "table, MB", "compaction, s", "MB", "audit, s", "MB")
    return (
        "## The command and the table\n\n"
        + table(("whole process", "seconds"), list(first.items()))
        + f"\n\nThe resumed run and its workers hold {memory:,.0f} MB.\n\nCompaction merges "
        "10,000 new rows in 100 parts into a table of the size given, through a stand-in for S3 "
        "on the same machine.\nAudit compares the table with a listing of the bucket that takes no "
        "time.\n\n" + table(header, rows)
    )


NOTES = """\
## Run it again

`make bench`, in about half an hour. `make bench QUICK=1` shows the same tables after two
minutes, roughly measured, and writes nothing.
"""

"""Sorted streams of rows into one, a row an image, in flat memory whatever their length."""

from __future__ import annotations

import codecs
import heapq
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import IO, Final

from . import manifest_row
from .manifest_row import ManifestError, Row

Keyed = tuple[str, bytes]
"""(source-ref, the row's line with its newline)."""

RUN_BYTES: Final = 32 * 2**20
"""Bytes of lines that are sorted in memory at a time; about twice that in memory."""

MAX_LINE_BYTES: Final = 2**20
"""A row is about 600 bytes; a longer line than this is no row, and must not fill the memory."""

_FAILURE: Final = b'"failure"'


def read(lines: IO[bytes], name: str) -> Iterator[Keyed]:
    """Read a JSON Lines stream; blank lines are passed over.

    Raises `ManifestError` naming `name` and the line.
    """
    for number in itertools.count(1):
        line = lines.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            raise ManifestError(f"{name}: line {number} is longer than {MAX_LINE_BYTES:,} bytes")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line or line.isspace():
            continue
        try:
            source_ref = manifest_row.parse(line)["source-ref"]
        except ManifestError as error:
            raise ManifestError(f"{name}: line {number}: {error}") from None
        yield source_ref, line if line.endswith(b"\n") else line + b"\n"


def sort(rows: Iterable[Keyed], *, run_bytes: int = RUN_BYTES) -> Iterator[Keyed]:
    """Sort rows by `source-ref`, stably, with temporary files for what does not fit in memory."""
    runs: list[Iterator[Keyed]] = []
    run: list[Keyed] = []
    held = 0
    for row in rows:
        run.append(row)
        held += len(row[1])
        if held >= run_bytes:
            runs.append(_spill(run))
            run, held = [], 0
    run.sort(key=itemgetter(0))
    return heapq.merge(*runs, run, key=itemgetter(0))


def _spill(run: list[Keyed]) -> Iterator[Keyed]:
    run.sort(key=itemgetter(0))
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the reader
    file.writelines(line for _, line in run)
    file.seek(0)
    return _read_to_end(file)


def _read_to_end(file: IO[bytes]) -> Iterator[Keyed]:
    with file:
        yield from read(file, "temporary file")


def merge(
    *streams: Iterable[Keyed], choose: Callable[[list[Row]], Row] = manifest_row.winner
) -> Iterator[tuple[bytes, bool]]:
    """Merge sorted streams into (line, is a failure), one line an image.

    `choose` picks among an image's differing rows, given in the order of their streams.
    """
    for _, group in itertools.groupby(heapq.merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        lines = list(dict.fromkeys(line for _, line in group))
        # Nearly every line of a large table is alone; that one need not be read again.
        if len(lines) == 1 and _FAILURE not in lines[0]:
            yield lines[0], False
            continue
        rows: list[Row] = [manifest_row.parse(line) for line in lines]
        row = rows[0] if len(rows) == 1 else choose(rows)
        # Equal rows may be spelt in different ways; one of them, whatever the order they came in.
        kept = (line for line, other in zip(lines, rows, strict=True) if other == row)
        yield min(kept, default=b"") or manifest_row.encode(row), manifest_row.is_failure(row)

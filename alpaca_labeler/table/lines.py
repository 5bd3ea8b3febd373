"""Streams of rows as lines of JSON: read, sorted and merged in flat memory."""

from __future__ import annotations

import codecs
import heapq
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import IO, Final

from alpaca_labeler.table.row import ManifestError, Row, merged

Keyed = tuple[str, bytes]
"""(source-ref, the row's line with its newline)."""

Poll = Callable[[], tuple[list[Row], bool]]
"""Returns the rows that were appended to a table since the last call, and whether the table is
another file now, to be read again. Raises `LabelerError`."""

MAX_LINE_BYTES: Final = 2**20
"""A row is about 700 bytes; a longer line than this is not a row and must not fill the memory."""

RUN_BYTES: Final = 32 * 2**20
"""Bytes of lines that are sorted at a time; they take about twice as much memory."""

_NAME: Final = b'"source-ref"'
_START: Final = b'{"source-ref":"'
OPEN_DECISION: Final = b'"people":{"":'
"""A decision that names no content is in the line."""


def read(lines: IO[bytes], name: str, end: int | None = None, *, first: int = 1) -> Iterator[Keyed]:
    """Read a JSON Lines stream, up to the offset `end` in bytes; blank lines are skipped.

    Raises `ManifestError` naming `name` and the line; the number of the first one is `first`.
    """
    left = sys.maxsize if end is None else end - lines.tell()
    for number in itertools.count(first):
        line = lines.readline(min(MAX_LINE_BYTES + 1, left))
        left -= len(line)
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            raise ManifestError(f"{name}: line {number} is longer than {MAX_LINE_BYTES:,} bytes")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line or line.isspace():
            continue
        line = line if line.endswith(b"\n") else line + b"\n"
        source_ref = quick_name(line)
        if source_ref is None or line.count(_NAME) > 1:  # of a name given twice the last counts
            try:
                row = Row.from_line(line)
            except ManifestError as error:
                raise ManifestError(f"{name}: line {number}: {error}") from None
            # The facts do not say that there were several labels.
            source_ref, line = row.source_ref, line if row.ambiguous else row.to_line()
        yield source_ref, line


def quick_name(line: bytes) -> str | None:
    """Return the `source-ref` of a line as `Row.to_line` writes it, without parsing the JSON.

    None if that is not possible.
    """
    if not line.startswith(_START):
        return None
    name = line[len(_START) : line.find(b'"', len(_START))]
    try:
        return None if b"\\" in name else name.decode()
    except UnicodeDecodeError:
        return None


def sort(rows: Iterable[Keyed], *, run_bytes: int = RUN_BYTES) -> Iterator[Keyed]:
    """Sort rows stably by `source-ref`: an external merge sort, in runs of about `run_bytes`."""
    runs: list[Iterator[Keyed]] = []
    run: list[Keyed] = []
    held = 0
    for row in rows:
        run.append(row)
        held += len(row[1])
        if held >= run_bytes:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - it ends with its reader
            file.writelines(line for _, line in sorted(run, key=itemgetter(0)))
            file.seek(0)
            runs.append(read(file, "temporary file"))
            run, held = [], 0
    run.sort(key=itemgetter(0))
    return heapq.merge(*runs, run, key=itemgetter(0))


def merge(*streams: Iterable[Keyed]) -> Iterator[Keyed]:
    """Merge sorted streams into one line per photo."""
    for name, group in itertools.groupby(heapq.merge(*streams, key=itemgetter(0)), itemgetter(0)):
        (_, line), *more = group
        # In a large table nearly every photo has a single line, which need not be parsed.
        if more or OPEN_DECISION in line:
            lines = dict.fromkeys([line, *(line for _, line in more)])
            line = merged(map(Row.from_line, lines)).settled().to_line()
        yield name, line

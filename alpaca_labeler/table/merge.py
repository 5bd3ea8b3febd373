"""Sort and merge streams of rows of any length into one row per image, in flat memory."""

from __future__ import annotations

import codecs
import heapq
import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import IO, Any, Final

from alpaca_labeler.table import manifest_row
from alpaca_labeler.table.manifest_row import ManifestError, Row

Keyed = tuple[str, bytes]
"""(source-ref, the row's line with its newline)."""

RUN_BYTES: Final = 32 * 2**20
"""Bytes of lines that are sorted at a time; they take about twice as much memory."""

MAX_LINE_BYTES: Final = 2**20
"""A row is about 600 bytes; a longer line than this is not a row and must not fill the memory."""

_FAILURE: Final = b'"failure"'
_START: Final = b'{"source-ref":"'


def read(lines: IO[bytes], name: str) -> Iterator[Keyed]:
    """Read a JSON Lines stream; blank lines are skipped.

    Raises `ManifestError` naming `name` and the line.
    """
    return ((row["source-ref"], line) for row, line in read_rows(lines, name))


def read_rows(lines: IO[bytes], name: str) -> Iterator[tuple[Row, bytes]]:
    """Do the same as `read`, and yield each row parsed, with its line."""
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
            row = manifest_row.parse(line)
        except ManifestError as error:
            raise ManifestError(f"{name}: line {number}: {error}") from None
        if quick_name(line) not in {None, row["source-ref"]}:
            # The key is there twice: the last one counts.
            line = manifest_row.encode(row)
        yield row, line if line.endswith(b"\n") else line + b"\n"


def read_sorted(lines: IO[bytes], name: str) -> Iterator[Keyed]:
    """Read what `merge` wrote, and parse only each line's `source-ref`.

    Raises `ManifestError` if it is not sorted after all.
    """
    before = ""
    for line in lines:
        source_ref = quick_name(line) or manifest_row.parse(line)["source-ref"]
        if source_ref < before:
            raise ManifestError(
                f"{name}: it is marked as sorted, but {source_ref!r} is out of order; download it "
                "and upload it again without its metadata"
            )
        before = source_ref
        yield source_ref, line


def quick_name(line: bytes) -> str | None:
    """Return the `source-ref` of a line as `encode` writes it, without parsing the JSON.

    None if that is not possible.
    """
    if not line.startswith(_START):
        return None
    name = line[len(_START) : line.find(b'"', len(_START))]
    return None if b"\\" in name else name.decode()


def sort(
    rows: Iterable[Keyed],
    *,
    key: Callable[[Keyed], Any] = itemgetter(0),
    run_bytes: int = RUN_BYTES,
) -> Iterator[Keyed]:
    """Sort rows stably by `key`: an external merge sort, with runs of about `run_bytes`."""
    runs: list[Iterator[Keyed]] = []
    run: list[Keyed] = []
    held = 0
    for row in rows:
        run.append(row)
        held += len(row[1])
        if held >= run_bytes:
            runs.append(_spill(sorted(run, key=key)))
            run, held = [], 0
    run.sort(key=key)
    return heapq.merge(*runs, run, key=key)


def _spill(run: list[Keyed]) -> Iterator[Keyed]:
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
    """Merge sorted streams into (line, is a failure), one line per image.

    `choose` picks among an image's differing rows, given in the order of their streams.
    """
    before, lines = "", list[bytes]()
    for source_ref, line in heapq.merge(*streams, key=itemgetter(0)):
        if source_ref == before:
            lines.append(line)
            continue
        if lines:
            yield _one(lines, choose)
        before, lines = source_ref, [line]
    if lines:
        yield _one(lines, choose)


def _one(lines: list[bytes], choose: Callable[[list[Row]], Row]) -> tuple[bytes, bool]:
    """Return (line, is a failure) of one image."""
    # In a large table, nearly every image has a single line, which need not be parsed again.
    if len(lines) == 1 and _FAILURE not in lines[0]:
        return lines[0], False
    lines = list(dict.fromkeys(lines))
    rows: list[Row] = [manifest_row.parse(line) for line in lines]
    row = rows[0] if len(rows) == 1 else choose(rows)
    # Equal rows may be written in different ways; the same one is kept, whatever their order.
    kept = (line for line, other in zip(lines, rows, strict=True) if other == row)
    return min(kept, default=b"") or manifest_row.encode(row), manifest_row.is_failure(row)

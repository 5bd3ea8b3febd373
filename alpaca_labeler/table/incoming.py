"""Rows from elsewhere into a table: of another tool, another person or another machine."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.table import log
from alpaca_labeler.table.facts import timestamp
from alpaca_labeler.table.row import ManifestError, Row, merge
from alpaca_labeler.table.table import Table

AHEAD: Final = timedelta(days=1)
"""Dates further in the future than this are of a wrong clock, and would win for ever."""

_AT_ONCE: Final = 10_000
_NAMED: Final = 3


@dataclass(slots=True)
class Brought:
    """What came of the rows."""

    rows: int = 0
    """Photos about which something new was brought in."""
    known: int = 0
    """Photos about which the table says all that already."""
    without_label: int = 0
    """Rows that say nothing of an image's class."""
    ambiguous: list[str] = field(default_factory=list)
    """Photos with several image labels, of which the first counts."""


def bring_in(path: str, table: Table, *, dry_run: bool = False) -> Brought:
    """Merge the rows of a file into a table. Brought in again, nothing changes.

    A decision that names no content is about the photo as the table has it now; if the table does
    not have it, about the photo as the next run finds it.

    Raises `ManifestError` (a line is no row, or rows are dated in the future), `OSError`,
    `StorageError`.
    """
    _check_dates(path)
    done = Brought()
    rows = _news(path, table, done)
    while some := [*itertools.islice(rows, _AT_ONCE)]:
        done.rows += len(some)
        if not dry_run:
            table.append(some)
    return done


def _check_dates(path: str) -> None:
    limit = timestamp(datetime.now(UTC) + AHEAD)
    ahead = [(row.source_ref, row.newest) for row in log.read(path) if row.newest > limit]
    if ahead:
        named = ", ".join(f"{name} ({at})" for name, at in ahead[:_NAMED])
        raise ManifestError(
            f"{path}: {len(ahead):,} of its rows are dated more than a day ahead, so nothing was "
            f"merged: {named}. Correct the dates, which would win for ever"
        )


def _known(table: Table) -> Iterator[Row]:
    with suppress(storage.NotFound):  # the first rows of a bucket may come from elsewhere
        yield from (row for row, _ in table.read())


def _news(path: str, table: Table, done: Brought) -> Iterator[Row]:
    """Yield the merged row of each photo of which the file says what the table does not."""
    theirs = ((row.source_ref, True, row) for row in log.read(path))
    ours = ((row.source_ref, False, row) for row in _known(table))
    both = heapq.merge(ours, theirs, key=lambda each: each[:2])
    for name, group in itertools.groupby(both, lambda each: each[0]):
        rows = {is_theirs: row for _, is_theirs, row in group}
        brought = rows.get(True)
        if brought is None:
            continue
        if not brought.facts():
            done.without_label += 1
            continue
        if brought.ambiguous:
            done.ambiguous.append(name)
        known = rows.get(False, Row(name))
        row = merge(known, brought).settled()
        if row == known:
            done.known += 1
        else:
            yield row

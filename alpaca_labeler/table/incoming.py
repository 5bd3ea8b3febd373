"""Rows from elsewhere into a table: of another tool, another person or another machine."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.table.facts import timestamp
from alpaca_labeler.table.row import ManifestError, Row, merge
from alpaca_labeler.table.table import Table, open_table

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
    theirs = open_table(path)
    _check_dates(theirs)
    done = Brought()
    rows = _news(theirs, table, done)
    while some := [*itertools.islice(rows, _AT_ONCE)]:
        done.rows += len(some)
        if not dry_run:
            table.append(some)
    return done


def _check_dates(theirs: Table) -> None:
    limit = timestamp(datetime.now(UTC) + AHEAD)
    ahead = [(row.source_ref, row.newest) for row, _ in theirs.read() if row.newest > limit]
    if ahead:
        named = ", ".join(f"{name} ({at})" for name, at in ahead[:_NAMED])
        raise ManifestError(
            f"{theirs.name}: {len(ahead):,} of its rows are dated more than a day ahead, so "
            f"nothing was merged: {named}. Correct the dates, which would win for ever"
        )


def _keyed(table: Table) -> Iterator[tuple[str, Table, Row]]:
    with suppress(storage.NotFound):  # the first rows of a bucket may come from elsewhere
        yield from ((row.source_ref, table, row) for row, _ in table.read())


def _news(theirs: Table, ours: Table, done: Brought) -> Iterator[Row]:
    """Yield the merged row of each photo of which one table says what the other does not."""
    both = heapq.merge(_keyed(ours), _keyed(theirs), key=itemgetter(0))
    for name, group in itertools.groupby(both, itemgetter(0)):
        rows = {table: row for _, table, row in group}
        brought = rows.get(theirs)
        if brought is None:
            continue
        if brought == Row(name):
            done.without_label += 1
            continue
        if brought.ambiguous:
            done.ambiguous.append(name)
        known = rows.get(ours, Row(name))
        row = merge(known, brought).settled()
        if row == known:
            done.known += 1
        else:
            yield row

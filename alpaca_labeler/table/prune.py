"""Rows of photos that are no longer there, out of a table: `alpaca manifest prune`.

In a bucket nothing is taken out of the table's objects, for a part that comes late would bring it
back. Each photo gets a *gone* row instead (`manifest_row.gone`), in a part like any other. It wins
over all rows of uploads before it, survives compaction, and is shown by no command. So prune needs
no lock and races with nothing; and if the same bytes are uploaded again, what the photo was called
counts again.
"""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from alpaca_labeler import storage
from alpaca_labeler.table import corrections, manifest_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from alpaca_labeler.table.manifest_row import Row

HEADS: Final = 16
"""Objects that are asked for at a time."""

SKEW: Final = timedelta(minutes=15)
"""Our clock may be ahead of S3's by this much; a larger difference S3 refuses."""


def deleted(names: Sequence[str]) -> list[str]:
    """Return those of the S3 objects that are not there, as far as S3 says so."""
    with ThreadPoolExecutor(HEADS) as pool:
        return [*itertools.compress(names, pool.map(_is_deleted, names))]


def _is_deleted(uri: str) -> bool:
    try:
        return storage.stamp_of(uri) is None
    except storage.StorageError:
        return False


def gone_in_s3(names: Iterable[str]) -> list[str]:
    """Return those of the `s3://` names, sorted ones, that their buckets do not have.

    It lists what the names of each bucket have in common, and asks for each object that is not
    listed. Memory is some 200 bytes per object. Raises `StorageError`.
    """
    missing: list[str] = []
    for _, group in itertools.groupby(names, key=lambda name: storage.split_s3(name)[0]):
        some = [*group]
        there = {hash(o.source_ref) for o in storage.list_objects(os.path.commonprefix(some))}  # noqa: RUF071
        missing += [name for name in some if hash(name) not in there]
    return deleted(missing)


def prune_bucket(results: str, rows: Iterable[Row], gone: Collection[str]) -> None:
    """Write a gone row for each of the `rows` of a bucket's table whose photo is `gone`.

    Raises `StorageError`.
    """
    until, names = f"{datetime.now(UTC) - SKEW:%Y-%m-%dT%H:%M:%SZ}", frozenset(gone)
    corrections.write_parts(
        results,
        [
            manifest_row.gone(row, max(until, manifest_row.version_of(row).last_modified or ""))
            for row in rows
            if row["source-ref"] in names
        ],
    )

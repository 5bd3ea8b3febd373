"""Which photos of a bucket are gone, by the bucket's own clock."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.table.facts import EARLIEST, timestamp
from alpaca_labeler.table.row import Row

HEADS: Final = 16
"""Objects that are asked for at a time."""


def gone(names: Sequence[str]) -> list[Row]:
    """Return rows that say so of those S3 objects that are not there, as far as S3 says so."""
    with ThreadPoolExecutor(HEADS) as pool:
        found = zip(names, pool.map(_gone_since, names), strict=True)
        return [Row(name, gone=since) for name, since in found if since]


def _gone_since(uri: str) -> str:
    """Return when S3 said that there is no object; `EARLIEST` if it did not say so."""
    try:
        storage.call(uri, "head_object")
    except storage.NotFound as error:
        return timestamp(storage.date_of(error) or datetime.now(UTC))
    except storage.StorageError:
        pass
    return EARLIEST


def gone_in_s3(names: Iterable[str]) -> list[Row]:
    """Return rows that say so of the `s3://` names, sorted ones, that their buckets do not have.

    It lists what the names of each bucket have in common, and asks for each object that is not
    listed. Memory is some 200 bytes per object. Raises `StorageError`.
    """
    missing: list[str] = []
    for _, group in itertools.groupby(names, key=lambda name: storage.split_s3(name)[0]):
        some = [*group]
        there = {hash(o.source_ref) for o in storage.list_objects(os.path.commonprefix(some))}  # noqa: RUF071
        missing += [name for name in some if hash(name) not in there]
    return gone(missing)

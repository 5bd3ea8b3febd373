"""Writing a part: the rows of one batch as one object that never changes.

It is content-addressed: its name is a digest of its rows, so a batch that is delivered twice writes
the same object. The digest leaves out the creation dates of a model's rows, because a model gives
the same rows again; a person who returns to an earlier label makes a new decision. Parts lie flat
in one prefix: their names are spread evenly from the first character on, which is all that S3 needs
to divide the load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

import orjson

from alpaca_labeler import storage
from alpaca_labeler.table import manifest_row
from alpaca_labeler.table.manifest_row import Row

PREFIX: Final = "parts/"
"""Below the results' URI."""

CONTENT_TYPE: Final = "application/jsonl"

MAX_BYTES: Final = 64 * 2**20
"""Largest part that is read: a full SQS batch of 10,000 rows makes about 7 MB."""

_TRIES: Final = 3
_NAME_LENGTH: Final = 32


def write(results: str, rows: Sequence[Row]) -> str:
    """Write rows, at most one per image, as a part below `results`; return the part's URI.

    Raises `StorageError`: `Conflict` if an object of that name holds something else.
    """
    rows = sorted(rows, key=itemgetter("source-ref"))
    content = _without_dates(rows)
    name = hashlib.sha256(content).hexdigest()[:_NAME_LENGTH]
    uri = f"{results}{PREFIX}{name}.jsonl"
    data = b"".join(map(manifest_row.encode, rows))
    for _ in range(_TRIES):
        if storage.write_if_absent(uri, data, CONTENT_TYPE):
            return uri
        # It exists: from an earlier delivery, or from this very call, whose answer was lost. If a
        # compaction deletes it before it is read, nothing is lost, but it is written again to be
        # sure.
        try:
            there = storage.read(uri, MAX_BYTES)
        except storage.NotFound:
            continue
        if _holds(there, content):
            return uri
        raise storage.Conflict(f"{uri}: its rows do not match its name; delete it")
    raise storage.Transient(f"{uri}: it was deleted each time before it could be checked")


def _holds(part: bytes, content: bytes) -> bool:
    try:
        return _without_dates(map(manifest_row.parse, part.splitlines())) == content
    except manifest_row.ManifestError:
        return False


def _without_dates(rows: Iterable[Row]) -> bytes:
    return orjson.dumps(
        [row if manifest_row.is_human(row) else _undated(row) for row in rows],
        option=orjson.OPT_SORT_KEYS,
    )


def _undated(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _undated(value) if isinstance(value, dict) else value
        for key, value in row.items()
        if key != "creation-date"
    }

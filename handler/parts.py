"""Writing a part: the rows of one batch as one object that never changes.

Its name is a digest of what it holds, so a batch that is delivered twice writes the same object.
A model's creation dates are left out of it, for a model says the same again; a person who goes back
to an earlier word says something new. Parts lie flat in one prefix: their names are hex digests,
spread evenly over the alphabet from the first letter on, which is all that S3 needs to divide the
load.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

import orjson

from . import manifest_row, storage
from .manifest_row import Row

PREFIX: Final = "parts/"
"""Below the results' URI."""

CONTENT_TYPE: Final = "application/jsonl"

MAX_BYTES: Final = 64 * 2**20
"""Of one part: a full SQS batch of 10,000 rows makes about 7 MB."""

_TRIES: Final = 3
_NAME_LENGTH: Final = 32


def write(results: str, rows: Sequence[Row]) -> str:
    """Write rows, at most one an image, as a part below `results`; return the part's URI.

    Raises `StorageError`: `Conflict` where an object of that name holds something else.
    """
    rows = sorted(rows, key=itemgetter("source-ref"))
    content = _without_dates(rows)
    name = hashlib.sha256(content).hexdigest()[:_NAME_LENGTH]
    uri = f"{results}{PREFIX}{name}.jsonl"
    data = b"".join(map(manifest_row.encode, rows))
    for _ in range(_TRIES):
        if storage.write_if_absent(uri, data, CONTENT_TYPE):
            return uri
        # It is there: from an earlier delivery, or from this very call, whose answer was lost. That
        # a compaction deletes it before it is read is no loss, but it is written again to be sure.
        try:
            there = storage.read(uri, MAX_BYTES)
        except storage.NotFound:
            continue
        if _holds(there, content):
            return uri
        raise storage.Conflict(f"{uri}: holds other rows than its name says; delete it")
    raise storage.Transient(f"{uri}: it comes and goes")


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

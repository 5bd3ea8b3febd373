"""The photos of a manifest as small JPEGs for a browser: whole, upright, made when asked for.

Only newly encoded pixels leave: never a photo's metadata, never a file that is not a photo.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.photos import images
from alpaca_labeler.photos.content import content_of
from alpaca_labeler.pipeline import pool
from alpaca_labeler.pipeline.done import MAX_BYTES
from alpaca_labeler.table.facts import Read
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import Elsewhere

LONGEST: Final = {"tile": 384, "large": 1600, "full": 4096}
"""Longest side in pixels: about twice a tile's for dense screens, a laptop's window, and what is
fetched when somebody zooms in."""

CACHE_BYTES: Final = 32 * 2**20
"""Of encoded pictures that are kept: some thousand tiles."""

_FETCHED: Final = 8
"""Photos in memory at a time; from S3, most of the time is waiting."""


class PhotoError(LabelerError):
    """The photo cannot be shown. The message says why, for people."""


class Photos:
    """Makes pictures, a few at a time, and caches the latest. For use by any thread."""

    def __init__(self, place: Callable[[str], str], *, cache_bytes: int = CACHE_BYTES) -> None:
        """`place` is `Table.shown`."""
        self._place = place
        self._cache: OrderedDict[tuple[str, Read | None, str], bytes] = OrderedDict()
        self._free = cache_bytes
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_FETCHED)
        self._decoders = threading.BoundedSemaphore(min(4, os.cpu_count() or 1))

    def jpeg(self, row: Row, size: str) -> bytes:
        """Return a row's photo at a size of `LONGEST`. Raises `PhotoError`."""
        name = row.source_ref, row.read, size
        with self._lock:
            if name in self._cache:
                self._cache.move_to_end(name)
                return self._cache[name]
        with self._turns:
            data = self._fetch(row)
            try:
                with self._decoders:
                    made = pool.jpeg(data, LONGEST[size])
            except images.ImageError as error:
                raise PhotoError(str(error)) from error
        with self._lock:
            if name not in self._cache:
                self._cache[name] = made
                self._free -= len(made)
            while self._free < 0:
                self._free += len(self._cache.popitem(last=False)[1])
        return made

    def _fetch(self, row: Row) -> bytes:
        try:
            data = storage.read(self._place(row.source_ref), MAX_BYTES)
        except (storage.StorageError, Elsewhere) as error:
            raise PhotoError(str(error)) from error
        if row.read and _differs(row.read, data):
            raise PhotoError("the photo has changed since it was labelled; label it again first")
        return data


def _differs(read: Read, data: bytes) -> bool:
    """Tell whether another photo has the name now: dates and ETags differ for the same one too."""
    if read.content:
        return read.content != content_of(data)
    return read.size is not None and read.size != len(data)

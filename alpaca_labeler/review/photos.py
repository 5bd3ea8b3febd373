"""The photos of a manifest as small JPEGs for a browser: whole, upright, made when asked for.

Only newly encoded pixels leave: never a photo's metadata, never a file that is not a photo.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.photos import images
from alpaca_labeler.photos.content import content_of
from alpaca_labeler.pipeline import pool
from alpaca_labeler.pipeline.done import max_bytes
from alpaca_labeler.table.facts import Read
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import Elsewhere

LONGEST: Final = {"tile": 384, "large": 1600, "full": 4096}
"""Longest side in pixels: about twice a tile's for dense screens, a laptop's window, and what is
fetched when somebody zooms in."""

KEPT: Final = {"tile": 1000, "large": 16, "full": 1}
"""Encoded pictures of each size that are kept: some 30 MB in all."""

_FETCHED: Final = 8
"""Photos in memory at a time; from S3, most of the time is waiting."""


class PhotoError(LabelerError):
    """The photo cannot be shown. The message says why, for people."""


class Photos:
    """Makes pictures, a few at a time, and keeps the latest. For use by any thread."""

    def __init__(self, place: Callable[[str], str]) -> None:
        """`place` is `Table.shown`."""
        self._place = place
        self._turns = threading.BoundedSemaphore(_FETCHED)
        self._decoders = threading.BoundedSemaphore(min(4, os.cpu_count() or 1))
        self._kept = {size: lru_cache(KEPT[size])(self._made) for size in LONGEST}

    def jpeg(self, row: Row, size: str) -> bytes:
        """Return a row's photo at a size of `LONGEST`. Raises `PhotoError`."""
        return self._kept[size](row.source_ref, row.read, LONGEST[size])

    def _made(self, name: str, read: Read | None, longest: int) -> bytes:
        with self._turns:
            data = self._fetch(name, read)
            try:
                with self._decoders:
                    return pool.jpeg(data, longest)
            except images.ImageError as error:
                raise PhotoError(str(error)) from error

    def _fetch(self, name: str, read: Read | None) -> bytes:
        try:
            data = storage.read(self._place(name), max_bytes())
        except (storage.StorageError, Elsewhere) as error:
            raise PhotoError(str(error)) from error
        if read and _differs(read, data):
            raise PhotoError("the photo has changed since it was labelled; label it again first")
        return data


def _differs(read: Read, data: bytes) -> bool:
    """Tell whether another photo has the name now: dates and ETags differ for the same one too."""
    if read.content:
        return read.content != content_of(data)
    return read.size is not None and read.size != len(data)

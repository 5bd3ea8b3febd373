"""The photos of a manifest as small JPEGs for a browser: whole, upright, made when asked for.

Only newly encoded pixels leave: never a photo's metadata, never a file that is not a photo.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.photos import images
from alpaca_labeler.pipeline.labeler import MAX_BYTES
from alpaca_labeler.report import thumbnails
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import manifest_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from alpaca_labeler.table.manifest_row import Row

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
        """`place` returns the path or URI of a photo, given its `source-ref`."""
        self._place = place
        self._cache: OrderedDict[tuple[ImageVersion, str], bytes] = OrderedDict()
        self._free = cache_bytes
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_FETCHED)
        # Always the same few threads: memory that a decoder gives back is kept for its thread.
        self._decoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "decode")

    def jpeg(self, row: Row, size: str) -> bytes:
        """Return a row's photo at a size of `LONGEST`. Raises `PhotoError`."""
        name = manifest_row.version_of(row), size
        with self._lock:
            if name in self._cache:
                self._cache.move_to_end(name)
                return self._cache[name]
        with self._turns:
            made = self._decoders.submit(_make, self._fetch(row), LONGEST[size]).result()
        with self._lock:
            if name not in self._cache:
                self._cache[name] = made
                self._free -= len(made)
            while self._free < 0:
                self._free += len(self._cache.popitem(last=False)[1])
        return made

    def size_of(self, row: Row) -> tuple[int, int]:
        """Return a photo's (width, height) in pixels, upright. Raises `PhotoError`."""
        with self._turns:
            data = self._fetch(row)
            try:
                seen = self._decoders.submit(images.decode, data, 32).result()
            except images.ImageError as error:
                raise PhotoError(str(error)) from error
        return seen.width, seen.height

    def _fetch(self, row: Row) -> bytes:
        version = manifest_row.version_of(row)
        try:
            place = self._place(version.source_ref)
            fetched = storage.fetch(ImageVersion(place), MAX_BYTES)
        except storage.StorageError as error:
            raise PhotoError(str(error)) from error
        if _differs(version, fetched.version):
            raise PhotoError("the photo has changed since it was labelled; label it again first")
        return fetched.data


def _make(data: bytes, longest: int) -> bytes:
    try:
        picture = images.picture(data, longest)
    except images.ImageError as error:
        raise PhotoError(str(error)) from error
    return thumbnails.jpeg(picture)


def _differs(said: ImageVersion, found: ImageVersion) -> bool:
    """Tell whether another photo has the name now.

    A file's date says nothing: a copy of the folder on another machine has other dates.
    """
    if said.etag and found.etag:
        return said.etag != found.etag
    return said.size is not None and said.size != found.size

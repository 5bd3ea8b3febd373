"""Small pictures of photos, for reports and for the review: whole, upright, nothing but pixels."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.photos import images
from alpaca_labeler.pipeline import pool
from alpaca_labeler.pipeline.done import max_bytes
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import Elsewhere

SIDE: Final = 720
"""Longest side in pixels: enough to look at one photo alone."""

THREADS: Final = 4
"""Photos read at the same time: each may be `max_bytes()` large, and larger once it is decoded."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A thumbnail for a report, or the reason why it is missing."""

    uri: str = ""
    """A JPEG as a data URI; empty if the photo cannot be shown."""
    problem: str = ""
    folder: str = ""
    """The folder or bucket of a photo that may not be shown: see `Table.shown`."""


def data_uri(encoded: bytes) -> str:
    """Return a JPEG for the `src` of an image in a page that loads nothing."""
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode()


def thumbnails(rows: Sequence[Row], place: Callable[[str], str]) -> list[Thumbnail]:
    """Return a picture of each row's photo; `place` is `Table.shown`."""
    with ThreadPoolExecutor(THREADS, "photo") as pool:
        return list(pool.map(lambda row: _thumbnail(row.source_ref, place), rows))


def _thumbnail(source_ref: str, place: Callable[[str], str]) -> Thumbnail:
    try:
        return Thumbnail(data_uri(pool.jpeg(storage.read(place(source_ref), max_bytes()), SIDE)))
    except Elsewhere as error:
        return Thumbnail(problem="Not shown: it is not beside the manifest", folder=error.folder)
    except storage.NotFound:
        return Thumbnail(problem="The photo is no longer there")
    except storage.StorageError:  # its message has the whole path, which a page need not tell
        return Thumbnail(problem="The photo cannot be read")
    except images.ImageError as error:
        return Thumbnail(problem=f"Not shown: {error}")

"""What becomes of an image on its way through the pipeline, and how large it may be."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table.facts import Read, timestamp
from alpaca_labeler.table.row import Row

MAX_BYTES: Final = 100 * 2**20
"""Limit on an encoded image, if none is given: an uncompressed 33-megapixel TIFF still fits."""
MAX_BYTES_ENV: Final = "ALPACA_MAX_BYTES"


def max_bytes() -> int:
    """Return the limit on an encoded image, in this process and those that it starts."""
    return int(os.environ.get(MAX_BYTES_ENV, MAX_BYTES))


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one image."""

    image: ImageVersion
    """The image as requested."""
    row: Row | None
    """A label row or a failure row. None if another try may still label the image."""
    problem: str = ""
    """Why there is no label, for people."""
    refused: Row | None = None
    """If S3 denied this image: the failure row to write if it did not deny the others."""


def as_read(image: ImageVersion, at: datetime, content: str | None = None) -> Read:
    """Return what a row says of an image that was read at a moment, as far as it is known."""
    facts = asdict(image)
    del facts["source_ref"]
    return Read(timestamp(at), content, **facts)


def out_of_time(image: ImageVersion) -> Done:
    """Return what became of an image that was not begun before the deadline."""
    return Done(image, None, f"{image.source_ref}: no time left in this run")

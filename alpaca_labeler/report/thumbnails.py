"""Small pictures for a report, made from the photos themselves, whole and upright."""

from __future__ import annotations

import base64
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from alpaca_labeler.handler import images, storage
from alpaca_labeler.handler.labeler import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from alpaca_labeler.handler.manifest_row import Row

SIDE: Final = 320
"""Longest side in pixels: sharp at the size shown, some 15 kB each."""

QUALITY: Final = 80
"""Of a JPEG, 0 to 100."""

THREADS: Final = 4
"""Photos in hand at a time: each may be `MAX_BYTES` large, and larger once it is decoded."""

_REASONS: Final[dict[type[storage.StorageError], str]] = {
    storage.NotFound: "The photo is not there any more",
    storage.Denied: "No permission to read the photo",
    storage.TooLarge: f"The photo is larger than {MAX_BYTES // 2**20} MB",
    storage.Unavailable: "The photo is archived, or no regular file",
}


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A photo as small as a report shows it, or why there is none."""

    uri: str = ""
    """A JPEG as a data URI; empty where there is none."""
    problem: str = ""


def jpeg(picture: Image.Image, quality: int = QUALITY) -> bytes:
    """Return an RGB picture as a JPEG with nothing in it but its pixels."""
    picture.info.clear()  # Pillow would write a comment of the original again
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def data_uri(encoded: bytes) -> str:
    """Return a JPEG for the `src` of an image in a page that loads nothing."""
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode()


def thumbnails(rows: Sequence[Row], root: str) -> list[Thumbnail]:
    """Return a picture of each row's photo. Relative names are looked for below `root`."""
    with ThreadPoolExecutor(THREADS, "photo") as pool:
        return list(pool.map(partial(_thumbnail, root=root), (row["source-ref"] for row in rows)))


def _thumbnail(source_ref: str, root: str) -> Thumbnail:
    if not storage.is_s3(source_ref):
        # What is absolute stays so; a URI's bytes are a path's.
        source_ref = storage.to_source_ref(os.path.join(root, storage.to_path(source_ref)))
    try:
        data = storage.read(source_ref, MAX_BYTES)
        picture = images.picture(data, SIDE)
    except storage.StorageError as error:
        return Thumbnail(problem=_REASONS.get(type(error), "The photo could not be read just now"))
    except images.ImageError as error:
        return Thumbnail(problem=f"Not shown: {error}")
    return Thumbnail(data_uri(jpeg(picture)))

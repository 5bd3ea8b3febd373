"""Small pictures for a report, made from the photos themselves, whole and upright."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from alpaca_labeler.handler import images, storage
from alpaca_labeler.handler.labeler import MAX_BYTES
from alpaca_labeler.report import page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alpaca_labeler.handler.manifest_row import Row

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
        picture = images.picture(data, page.THUMBNAIL_SIDE)
    except storage.StorageError as error:
        return Thumbnail(problem=_REASONS.get(type(error), "The photo could not be read just now"))
    except images.ImageError as error:
        return Thumbnail(problem=f"Not shown: {error}")
    return Thumbnail(page.jpeg(picture))

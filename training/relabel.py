"""Put people's decisions into a data set: a manifest in, better labels out.

A decision is about a content. A photo that has changed since is left out, because nobody has
checked it. A photo that the data set already has, recognised by its content, gets the new label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.photos import images
from alpaca_labeler.photos.content import content_of
from alpaca_labeler.pipeline.done import max_bytes
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table.facts import Read
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import open_table

from .arrays import Pixels
from .dataset import Dataset, Photo
from .description import DatasetError, same

KIND: Final = "corrected"
"""Kind of the photos that decisions add: the figures by kind show them separately."""


class _Found(NamedTuple):
    """A photo as it is now, with the label that a person gave it."""

    at: str
    """When the person decided."""
    photo: Photo
    pixels: Pixels


def add(
    data: Dataset, tables: Sequence[str], *, photos_root: str | None = None
) -> tuple[Dataset, dict[str, int]]:
    """Put people's decisions into a data set; `tables` are manifests, or buckets' `s3://` prefixes.

    Also returns the numbers of photos that are `relabelled`, `confirmed` and `added` by them. Those
    whose decision cannot be used are `skipped` in the data set.

    Photos are read from the places that their rows name, in S3 or on disk; relative names start at
    `photos_root` (None: at the folder of their manifest). Of several decisions the last counts.

    Raises `DatasetError`.
    """
    rows = [found for table in tables for found in _decided(table, data.labels, photos_root)]
    photos: dict[str, _Found] = {}
    skipped = []
    with ThreadPoolExecutor() as pool:  # S3 is mostly waiting, and Pillow releases Python's lock
        for (place, _), found in zip(rows, pool.map(partial(_look, data=data), rows), strict=True):
            if isinstance(found, str):
                skipped.append(f"{place}: {found}")
            # Copies of one photo under several names are one photo.
            elif (other := photos.get(found.photo.content)) is None or other.at < found.at:
                photos[found.photo.content] = found
    if not photos:
        raise DatasetError(
            f"{', '.join(tables)}: none of the decisions can be used; the first is "
            f"{skipped[0]}. If the photos lie in another folder, name it with --photos-root"
        )
    own = {photo.content for photo in data.photos}
    added = [each for content, each in photos.items() if content not in own]
    known = [photo for photo in data.photos if photo.content in photos]
    confirmed = sum(photo.label == photos[photo.content].photo.label for photo in known)
    merged = [
        *(_relabelled(photo, photos, data.labels) for photo in data.photos),
        *(each.photo for each in added),
    ]
    for index, label in enumerate(data.labels):
        if all(photo.label != index for photo in merged):
            raise DatasetError(f"with the decisions there is no photo of {label!r} left")
    together = replace(
        data,
        photos=tuple(merged),
        pixels=np.concatenate([data.pixels, *(each.pixels[np.newaxis] for each in added)]),
        skipped=(*data.skipped, *skipped),
    )
    relabelled = len(known) - confirmed
    return together, {"relabelled": relabelled, "confirmed": confirmed, "added": len(added)}


def _relabelled(photo: Photo, found: Mapping[str, _Found], names: Sequence[str]) -> Photo:
    if photo.content not in found:
        return photo
    label = found[photo.content].photo.label
    # If the kind is only the class's name, it changes with the class; a finer kind stays.
    kind = names[label] if photo.kind == names[photo.label] else photo.kind
    return replace(photo, label=label, kind=kind, corrected=True)


def _decided(name: str, labels: tuple[str, str], photos_root: str | None) -> list[tuple[str, Row]]:
    """Return the place and row of each photo that a person said something about, by place."""
    try:
        table = open_table(name, photos_root=photos_root)
        rows = [(table.place(row.source_ref), row) for row in table.rows() if _said(row)]
    except (LabelerError, OSError) as error:
        raise DatasetError(str(error)) from error
    if not rows:
        raise DatasetError(f"{name}: no person has decided anything; `alpaca review` is for that")
    for _, row in rows:
        if strange := {label for label in _said(row) if same(label) not in labels}:
            raise DatasetError(
                f"{name}: {row.source_ref} is called {min(strange)!r}, but the classes of the data "
                f"set are {labels[0]!r} and {labels[1]!r}"
            )
    return sorted(rows, key=lambda found: found[0])


def _said(row: Row) -> list[str]:
    return [said.label for said in row.people.values() if said.label is not None]


def _look(found: tuple[str, Row], data: Dataset) -> _Found | str:
    """Return the photo as it is now, or why it cannot be used. Raises `DatasetError`."""
    place, row = found
    try:
        fetched = storage.fetch(ImageVersion(place), max_bytes()).data
        content = content_of(fetched)
        decision = replace(row, read=Read(content=content)).decision
        if decision is None or decision.label is None:
            return "it has changed since a person decided"
        pixels = images.decode(fetched, data.pixels.shape[1]).pixels
    except (storage.Denied, storage.Transient) as error:
        if not storage.is_s3(place):
            return str(error)
        # It may be readable tomorrow, and a model must not depend on the network's state today.
        raise DatasetError(f"{error}; make sure that it can be read, and run again") from error
    except (images.ImageError, storage.StorageError) as error:
        return str(error)
    photo = Photo(
        f"{KIND}/{row.source_ref}",
        storage.to_path(place),
        data.labels.index(same(decision.label)),
        KIND,
        hashlib.sha256(fetched).hexdigest(),
        content,
        corrected=True,
    )
    return _Found(decision.at, photo, pixels)

"""Folders of photos in, one labelled array of serving pixels out.

The pixels are those that labelling will see: `photos.images` makes them in both cases. This module
never changes a file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from alpaca_labeler import storage
from alpaca_labeler.photos import images, walk
from alpaca_labeler.photos.content import content_of
from alpaca_labeler.pipeline.done import MAX_BYTES

from . import description
from .arrays import Indices, Pixels
from .description import DatasetError, same


@dataclass(frozen=True, slots=True)
class Photo:
    """One labelled photo."""

    name: str
    """`<class>/<file>`, or `<folder>/<file>` if a file describes the data set."""
    path: str
    label: int
    """Index of its class in the data set's labels: 1 is the positive class."""
    kind: str
    """The sub-folder it lies in below its class, or the class folder's own name."""
    sha256: str
    """Digest of the whole file, in hex."""
    content: str = ""
    """`photos.content.content_of` the file: of the picture alone."""
    corrected: bool = False
    """Whether a person decided the label."""
    held_out: bool = False
    """Whether it lies in the folder of validation photos."""
    excluded: bool = False
    """Whether its label is wrong: it is not trained on, but counts in every figure."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Decoded photos of two classes in a fixed order: folder by folder, by path."""

    labels: tuple[str, str]
    """Class names in index order: negative, positive; in Unicode's composed form (NFC)."""
    photos: tuple[Photo, ...]
    pixels: Pixels
    """What the model sees, shape (photos, size, size, 3), RGB 0..255."""
    skipped: tuple[str, ...]
    """`<name>: <reason>` of every file that is not a photo."""
    max_pixels: int = images.MAX_PIXELS
    """Largest width x height that was decoded."""
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`Description.groups`."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """`Description.card`."""

    def truth(self) -> Indices:
        """Return the class indices, shape (photos,)."""
        return np.array([photo.label for photo in self.photos])

    def fingerprint(self) -> str:
        """Return a hex sha256 of names, labels and contents: equal only if all of them are."""
        lines = sorted(f"{photo.name}\0{photo.label}\0{photo.sha256}\n" for photo in self.photos)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def load(
    source: str,
    size: int,
    *,
    positive: str | None = None,
    validation: str | None = None,
    max_pixels: int = images.MAX_PIXELS,
    at: Callable[[int, int], None] = lambda _done, _total: None,
) -> Dataset:
    """Read the photos of a data set that `description.read` finds.

    `size` is the side in pixels that the model takes. `at` is called with how many photos of how
    many have been read.

    Raises `DatasetError`.
    """
    told = description.read(source, positive, validation)
    found = [
        (folder, path, f"{folder.name}/{Path(path).relative_to(folder.path).as_posix()}")
        for folder in told.folders
        for path in _files(folder.path)
    ]
    excluded = dict.fromkeys(told.excluded, "")
    photos, pixels, skipped = [], [], []
    decode = partial(_decode, size=size, max_pixels=max_pixels)
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        answers = pool.map(decode, (path for _, path, _ in found))
        for done, ((folder, path, name), answer) in enumerate(
            zip(found, answers, strict=True), start=1
        ):
            at(done, len(found))
            if isinstance(answer, str):
                skipped.append(f"{name}: {answer}")
                continue
            photos.append(
                Photo(
                    name,
                    path,
                    told.labels.index(folder.label),
                    folder.kind or _kind(folder.path, path),
                    answer.sha256,
                    answer.content,
                    held_out=folder.held_out,
                    excluded=named(path, excluded) is not None,
                )
            )
            pixels.append(answer.pixels)
    for index, label in enumerate(told.labels):
        if not any(photo.label == index for photo in photos):
            raise DatasetError(f"{source}: there are no photos of {label!r}")
    for name in told.excluded:
        if not any(named(photo.path, {name: ""}) is not None for photo in photos):
            raise DatasetError(f"{source}: no photo is called {name}, which it excludes")
    return Dataset(
        told.labels,
        tuple(photos),
        np.stack(pixels),
        tuple(skipped),
        max_pixels,
        told.groups,
        told.card,
    )


def named(path: str, names: Mapping[str, str]) -> str | None:
    """Return what is told of a photo by the longest end of its path that is in `names`, or None."""
    parts = PurePosixPath(path).parts
    for start in range(len(parts)):
        if (tail := same("/".join(parts[start:]))) in names:
            return names[tail]
    return None


def _files(folder: str) -> Iterator[str]:
    ignore: list[object] = []
    paths = [entry.path for entry in walk.files([folder], ignore.append, ignore.append)]
    # By folder, then by name: an order that does not depend on the disk.
    yield from sorted(paths, key=os.path.split)


def _kind(folder: str, path: str) -> str:
    parts = Path(path).relative_to(folder).parts
    return same(parts[0] if len(parts) > 1 else Path(folder).name)


def enlarged(data: Dataset, size: int) -> Pixels:
    """Read all photos again at another size: (photos, size, size, 3), RGB 0..255.

    Raises `DatasetError` for a photo that has changed or is gone.
    """
    pixels = np.empty((len(data.photos), size, size, 3), np.uint8)
    decode = partial(_decode, size=size, max_pixels=data.max_pixels)
    with ThreadPoolExecutor() as pool:
        answers = pool.map(decode, (photo.path for photo in data.photos))
        for index, (photo, answer) in enumerate(zip(data.photos, answers, strict=True)):
            if isinstance(answer, str):
                raise DatasetError(f"{photo.name}: {answer}")
            if answer.sha256 != photo.sha256:
                raise DatasetError(f"{photo.name}: it changed while it was read; train again")
            pixels[index] = answer.pixels
    return pixels


class _Decoded(NamedTuple):
    sha256: str
    content: str
    pixels: Pixels


def _decode(path: str, size: int, max_pixels: int) -> _Decoded | str:
    """Return a photo, or why the file is not one."""
    try:
        data = storage.read(path, MAX_BYTES)
        square = images.decode(data, size, max_pixels=max_pixels).pixels
    except (images.ImageError, storage.StorageError) as error:
        return str(error)
    return _Decoded(hashlib.sha256(data).hexdigest(), content_of(data), square)

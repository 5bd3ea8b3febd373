"""Folders of photos in, one labelled array of serving pixels out.

The pixels are those that labelling will see: `photos.images` makes them in both cases. This module
never changes a file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from alpaca_labeler import storage
from alpaca_labeler.photos import images, walk
from alpaca_labeler.photos.content import content_of
from alpaca_labeler.pipeline.done import max_bytes

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
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`Description.groups`."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """`Description.card`."""

    def truth(self) -> Indices:
        """Return the class indices, shape (photos,)."""
        return np.array([photo.label for photo in self.photos])

    def strata(self) -> list[str]:
        """Return the class and kind of each photo."""
        return [f"{photo.label} {photo.kind}" for photo in self.photos]

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
    at: Callable[[int, int], None] = lambda _done, _total: None,
) -> Dataset:
    """Read the photos of a data set that `description.read` finds.

    `size` is the side in pixels that the model takes. `at` is called with how many photos of how
    many have been read.

    Raises `DatasetError`.
    """
    told = description.read(source, positive, validation)
    found = [(folder, path) for folder in told.folders for path in _files(folder.path)]
    excluded = dict.fromkeys(told.excluded, "")
    photos, pixels, skipped = [], [], []
    answers = _decoded([path for _, path in found], size)
    for done, ((folder, path), answer) in enumerate(zip(found, answers, strict=True), start=1):
        at(done, len(found))
        inside = Path(path).relative_to(folder.path)
        name = f"{folder.name}/{inside.as_posix()}"
        if isinstance(answer, str):
            skipped.append(f"{name}: {answer}")
            continue
        kind = inside.parts[0] if len(inside.parts) > 1 else Path(folder.path).name
        photos.append(
            Photo(
                name,
                path,
                told.labels.index(folder.label),
                folder.kind or same(kind),
                answer.sha256,
                answer.content,
                held_out=folder.held_out,
                excluded=named(path, excluded) is not None,
            )
        )
        pixels.append(answer.pixels)
    for index, label in enumerate(told.labels):
        if not any(photo.label == index for photo in photos):
            more = f"; {len(skipped):,} could not be used, such as {skipped[0]}" if skipped else ""
            raise DatasetError(f"{source}: there are no photos of {label!r}{more}")
    for name in told.excluded:
        if not any(named(photo.path, {name: ""}) is not None for photo in photos):
            raise DatasetError(f"{source}: no photo is called {name}, which it excludes")
    return Dataset(
        told.labels, tuple(photos), np.stack(pixels), tuple(skipped), told.groups, told.card
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


def at_size(data: Dataset, size: int) -> Pixels:
    """Read all photos again at another size: (photos, size, size, 3), RGB 0..255.

    Raises `DatasetError` for a photo that has changed or is gone.
    """
    pixels = np.empty((len(data.photos), size, size, 3), np.uint8)
    answers = _decoded([photo.path for photo in data.photos], size)
    for index, (photo, answer) in enumerate(zip(data.photos, answers, strict=True)):
        if isinstance(answer, str):
            raise DatasetError(f"{photo.name}: {answer}")
        if answer.sha256 != photo.sha256:
            raise DatasetError(f"{photo.name}: it changed while it was read; run again")
        pixels[index] = answer.pixels
    return pixels


class _Decoded(NamedTuple):
    sha256: str
    content: str
    pixels: Pixels


def _decoded(paths: Sequence[str], size: int) -> Iterator[_Decoded | str]:
    """Yield each photo, or why the file is not one."""
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        yield from pool.map(partial(_decode, size=size), paths)


def _decode(path: str, size: int) -> _Decoded | str:
    try:
        data = storage.read(path, max_bytes())
        square = images.decode(data, size).pixels
    except (images.ImageError, storage.StorageError) as error:
        return str(error)
    return _Decoded(hashlib.sha256(data).hexdigest(), content_of(data), square)

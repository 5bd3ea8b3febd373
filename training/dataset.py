"""Folders of photos in, one labelled array of serving pixels out.

Class names are read from the folders, never assumed, and the pixels are those that labelling will
see: `handler.images` makes both. This module never changes a file.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os import walk
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..handler import images, storage
from ..handler.errors import LabelerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

MAX_PHOTO_BYTES = 200 * 2**20
_NEGATION = re.compile(r"(?:not|no|non)[ _-]+(.+)", re.IGNORECASE)


class DatasetError(LabelerError):
    """A folder cannot be trained on. The message names it and what to do."""


@dataclass(frozen=True, slots=True)
class Extra:
    """One more folder of photos, all of one class."""

    label: str
    folder: str


@dataclass(frozen=True, slots=True)
class Photo:
    """One labelled photo."""

    name: str
    """`<class folder>/<file>`, or `extra/<folder>/<file>` for one that an `Extra` brought."""
    path: str
    label: int
    """Index of its class in the data set's labels: 1 is the positive class."""
    kind: str
    """The sub-folder it lies in below its class, or the class folder's own name."""
    extra: bool
    sha256: str
    """Of the file's content, in hex."""
    corrected: bool = False
    """A person's correction gave the label."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Decoded photos of two classes in a fixed order: class by class, by path, extras last."""

    labels: tuple[str, str]
    """Class names in index order: negative, positive."""
    photos: tuple[Photo, ...]
    pixels: npt.NDArray[np.uint8]
    """What the model sees, shape (photos, size, size, 3), RGB 0..255."""
    skipped: tuple[str, ...]
    """`<name>: <reason>` of every file that is no photo."""

    def truth(self) -> npt.NDArray[np.int64]:
        """Class indices, shape (photos,)."""
        return np.array([photo.label for photo in self.photos])

    def extra(self) -> npt.NDArray[np.bool_]:
        """Tell the photos that an extra folder brought, shape (photos,)."""
        return np.array([photo.extra for photo in self.photos])

    def fingerprint(self) -> str:
        """Hex sha256 of names and contents: equal if and only if the photos are."""
        lines = sorted(f"{photo.name}\0{photo.label}\0{photo.sha256}\n" for photo in self.photos)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def load(
    folder: str, size: int, *, positive: str | None = None, extras: Sequence[Extra] = ()
) -> Dataset:
    """Read a folder with one sub-folder for each of two classes, and any extra folders.

    `size` is the side in pixels that the model takes; `positive` names the class of index 1, which
    is otherwise the one that the other negates ("alpaca" beside "not alpaca"), else the last by
    name.

    Raises `DatasetError`.
    """
    labels = class_names(folder, positive)
    files = []
    for name in sorted(labels):
        inside = str(Path(folder, name))
        for path in _files(inside):
            photo = f"{name}/{Path(path).relative_to(inside).as_posix()}"
            files.append((photo, path, labels.index(name), _kind(inside, path), False))
    for extra in extras:
        if extra.label not in labels:
            raise DatasetError(
                f"--extra {extra.label}={extra.folder}: the classes of {folder} are "
                f"{labels[0]!r} and {labels[1]!r}"
            )
        if not Path(extra.folder).is_dir():
            raise DatasetError(f"--extra {extra.label}={extra.folder}: no such folder")
        base = Path(extra.folder).resolve()
        for path in _files(str(base)):
            photo = f"extra/{base.name}/{Path(path).relative_to(base).as_posix()}"
            files.append((photo, path, labels.index(extra.label), _kind(str(base), path), True))
    return _decode_all(folder, labels, files, size)


def class_names(folder: str, positive: str | None = None) -> tuple[str, str]:
    """Return the two classes of a data set folder: negative, positive. Raises `DatasetError`."""
    try:
        names = sorted(
            entry.name
            for entry in Path(folder).iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        )
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror})") from error
    if len(names) != 2:
        found = ", ".join(repr(name) for name in names) or "none"
        raise DatasetError(
            f"{folder}: a data set has exactly two sub-folders, one a class; found {found}"
        )
    if positive is None:
        positive = _positive(names[0], names[1])
    elif positive not in names:
        raise DatasetError(f"--positive {positive}: the classes are {names[0]!r} and {names[1]!r}")
    return (names[1 - names.index(positive)], positive)


def _positive(first: str, second: str) -> str:
    for name, other in ((first, second), (second, first)):
        negated = _NEGATION.fullmatch(name)
        if negated and negated[1].casefold() == other.casefold():
            return other
    return second


def _files(folder: str) -> Iterator[str]:
    # The order of Keras' image_dataset_from_directory, so that its split can be reproduced.
    for root, _, names in sorted(walk(folder, followlinks=True), key=lambda entry: entry[0]):
        for name in sorted(names):
            yield f"{root}/{name}"


def _kind(folder: str, path: str) -> str:
    parts = Path(path).relative_to(folder).parts
    return parts[0] if len(parts) > 1 else Path(folder).name


def _decode_all(
    folder: str,
    labels: tuple[str, str],
    files: list[tuple[str, str, int, str, bool]],
    size: int,
) -> Dataset:
    photos, pixels, skipped = [], [], []
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        answers = pool.map(partial(_decode, size=size), (path for _, path, *_ in files))
        for (name, path, label, kind, extra), answer in zip(files, answers, strict=True):
            if isinstance(answer, str):
                skipped.append(f"{name}: {answer}")
            else:
                sha256, square = answer
                photos.append(Photo(name, path, label, kind, extra, sha256))
                pixels.append(square)
    for index, label_name in enumerate(labels):
        if not any(photo.label == index for photo in photos):
            raise DatasetError(f"{Path(folder, label_name)}: there is no photo in it")
    return Dataset(labels, tuple(photos), np.stack(pixels), tuple(skipped))


def decode(photo: Photo, size: int) -> npt.NDArray[np.uint8]:
    """Read a photo again, at another size: (size, size, 3), RGB 0..255. Raises `DatasetError`."""
    found = _decode(photo.path, size)
    if isinstance(found, str):
        raise DatasetError(f"{photo.name}: {found}")
    sha256, square = found
    if sha256 != photo.sha256:
        raise DatasetError(f"{photo.name}: has changed while it was trained on; train again")
    return square


def _decode(path: str, size: int) -> tuple[str, npt.NDArray[np.uint8]] | str:
    """Return the file's sha256 and pixels, or why it is no photo."""
    try:
        data = storage.read(path, MAX_PHOTO_BYTES)
        return hashlib.sha256(data).hexdigest(), images.decode(data, size).pixels
    except (images.ImageError, storage.StorageError) as error:
        return str(error)

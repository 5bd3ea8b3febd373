"""Folders of photos in, one labelled array of serving pixels out.

Class names are read from the folders, never assumed, and the pixels are those that labelling will
see: `handler.images` makes them in both cases. This module never changes a file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..handler import images, skip, storage, walk
from ..handler.errors import LabelerError
from .text_files import same

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

MAX_PHOTO_BYTES = 200 * 2**20
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "test", "testing"), "held out"),
}
"""Names of folders in data sets that are already split."""
_NEGATION = re.compile(r"(?:not|no|non)[ _-]+(.+)", re.IGNORECASE)


class DatasetError(LabelerError):
    """A folder cannot be trained on. The message names it and what to do."""


@dataclass(frozen=True, slots=True)
class Extra:
    """One more folder of photos, all of one class."""

    label: str
    folder: str
    kind: str = ""
    """Kind of all its photos; empty: each sub-folder is a kind."""


@dataclass(frozen=True, slots=True)
class Photo:
    """One labelled photo."""

    name: str
    """`<class folder>/<file>`, or `extra/<folder>/<file>` for a photo of an `Extra`."""
    path: str
    label: int
    """Index of its class in the data set's labels: 1 is the positive class."""
    kind: str
    """The sub-folder it lies in below its class, or the class folder's own name."""
    extra: bool
    """Whether it is a photo of an `Extra`."""
    sha256: str
    """Digest of the file's content, in hex."""
    corrected: bool = False
    """Whether the label is a person's correction."""
    held_out: bool = False
    """Whether it lies in the folder of validation photos."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Decoded photos of two classes in a fixed order: class by class, by path, extras last."""

    labels: tuple[str, str]
    """Class names in index order: negative, positive; in Unicode's composed form (NFC)."""
    photos: tuple[Photo, ...]
    pixels: npt.NDArray[np.uint8]
    """What the model sees, shape (photos, size, size, 3), RGB 0..255."""
    skipped: tuple[str, ...]
    """`<name>: <reason>` of every file that is not a photo."""
    max_pixels: int = images.MAX_PIXELS
    """Largest width x height that was decoded."""

    def truth(self) -> npt.NDArray[np.int64]:
        """Return the class indices, shape (photos,)."""
        return np.array([photo.label for photo in self.photos])

    def extra(self) -> npt.NDArray[np.bool_]:
        """Tell which photos are from an extra folder, shape (photos,)."""
        return np.array([photo.extra for photo in self.photos])

    def fingerprint(self) -> str:
        """Return a hex sha256 of names, labels and contents: equal only if all of them are."""
        lines = sorted(f"{photo.name}\0{photo.label}\0{photo.sha256}\n" for photo in self.photos)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    path: str
    label: int
    kind: str
    extra: bool = False
    held_out: bool = False


def load(
    folder: str,
    size: int,
    *,
    positive: str | None = None,
    extras: Sequence[Extra] = (),
    validation: str | None = None,
    max_pixels: int = images.MAX_PIXELS,
    at: Callable[[int, int], None] = lambda _done, _total: None,
) -> Dataset:
    """Read a folder with one sub-folder for each of two classes, and any extra folders.

    `size` is the side in pixels that the model takes; `positive` names the class of index 1, which
    is otherwise the one that the other negates ("alpaca" beside "not alpaca"), else the last by
    name. `validation` is a folder like the first, whose photos are held out. `at` is called with
    how many photos of how many have been read.

    Raises `DatasetError`.
    """
    labels = class_names(folder, positive)
    files = [*_class_files(folder, labels)]
    if validation is not None:
        if {*class_names(validation)} != {*labels}:
            raise DatasetError(
                f"--validation {validation}: its classes are not those of {folder}, "
                f"{labels[0]!r} and {labels[1]!r}"
            )
        files += _class_files(validation, labels, held_out=True)
    for extra in extras:
        label = same(extra.label)
        if label not in labels:
            raise DatasetError(
                f"--extra {extra.label}={extra.folder}: the classes of {folder} are "
                f"{labels[0]!r} and {labels[1]!r}"
            )
        if not Path(extra.folder).is_dir():
            raise DatasetError(f"--extra {extra.label}={extra.folder}: no such folder")
        base = Path(extra.folder).resolve()
        for path in _files(str(base)):
            name = f"extra/{base.name}/{Path(path).relative_to(base).as_posix()}"
            kind = extra.kind or _kind(str(base), path)
            files.append(_File(name, path, labels.index(label), kind, extra=True))
    return _decode_all(folder, labels, files, size, max_pixels=max_pixels, at=at)


def class_names(folder: str, positive: str | None = None) -> tuple[str, str]:
    """Return the two classes of a data set folder: negative, positive. Raises `DatasetError`."""
    names = sorted(map(same, _class_folders(folder)))
    if len(names) == 1:
        raise DatasetError(
            f"{folder}: there is one sub-folder, {names[0]!r}; a data set has two, one per class. "
            "Put photos of everything else into a second one"
        )
    if len(names) != 2:
        found = ", ".join(repr(name) for name in names) or "none"
        raise DatasetError(
            f"{folder}: a data set has exactly two sub-folders, one per class; found {found}"
        )
    if positive is None:
        positive = _positive(names[0], names[1])
    elif same(positive) not in names:
        raise DatasetError(f"--positive {positive}: the classes are {names[0]!r} and {names[1]!r}")
    positive = same(positive)
    return (names[1 - names.index(positive)], positive)


def _class_folders(folder: str) -> dict[str, str]:
    """Map the name of each class, in Unicode's composed form, to the name of its folder.

    Raises `DatasetError` for a folder that cannot be read, or that holds a split and no classes.
    """
    try:
        found = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror})") from error
    names = [name for name in found if skip.by_folder(name) is None]
    splits: dict[str, str] = {}
    for name in sorted(names, reverse=True):
        if use := SPLIT_NAMES.get(name.casefold()):
            splits[use] = os.path.join(folder, name)
    if len(splits) == 2 and all(name.casefold() in SPLIT_NAMES for name in names):
        raise DatasetError(
            f"{folder}: {', '.join(sorted(names))} are a split, not classes. Train with that split "
            f"by: alpaca train {splits['train']} --validation {splits['held out']}"
        )
    return {same(name): name for name in names}


def _positive(first: str, second: str) -> str:
    for name, other in ((first, second), (second, first)):
        negated = _NEGATION.fullmatch(name)
        if negated and negated[1].casefold() == other.casefold():
            return other
    return second


def _class_files(
    folder: str, labels: tuple[str, str], *, held_out: bool = False
) -> Iterator[_File]:
    folders = _class_folders(folder)
    for label in sorted(labels):
        inside = str(Path(folder, folders[label]))
        for path in _files(inside):
            name = f"{label}/{Path(path).relative_to(inside).as_posix()}"
            kind = same(_kind(inside, path))
            yield _File(
                f"validation/{name}" if held_out else name,
                path,
                labels.index(label),
                kind,
                held_out=held_out,
            )


def _files(folder: str) -> Iterator[str]:
    ignore: list[object] = []
    paths = [entry.path for entry in walk.files([folder], ignore.append, ignore.append)]
    # By folder, then by name: an order that does not depend on the disk.
    yield from sorted(paths, key=os.path.split)


def _kind(folder: str, path: str) -> str:
    parts = Path(path).relative_to(folder).parts
    return parts[0] if len(parts) > 1 else Path(folder).name


def _decode_all(
    folder: str,
    labels: tuple[str, str],
    files: Sequence[_File],
    size: int,
    *,
    max_pixels: int,
    at: Callable[[int, int], None],
) -> Dataset:
    photos, pixels, skipped = [], [], []
    decode = partial(_decode, size=size, max_pixels=max_pixels)
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        answers = pool.map(decode, (file.path for file in files))
        for done, (file, answer) in enumerate(zip(files, answers, strict=True), start=1):
            at(done, len(files))
            if isinstance(answer, str):
                skipped.append(f"{file.name}: {answer}")
                continue
            sha256, square = answer
            photos.append(
                Photo(
                    file.name,
                    file.path,
                    file.label,
                    file.kind,
                    file.extra,
                    sha256,
                    held_out=file.held_out,
                )
            )
            pixels.append(square)
    for index, name in enumerate(labels):
        if not any(photo.label == index for photo in photos):
            raise DatasetError(f"{Path(folder, name)}: there are no photos in it")
    return Dataset(labels, tuple(photos), np.stack(pixels), tuple(skipped), max_pixels)


def enlarged(data: Dataset, size: int) -> npt.NDArray[np.uint8]:
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
            if answer[0] != photo.sha256:
                raise DatasetError(f"{photo.name}: it changed while it was read; train again")
            pixels[index] = answer[1]
    return pixels


def _decode(path: str, size: int, max_pixels: int) -> tuple[str, npt.NDArray[np.uint8]] | str:
    """Return the file's sha256 and pixels, or why it is not a photo."""
    try:
        data = storage.read(path, MAX_PHOTO_BYTES)
        square = images.decode(data, size, max_pixels=max_pixels).pixels
    except (images.ImageError, storage.StorageError) as error:
        return str(error)
    return hashlib.sha256(data).hexdigest(), square

"""Put people's corrections into a data set: `corrections.jsonl` in, better labels out.

A row of a person (`human-annotated: "yes"`) gives a photo its class, by name. It is about one
version of the photo: a photo that has changed since is left out, because nobody has checked it. A
photo that the data set already has, recognised by its content, gets the new label.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from alpaca_labeler import storage
from alpaca_labeler.photos import images
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import manifest_row, merge
from alpaca_labeler.table.manifest_row import ManifestError

from .dataset import MAX_PHOTO_BYTES, Dataset, Photo
from .description import DatasetError, same

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from alpaca_labeler.table.manifest_row import Row

MAX_FILE_BYTES: Final = 256 * 2**20
"""Enough for some 400,000 rows."""

KIND: Final = "corrected"
"""Kind of the photos that corrections add: the figures by kind show them separately."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """A data set with corrections in it, and what they changed."""

    data: Dataset
    relabelled: int
    """Number of photos of the data set that have another label now."""
    confirmed: int
    """Number of photos of the data set whose label a person confirmed."""
    added: int
    """Number of new photos."""
    skipped: tuple[str, ...]
    """`<source-ref>: <reason>` of every correction that could not be used."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A photo as it is now."""

    version: ImageVersion
    path: str
    sha256: str
    pixels: npt.NDArray[np.uint8]


def add(data: Dataset, files: Iterable[str], *, photos_root: str = "") -> Corrected:
    """Put people's corrections into a data set; `files` are paths or `s3://` URIs.

    Photos are read from the places that their rows name, in S3 or on disk; relative names start at
    `photos_root` (empty: at the folder of the corrections). Of an image's rows, the last one about
    its present version counts, unless it was withdrawn.

    Raises `DatasetError`.
    """
    files = tuple(files)
    rows = _read(files, data.labels, photos_root)
    size = data.pixels.shape[1]
    found: dict[str, tuple[Row, _Seen]] = {}
    skipped = []
    names = sorted(rows)
    with ThreadPoolExecutor() as pool:  # S3 is mostly waiting, and Pillow releases Python's lock
        for name, seen in zip(
            names,
            pool.map(lambda name: _look(name, size, data.max_pixels), names),
            strict=True,
        ):
            if isinstance(seen, str):
                skipped.append(f"{name}: {seen}")
            elif not (
                current := [r for r in rows[name] if manifest_row.speaks_of(r, seen.version)]
            ):
                skipped.append(f"{name}: the photo has changed since it was corrected")
            elif (row := manifest_row.decided(sorted(current, key=manifest_row.encode))) is None:
                skipped.append(f"{name}: the correction was withdrawn")
            # Copies of one photo under several names are one photo.
            elif seen.sha256 not in found or _when(found[seen.sha256][0]) < _when(row):
                found[seen.sha256] = (row, seen)
    if not found:
        raise DatasetError(
            f"{', '.join(files)}: none of the corrections can be used; the first is "
            f"{skipped[0]}. If the photos lie in another folder, name it with --photos-root"
        )
    return _merged(data, found, tuple(skipped))


def _merged(
    data: Dataset, found: Mapping[str, tuple[Row, _Seen]], skipped: tuple[str, ...]
) -> Corrected:
    labels = {sha256: _label(row, data.labels) for sha256, (row, _) in found.items()}
    photos = [_relabelled(photo, labels, data.labels) for photo in data.photos]
    known = {photo.sha256 for photo in photos}
    new = [
        Photo(
            name=f"{KIND}/{row['source-ref']}",
            path=seen.path,
            label=labels[sha256],
            kind=KIND,
            sha256=sha256,
            corrected=True,
        )
        for sha256, (row, seen) in found.items()
        if sha256 not in known
    ]
    pixels = [found[photo.sha256][1].pixels[np.newaxis] for photo in new]
    for index, label in enumerate(data.labels):
        if all(photo.label != index for photo in [*photos, *new]):
            raise DatasetError(f"with the corrections there is no photo of {label!r} left")
    changed = [
        old.label != photo.label
        for old, photo in zip(data.photos, photos, strict=True)
        if photo.sha256 in labels
    ]
    return Corrected(
        replace(
            data,
            photos=(*photos, *new),
            pixels=np.concatenate([data.pixels, *pixels]),
            skipped=(*data.skipped, *skipped),
        ),
        relabelled=sum(changed),
        confirmed=len(changed) - sum(changed),
        added=len(new),
        skipped=skipped,
    )


def _relabelled(photo: Photo, labels: Mapping[str, int], names: Sequence[str]) -> Photo:
    if photo.sha256 not in labels:
        return photo
    label = labels[photo.sha256]
    # If the kind is only the class's name, it changes with the class; a finer kind stays.
    kind = names[label] if photo.kind == names[photo.label] else photo.kind
    return replace(photo, label=label, kind=kind, corrected=True)


# --- the rows ------------------------------------------------------------------------------------


def _read(files: Iterable[str], labels: tuple[str, str], photos_root: str) -> dict[str, list[Row]]:
    """Return what people decided, by the place of the photo. A model's rows are skipped."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for file in files:
        try:
            content = io.BytesIO(storage.read(file, MAX_FILE_BYTES))
            found = [manifest_row.parse(line) for _, line in merge.read(content, file)]
        except (storage.StorageError, ManifestError) as error:
            raise DatasetError(str(error)) from error
        if not any(map(manifest_row.is_human, found)):
            raise DatasetError(
                f"{file}: it has no row by a person (human-annotated: yes); `alpaca review` writes "
                "such rows"
            )
        root = photos_root or ("" if storage.is_s3(file) else os.path.dirname(file))
        for row in found:
            name = manifest_row.label(row)
            if manifest_row.is_human(row) and (name is None or same(name) not in labels):
                raise DatasetError(
                    f"{file}: {row['source-ref']} is called {name!r}, but the classes of the data "
                    f"set are {labels[0]!r} and {labels[1]!r}"
                )
            if manifest_row.is_human(row) or manifest_row.withdrawn(row):
                rows[_place(row["source-ref"], root)].append(row)
    return rows


def _place(source_ref: str, root: str) -> str:
    """Return the name by which a photo is read; a relative path starts at `root`."""
    if storage.is_s3(source_ref):
        return source_ref
    path = storage.to_path(source_ref)
    return storage.to_source_ref(os.path.join(root, path))


def _label(row: Row, labels: Sequence[str]) -> int:
    return labels.index(same(manifest_row.metadata(row)["class-name"]))


def _when(row: Row) -> tuple[str, bytes]:
    return manifest_row.created(row), manifest_row.encode(row)


# --- the photos ----------------------------------------------------------------------------------


def _look(place: str, size: int, max_pixels: int) -> _Seen | str:
    """Return the photo as it is now, or why it cannot be used. Raises `DatasetError`."""
    try:
        fetched = storage.fetch(ImageVersion(place), MAX_PHOTO_BYTES)
        pixels = images.decode(fetched.data, size, max_pixels=max_pixels).pixels
    except (storage.Denied, storage.Transient) as error:
        if not storage.is_s3(place):
            return str(error)
        # It may be readable tomorrow, and a model must not depend on the network's state today.
        raise DatasetError(f"{error}; make sure that it can be read, and run again") from error
    except (images.ImageError, storage.StorageError) as error:
        return str(error)
    return _Seen(
        fetched.version, storage.to_path(place), hashlib.sha256(fetched.data).hexdigest(), pixels
    )

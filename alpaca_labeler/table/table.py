"""The one door to rows: a folder's manifest, or a bucket's table. Every command goes through it."""

from __future__ import annotations

import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.table import lines, log
from alpaca_labeler.table.lines import Keyed, News
from alpaca_labeler.table.places import Places
from alpaca_labeler.table.row import Row

DEFAULT: Final = "manifest.jsonl"


class TableError(LabelerError):
    """There is no such table. The message names it and the remedy."""


class Elsewhere(LabelerError):
    """A photo lies where nobody has said that photos may be shown from."""

    def __init__(self, folder: str) -> None:
        """`folder` is the folder or the bucket that it lies in."""
        super().__init__(f"not beside the manifest; add --allow {shlex.quote(folder)} to show it")
        self.folder = folder


class Table(ABC):
    """The rows of one manifest or one bucket, one per photo, merged when they are read."""

    def __init__(self, name: str, allowed: Iterable[str]) -> None:
        self.name = name
        """For people: the manifest's path, or the `s3://` prefix."""
        self._allowed = tuple(map(_real_folder, allowed))

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the photos that are there, sorted by `source-ref`.

        Raises `ManifestError` naming file and line, `StorageError` and `OSError`.
        """
        return (row for row in self.all_rows() if not row.hidden)

    def all_rows(self, *, missing_ok: bool = False) -> Iterator[Row]:
        """Yield also the rows of photos that are gone. No rows are no error if `missing_ok`."""
        return (row for row, _ in self.read(missing_ok=missing_ok))

    def read(self, *, missing_ok: bool = False) -> Iterator[tuple[Row, bytes]]:
        """Yield the same, each with its line."""
        return lines.parsed(self._lines(missing_ok=missing_ok), self.name)

    @abstractmethod
    def _lines(self, *, missing_ok: bool) -> Iterator[Keyed]: ...

    @abstractmethod
    def append(self, rows: Sequence[Row]) -> None:
        """Add rows, which count at once and survive a loss of power. Raises `LabelerError`."""

    @abstractmethod
    def follow(self) -> News:
        """Begin to follow what others append from here on. Raises `LabelerError`, `OSError`."""

    @abstractmethod
    def place(self, source_ref: str) -> str:
        """Return where a photo is read: an `s3://` URI, or a path as `storage` takes it."""

    def shown(self, source_ref: str) -> str:
        """Return the same of a photo that may be shown. Raises `Elsewhere` for any other.

        Anybody may have written a manifest. It must not have us ask a stranger's bucket with our
        credentials, or put private photos into a page that is sent around.
        """
        place = self.place(source_ref)
        try:
            real = place if storage.is_s3(place) else os.path.realpath(storage.to_path(place))
        except ValueError:  # a NUL byte, which no file's name has
            return place
        if not real.startswith(self._allowed):
            is_s3 = storage.is_s3(real)
            raise Elsewhere(_bucket_of(real) if is_s3 else os.path.dirname(real))
        return place


def _real_folder(place: str) -> str:
    if storage.is_s3(place):
        return f"{place.rstrip('/')}/"
    return os.path.join(os.path.realpath(place), "")


def _bucket_of(uri: str) -> str:
    return f"{storage.S3_SCHEME}{uri.removeprefix(storage.S3_SCHEME).partition('/')[0]}/"


class FolderTable(Table):
    """A manifest on this machine."""

    def __init__(self, name: str, photos_root: str | None, allowed: Iterable[str]) -> None:
        """`photos_root` is where relative names begin, if that is not the manifest's folder."""
        folder = Places(name).folder
        self._root = photos_root or folder
        super().__init__(name, {folder, self._root, *allowed})

    def _lines(self, *, missing_ok: bool) -> Iterator[Keyed]:  # noqa: ARG002
        return log.read_lines(self.name)

    def append(self, rows: Sequence[Row]) -> None:  # noqa: D102
        with log.Log(self.name) as file:
            file.append(rows, sync=True)

    def follow(self) -> News:  # noqa: D102
        return log.follow(self.name)

    def place(self, source_ref: str) -> str:  # noqa: D102
        if storage.is_s3(source_ref):
            return source_ref
        # An absolute path stays as it is.
        return storage.to_source_ref(os.path.join(self._root, storage.to_path(source_ref)))


class BucketTable(Table):
    """A bucket's results: `s3://bucket/labels/`."""

    def _lines(self, *, missing_ok: bool) -> Iterator[Keyed]:
        from alpaca_labeler.table import bucket  # 20 ms that a folder need not wait for

        return bucket.read_lines(self.name, missing_ok=missing_ok)

    def append(self, rows: Sequence[Row]) -> None:  # noqa: D102
        from alpaca_labeler.table import bucket

        bucket.write(self.name, rows)

    def follow(self) -> News:  # noqa: D102
        from alpaca_labeler.table import bucket

        return bucket.follow(self.name)

    def place(self, source_ref: str) -> str:  # noqa: D102
        return source_ref


def open_table(
    source: str,
    *,
    photos_root: str | None = None,
    allowed: Iterable[str] = (),
    missing_ok: bool = False,
) -> Table:
    """Open a manifest on this machine, or a bucket's results.

    `photos_root` is the folder at which relative names begin, if that is not the manifest's own.
    Photos are shown from these two folders, or from the bucket that the results are in, and from
    `allowed`: folders and `s3://` prefixes.

    Raises `TableError` if there is no such manifest, unless `missing_ok`.
    """
    if storage.is_s3(source):
        return BucketTable(f"{source.rstrip('/')}/", {_bucket_of(source), *allowed})
    if not os.path.exists(source):
        if missing_ok:
            return FolderTable(source, photos_root, allowed)
        raise TableError(f"{source}: there is no such file; `alpaca label FOLDER` writes one")
    if not os.path.isfile(source):
        raise TableError(f"{source}: not a file; name a manifest, such as {DEFAULT}")
    return FolderTable(source, photos_root, allowed)

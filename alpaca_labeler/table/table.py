"""The one door to rows: a folder's manifest, or a bucket's table. Every command goes through it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.table import log
from alpaca_labeler.table.lines import Keyed, Poll
from alpaca_labeler.table.places import Places
from alpaca_labeler.table.row import ManifestError, Row

DEFAULT: Final = "manifest.jsonl"


class TableError(LabelerError):
    """There is no such table. The message names it and the remedy."""


class Elsewhere(LabelerError):
    """A photo lies where nobody has said that photos may be shown from."""

    def __init__(self, folder: str) -> None:
        """`folder` is the folder or the bucket that it lies in."""
        super().__init__(f"not beside the manifest; add --allow {shlex.quote(folder)} to show it")
        self.folder = folder


class Store(Protocol):
    """A kind of table, as a module: `log` for folders, `bucket` for buckets."""

    def read(self, where: str, /) -> Iterator[Keyed]:
        """See `Table.read`."""
        ...

    def write(self, where: str, rows: Sequence[Row], /) -> None:
        """See `Table.append`."""

    def follow(self, where: str, /) -> Poll:
        """See `Table.follow`."""
        ...


class Table:
    """The rows of one manifest or one bucket, one per photo, merged when they are read."""

    def __init__(self, name: str, store: Store, root: str | None, allowed: Iterable[str]) -> None:
        """`root` is the folder at which relative names begin; None if all photos are in S3."""
        self.name = name
        """For people: the manifest's path, or the `s3://` prefix."""
        self._store = store
        self._root = root
        self._allowed = tuple(map(_real_folder, allowed))

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the photos that are there, sorted by `source-ref`.

        Raises `ManifestError` naming file and line, `StorageError` and `OSError`.
        """
        return (row for row, _ in self.read() if not row.hidden)

    def read(self) -> Iterator[tuple[Row, bytes]]:
        """Yield each row with its line, also the rows of photos that are gone."""
        for name, line in self._store.read(self.name):
            try:
                row = Row.from_line(line)
            except ManifestError as error:
                raise ManifestError(f"{self.name}: the row of {name}: {error}") from None
            yield row, line

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows, which count at once and survive a loss of power. Raises `LabelerError`."""
        self._store.write(self.name, rows)

    def follow(self) -> Poll:
        """Begin to follow what others append from here on. Raises `LabelerError`, `OSError`."""
        return self._store.follow(self.name)

    def place(self, source_ref: str) -> str:
        """Return where a photo is read: an `s3://` URI, or a path as `storage` takes it."""
        if self._root is None or storage.is_s3(source_ref):
            return source_ref
        # An absolute path stays as it is.
        return storage.to_source_ref(os.path.join(self._root, storage.to_path(source_ref)))

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
        from alpaca_labeler.table import bucket  # 20 ms that a folder need not wait for

        return Table(f"{source.rstrip('/')}/", bucket, None, {_bucket_of(source), *allowed})
    if not os.path.exists(source) and not missing_ok:
        raise TableError(f"{source}: there is no such file; `alpaca label FOLDER` writes one")
    if os.path.exists(source) and not os.path.isfile(source):
        raise TableError(f"{source}: not a file; name a manifest, such as {DEFAULT}")
    folder = Places(source).folder
    root = photos_root or folder
    return Table(source, log, root, {folder, root, *allowed})

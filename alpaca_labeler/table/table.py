"""Access to rows: a manifest on this machine with the files beside it, or a bucket's results.

Every command that reads rows reads them here, so that all of them see the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.table import manifest_row
from alpaca_labeler.table.corrections import BucketCorrections, Corrections
from alpaca_labeler.table.jsonl import beside
from alpaca_labeler.table.ledger import Ledger
from alpaca_labeler.table.places import Places

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alpaca_labeler.table.manifest_row import Row

__all__ = ["DEFAULT", "Table", "TableError", "beside", "open_corrections", "open_table"]

DEFAULT = "manifest.jsonl"


class TableError(LabelerError):
    """There is no such table. The message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one manifest or one bucket, merged when they are read."""

    name: str
    """For people: the manifest's path, or the `s3://` prefix."""
    failures: str
    """Path of the failures; empty for a bucket."""
    photos_root: str | None = None
    """Folder at which relative names begin, if it is not the manifest's own."""

    def lines(self, *, missing_ok: bool = False) -> Iterator[tuple[bytes, bool]]:
        """Yield (line, is a failure): one row per photo, sorted by `source-ref`.

        A bucket without results is an error unless `missing_ok`.

        Raises `ManifestError` naming file and line, `StorageError` and `OSError`.
        """
        if storage.is_s3(self.name):
            from alpaca_labeler.table import compaction  # 20 ms that a folder need not wait for

            return filter(_is_there, compaction.table(self.name, missing_ok=missing_ok))
        return Ledger(self.name, self.failures).table()

    def rows(self) -> Iterator[Row]:
        """Yield the same rows, parsed."""
        return (manifest_row.parse(line) for line, _ in self.lines())

    def place(self, source_ref: str) -> str:
        """Return where a photo is read: an `s3://` URI, or a path as `storage` takes it."""
        if storage.is_s3(source_ref):
            return source_ref
        # An absolute path stays as it is.
        path = storage.to_path(source_ref)
        if self.photos_root is not None:
            return storage.to_source_ref(os.path.join(self.photos_root, path))
        there = Places(self.name).path(source_ref)
        # Earlier releases named photos by the folder that the command was called in.
        return storage.to_source_ref(path if _is_only(path, there) else there)

    def state(self) -> tuple[object, ...]:
        """Return what differs once a local manifest holds other rows; empty for a bucket."""
        if storage.is_s3(self.name):
            return ()
        corrections = beside(self.name, "corrections")
        return tuple(map(_state, (self.name, self.failures, corrections)))


def open_table(
    source: str, failures: str | None = None, *, photos_root: str | None = None
) -> Table:
    """Open a local manifest, or a bucket's results (`s3://bucket/labels/`).

    `failures` is the path of a local manifest's failures, if they do not lie beside it.
    `photos_root` is the folder at which relative names begin, if that is not the manifest's own.

    Raises `TableError` if there is no such manifest.
    """
    if storage.is_s3(source):
        if failures is not None:
            raise TableError("--failures is for a manifest on this machine")
        return Table(f"{source.rstrip('/')}/", "", photos_root)
    for path in (source, failures):
        if path is not None and not os.path.exists(path):
            raise TableError(f"{path}: there is no such file; `alpaca label FOLDER` writes one")
        if path is not None and not os.path.isfile(path):
            raise TableError(f"{path}: not a file; name a manifest, such as {DEFAULT}")
    return Table(source, failures or beside(source, "failures"), photos_root)


def open_corrections(table: Table, path: str | None = None) -> Corrections | BucketCorrections:
    """Return where decisions about a table are written: to `path`, or where its readers look.

    Raises `TableError` if `path` is the table itself.
    """
    if path is None and storage.is_s3(table.name):
        return BucketCorrections(table.name)
    for other in (table.name, table.failures):
        if (
            path
            and os.path.exists(other)
            and os.path.exists(path)
            and os.path.samefile(other, path)
        ):
            raise TableError(f"{path}: part of the manifest; name another file with --corrections")
    return Corrections(path or beside(table.name, "corrections"))


def _is_there(found: tuple[bytes, bool]) -> bool:
    line, is_failure = found
    return not (is_failure and manifest_row.is_gone(manifest_row.parse(line)))


def _is_only(path: str, other: str) -> bool:
    return os.path.exists(path) and not os.path.lexists(other)


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns

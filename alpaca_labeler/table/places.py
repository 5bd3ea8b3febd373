"""Where a manifest's photos are, and what they are called: one photo has one name.

A file's name is relative to the folder of its manifest, so that a folder and its manifest move
together. A file outside that folder has its absolute path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from alpaca_labeler import storage
from alpaca_labeler.table import jsonl, manifest_row

if TYPE_CHECKING:
    from alpaca_labeler.storage.image_version import ImageVersion
    from alpaca_labeler.table.manifest_row import Row

_PLAIN: Final = re.compile(r"(?!\.{0,2}/|file:)(?!.*/\.{0,2}/)", re.DOTALL)
"""A relative name without `.`, `..` or an empty step."""

_DRIVES: Final = re.compile(r"/|/(mnt|Volumes)|/(run/)?media(/[^/]+)?")
"""Where systems put drives that can be taken away."""


class Places:
    """The photos of one manifest."""

    def __init__(self, manifest: str) -> None:
        self._typed = os.path.dirname(os.path.abspath(jsonl.resolved(manifest)))
        self.folder = os.path.realpath(self._typed)
        """At which relative names begin."""
        self._last = "", os.path.join(self._inside(""), "")

    def name(self, path: str) -> str:
        """Return the name of a file by its path, which may be relative to the current folder."""
        step = path.rfind(os.sep) + 1
        folder = path[:step]
        if folder != self._last[0]:
            self._last = folder, os.path.join(self._inside(folder), "")
        return self._last[1] + path[step:]

    def absolute(self, path: str) -> str:
        """Return where `path` finds a file, or the photos below a folder."""
        inside = self._inside(path) if os.path.isdir(path) else self.name(path)
        return os.path.normpath(os.path.join(self.folder, inside))

    def _inside(self, folder: str) -> str:
        # What stands before `..` may be a link: only the system knows where that leads.
        real = os.path.realpath(folder)
        typed = real if os.pardir in folder.split(os.sep) else os.path.abspath(folder)
        for base, path in ((self.folder, real), (self._typed, typed), (self.folder, typed)):
            if path == base:
                return ""
            if path.startswith(os.path.join(base, "")):
                return os.path.relpath(path, base)
        return real

    def modern(self, source_ref: str) -> str:
        """Return the present form of a name in a row: earlier releases wrote paths as typed."""
        if storage.is_s3(source_ref) or _PLAIN.match(source_ref):
            return source_ref
        try:
            path = os.path.join(self.folder, storage.to_path(source_ref))
            return storage.to_source_ref(self.name(path))
        except ValueError:  # a NUL byte in the name
            return source_ref

    def path(self, source_ref: str) -> str:
        """Return the path of a file by its name."""
        return os.path.join(self.folder, storage.to_path(source_ref))

    def is_gone(self, source_ref: str) -> bool:
        """Tell whether a file is no longer there. One on a drive that is away may still be."""
        path = self.path(source_ref)
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return path.startswith(os.path.join(self.folder, "")) or not _is_on_a_drive(path)
        except (OSError, ValueError):
            return False
        return False

    # --- rows of earlier releases ----------------------------------------------------------------

    def settled(self, row: Row) -> Row:
        """Return a row of an earlier release in its present form, if its photo can be told.

        Such a row names a file as it was typed, and says nothing of the content. The file with its
        size and its date, at that name below the manifest's folder or the current one, is its
        photo: it gives the row name and digest. A manifest whose names are absolute may have moved
        together with its folder.
        """
        version = manifest_row.version_of(row)
        if storage.is_s3(version.source_ref) or version.etag or not version.last_modified:
            return row
        path = next(filter(lambda path: _is_at(path, version), self._candidates(row)), None)
        if path is None:
            return row
        name = storage.to_source_ref(self.name(path))
        if name != version.source_ref:
            row = {**row, "source-ref": name}
        if manifest_row.is_failure(row):
            return row
        return manifest_row.with_facts(row, replace(version, etag=storage.digest_of(path)))

    def _candidates(self, row: Row) -> Iterator[str]:
        path = storage.to_path(row["source-ref"])
        yield os.path.join(self.folder, path)
        if not os.path.isabs(path):
            yield os.path.abspath(path)
            return
        steps = path.split(os.sep)
        for start in range(2, len(steps)):
            yield os.path.join(self.folder, *steps[start:])


def _is_at(path: str, version: ImageVersion) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return (status.st_size, storage.file_time(status.st_mtime_ns)) == (
        version.size,
        version.last_modified,
    )


def _is_on_a_drive(path: str) -> bool:
    """Tell whether a file that is not there may be on a drive that is not connected."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    if _DRIVES.fullmatch(folder):
        return True
    return bool(_DRIVES.fullmatch(os.path.dirname(folder))) and not os.listdir(folder)

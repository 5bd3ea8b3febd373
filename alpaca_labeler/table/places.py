"""Where a manifest's photos are, and what they are called: one photo has one name.

A file's name is relative to the folder of its manifest, so that a folder and its manifest move
together. A file outside that folder has its absolute path.
"""

from __future__ import annotations

import os
import re
from typing import Final

from alpaca_labeler import storage

_DRIVES: Final = re.compile(r"/|/(mnt|Volumes)|/(run/)?media(/[^/]+)?")
"""Where systems put drives that can be taken away."""


class Places:
    """The photos of one manifest."""

    def __init__(self, manifest: str) -> None:
        # A manifest that is a link means the folder that the file itself lies in.
        real = os.path.realpath(manifest) if os.path.islink(manifest) else manifest
        self._typed = os.path.dirname(os.path.abspath(real))
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

    def path(self, source_ref: str) -> str:
        """Return the path of a file by its name."""
        return os.path.join(self.folder, storage.to_path(source_ref))

    def is_gone(self, source_ref: str) -> bool:
        """Tell whether a file is no longer there. One on a drive that is away may still be."""
        path = self.path(source_ref)
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return not _is_on_a_drive(path)
        except (OSError, ValueError):
            return False
        return False


def _is_on_a_drive(path: str) -> bool:
    """Tell whether a file that is not there may be on a drive that is not connected.

    Where a drive was, there is an empty folder, or none in a place where systems put drives.
    """
    folder = os.path.dirname(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        return bool(_DRIVES.fullmatch(folder)) or not os.listdir(folder)
    except OSError:
        return True

"""Labelled photos sorted into a folder per label, as copies or hard links.

What was put there is noted in `RECORD`, with its size and date. Sorted again, a photo whose label
has changed moves, and one that was changed itself is copied again. A file that is not as it was
noted is somebody else's, and is left alone.
"""

from __future__ import annotations

import errno
import filecmp
import json
import os
import re
import shutil
import stat
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from alpaca_labeler.console import printable
from alpaca_labeler.console.output import replaced
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.table.places import Places
from alpaca_labeler.table.row import Row

RECORD: Final = ".alpaca-sorted.jsonl"
"""The file in the target that says, line by line, what was put where."""

_UNSAFE: Final = re.compile(r'[%/\\:*?"<>|\x00-\x1f\x7f-\x9f\ud800-\udfff]|^[. ]|[. ]\Z')
"""What leads elsewhere, or what some system does not allow in the name of a folder."""

_Noted = tuple[str, int, int]
"""The folder of a label, and the size (bytes) and date (ns) of the file that was put there."""


@dataclass(slots=True)
class Sorted:
    """What was done."""

    target: str
    photos: int = 0
    """Photos that are under their label now."""
    moved: int = 0
    """Photos of these that lay under another label before."""
    in_the_way: int = 0
    """Photos that were not sorted: another file has their name."""
    removed: int = 0
    """Copies of photos that are gone."""

    def __str__(self) -> str:
        text = f"{self.photos:,} sorted into {printable(self.target)}, {self.moved:,} moved"
        if self.removed:
            text += f", {self.removed:,} removed"
        if self.in_the_way:
            text += f"; {self.in_the_way:,} not: another file has the name there"
        return text


class Sorter:
    """A folder that labelled files are sorted into. A context manager: it keeps the record open."""

    def __init__(self, places: Places, paths: Sequence[str], target: str, *, link: bool) -> None:
        """Sort the files below `paths`, with their folders, into `target`/LABEL/.

        Two of `paths` with the same last name get folders of their own.
        """
        self._places = places
        self._tops = _names(paths, places)
        self._target = target.rstrip(os.sep) or os.sep
        self._link = link
        self.done = Sorted(os.path.join(self._target, ""))

    def __enter__(self) -> Self:
        """Make the folder and read its record. Raises `OSError`."""
        os.makedirs(self._target, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        record = os.open(os.path.join(self._target, RECORD), flags, 0o666)
        self._file = open(record, "r+", encoding="utf-8")
        self._record: dict[str, _Noted] = {}
        for line in self._file:
            with suppress(ValueError, TypeError):  # not written to its end, or not by us
                inside, folder, size, date = json.loads(line)
                self._record[inside] = folder, size, date
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def sort(self, rows: Iterable[Row]) -> None:
        """Put all photos of a table in their places, and count them. Raises as `put`."""
        self.done = Sorted(self.done.target, moved=self.done.moved)
        for row in rows:
            self.put(row)

    def prune(self) -> None:
        """Remove the copies of photos that are gone from below `paths`. Raises `OSError`."""
        paths = {name: top for top, name in self._tops.items()}
        for inside, noted in self._record.items():
            name, _, below = inside.partition(os.sep)
            source = os.path.join(paths.get(name, ""), below).rstrip(os.sep)
            if (
                name in paths
                and self._places.is_gone(source)
                and _is_as_noted(self._target, inside, noted)
            ):
                _take_away(self._target, os.path.join(self._target, noted[0], inside))
                self.done.removed += 1

    def put(self, row: Row) -> None:
        """Put a photo in its place, if it has a label. Raises `OSError` and `LabelerError`."""
        source = self._places.path(row.source_ref)
        above = (top for top in self._tops if f"{source}/".startswith(os.path.join(top, "")))
        top = next(above, None)
        if row.label is None or top is None or not os.path.isfile(source):
            return
        inside = "" if source == top else os.path.relpath(source, top)
        inside = os.path.join(self._tops[top], inside).rstrip(os.sep)
        folder = folder_name(row.label)
        place = os.path.join(self._target, folder, inside)
        noted = self._record.get(inside)
        ours = noted is not None and _is_as_noted(self._target, inside, noted)
        before = noted[0] if noted and ours else folder
        is_there = os.path.lexists(place)
        is_same = is_there and _is_same(source, place)
        if is_there and not is_same and not (ours and before == folder):
            self.done.in_the_way += 1
            return
        if before != folder:
            _take_away(self._target, os.path.join(self._target, before, inside))
            self.done.moved += 1
        if not is_same:
            _put(source, place, link=self._link)
        self.done.photos += 1
        if (now := (folder, *_facts(os.lstat(place)))) != noted:
            self._record[inside] = now
            self._file.write(f"\n{json.dumps([inside, *now])}\n")
            self._file.flush()


def folder_name(label: str) -> str:
    """Return the folder of a label: the label itself, in any script.

    A manifest is not trusted to name a folder: what is unsafe is percent-encoded, so that two
    labels never share a folder.
    """
    name = unicodedata.normalize("NFC", label)
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", name) or "unnamed"


def _names(paths: Sequence[str], places: Places) -> dict[str, str]:
    """What each path is called in the target, the longest path first."""
    names: dict[str, str] = {}
    for path in paths:
        if (top := places.absolute(path)) in names:
            continue
        stem, suffix = os.path.splitext(os.path.basename(os.path.abspath(path)))
        name = stem + suffix
        number = 1
        while name in names.values():
            number += 1
            name = f"{stem}-{number}{suffix}"
        names[top] = name
    return {top: names[top] for top in sorted(names, key=len, reverse=True)}


def _is_as_noted(target: str, inside: str, noted: _Noted) -> bool:
    """Tell whether what was put there is there, and not what somebody has put in its place."""
    folder, *facts = noted
    # A linked folder may lead to the photo itself.
    real = os.path.join(os.path.realpath(target), folder, inside)
    place = os.path.join(target, folder, inside)
    return (
        os.path.lexists(place)
        and os.path.realpath(place) == real
        and [*_facts(os.lstat(place))] == facts
    )


def _facts(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _is_same(source: str, place: str) -> bool:
    there, here = os.lstat(place), os.stat(source)
    if not stat.S_ISREG(there.st_mode) or there.st_size != here.st_size:
        return False
    return _facts(there) == _facts(here) or filecmp.cmp(source, place, shallow=False)


def _put(source: str, place: str, *, link: bool) -> None:
    os.makedirs(os.path.dirname(place), exist_ok=True)
    try:
        with replaced(place) as temporary:
            if link:
                os.link(os.path.realpath(source), temporary)
            else:
                with open(source, "rb") as photo, open(temporary, "xb") as copy:
                    shutil.copyfileobj(photo, copy)
                shutil.copystat(source, temporary)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise LabelerError(
                f"{source}: hard links cannot lead to another drive: leave out --link, or name a "
                "folder there"
            ) from error
        raise OSError(error.errno, error.strerror, place) from error


def _take_away(target: str, place: str) -> None:
    """Remove a copy, and the folders that this leaves empty."""
    os.unlink(place)
    with suppress(OSError):  # not empty
        while (place := os.path.dirname(place)) != target:
            os.rmdir(place)

"""Labelled photos sorted into a folder per label, as copies or hard links.

Sorted again, a photo moves: our copy under its former label goes. Nothing else is ever touched.
"""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alpaca_labeler.console import printable
from alpaca_labeler.handler import manifest_row
from alpaca_labeler.handler.errors import LabelerError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from alpaca_labeler.handler.manifest_row import Row
    from alpaca_labeler.table.places import Places

ACROSS_DRIVES = "hard links cannot lead to another drive: leave out --link, or name a folder there"


class SortError(LabelerError):
    """Photos cannot be sorted there. The message names the file and the remedy."""


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

    def as_dict(self) -> dict[str, int]:
        """Return the counts."""
        return {"photos": self.photos, "moved": self.moved, "in_the_way": self.in_the_way}

    def __str__(self) -> str:
        target = printable(self.target)
        text = f"{self.photos:,} sorted into {target}, {self.moved:,} moved"
        if self.in_the_way:
            text += f"; {self.in_the_way:,} not: another file has the name there"
        return text


def check_links(paths: Sequence[str], target: str) -> None:
    """Raise `SortError` if hard links to photos below `paths` cannot be made in `target`."""
    there = os.path.abspath(target)
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    for path in paths:
        if os.stat(path).st_dev != os.stat(there).st_dev:
            raise SortError(f"{target}: {ACROSS_DRIVES}")


def sort(
    rows: Iterable[Row],
    places: Places,
    paths: Sequence[str],
    target: str,
    labels: Iterable[str],
    *,
    link: bool,
) -> Sorted:
    """Copy each labelled file below `paths` to `target`/LABEL/, with its folders.

    Two of `paths` with the same last name get folders of their own. `labels` are those under which
    a photo may be from an earlier run. Raises `OSError` and `SortError`.
    """
    target = target.rstrip(os.sep) or os.sep
    done = Sorted(os.path.join(target, ""))
    tops = _names(paths, places)
    folders = {folder_name(label) for label in labels}
    for row in rows:
        source = places.path(row["source-ref"])
        top = next((top for top in tops if _is_below(source, top)), None)
        if top is None or not os.path.isfile(source):
            continue
        inside = "" if source == top else os.path.relpath(source, top)
        inside = os.path.join(tops[top], inside).rstrip(os.sep)
        folder = folder_name(manifest_row.label(row) or "")
        if not _put(source, os.path.join(target, folder, inside), link=link):
            done.in_the_way += 1
            continue
        done.photos += 1
        done.moved += _take_away(source, target, folders - {folder}, inside)
    return done


def folder_name(label: str) -> str:
    """Return the folder of a label: the label itself, in any script.

    A manifest is not trusted to name a folder: what leads elsewhere, or what some system does not
    allow in a name, is percent-encoded, so that two labels never share a folder.
    """
    name = unicodedata.normalize("NFC", label)
    safe = "".join(
        f"%{ord(c):02X}" if c in '%/\\:*?"<>|' or unicodedata.category(c) in {"Cc", "Cs"} else c
        for c in name
    )
    if safe[:1] in {".", " "}:
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    if safe[-1:] in {".", " "}:
        safe = f"{safe[:-1]}%{ord(safe[-1]):02X}"
    return safe or "unnamed"


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


def _is_below(source: str, top: str) -> bool:
    return source == top or source.startswith(os.path.join(top, ""))


def _put(source: str, place: str, *, link: bool) -> bool:
    """Put a copy or link there; tell whether it is there now, and not another file."""
    if os.path.lexists(place):
        there, here = os.lstat(place), os.stat(source)
        unchanged = (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns)
        return unchanged or _is_ours(source, place)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    try:
        if link:
            os.link(os.path.realpath(source), place)
        else:
            shutil.copy2(source, place)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise SortError(f"{source}: {ACROSS_DRIVES}") from error
        raise
    return True


def _is_ours(source: str, place: str) -> bool:
    there, here = os.lstat(place), os.stat(source)
    if not stat.S_ISREG(there.st_mode):
        return False
    return os.path.samestat(there, here) or (
        there.st_size == here.st_size and filecmp.cmp(source, place, shallow=False)
    )


def _take_away(source: str, target: str, folders: Collection[str], inside: str) -> bool:
    """Remove our copies under other labels, and the folders that this leaves empty."""
    moved = False
    for folder in folders:
        place = os.path.join(target, folder, inside)
        # A linked folder may lead to the photo itself.
        real = os.path.join(os.path.realpath(target), folder, inside)
        if (
            not os.path.lexists(place)
            or os.path.realpath(place) != real
            or not _is_ours(source, place)
        ):
            continue
        os.unlink(place)
        moved = True
        parent = os.path.dirname(place)
        with suppress(OSError):  # not empty
            while parent != target:
                os.rmdir(parent)
                parent = os.path.dirname(parent)
    return moved

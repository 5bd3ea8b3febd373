"""Labelled photos sorted into a folder per label, as copies or hard links; never moved."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from alpaca_labeler.handler import manifest_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from alpaca_labeler.handler.manifest_row import Row
    from alpaca_labeler.table.places import Places


def copy(
    rows: Iterable[Row], places: Places, paths: Sequence[str], target: str, *, link: bool
) -> None:
    """Copy each labelled file below `paths` to `target`/LABEL/, with its folders.

    Two of `paths` with the same last name get folders of their own. A copy that is there already,
    of the same size and time, is left as it is. Raises `OSError`.
    """
    tops = _names(paths, places)
    for row in rows:
        source = places.path(row["source-ref"])
        top = next((top for top in tops if _is_below(source, top)), None)
        if top is None or not os.path.isfile(source):
            continue
        inside = "" if source == top else os.path.relpath(source, top)
        folder = _folder_name(manifest_row.label(row))
        place = os.path.join(target, folder, tops[top], inside).rstrip(os.sep)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        _put(source, place, link=link)


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


def _put(source: str, place: str, *, link: bool) -> None:
    if os.path.lexists(place):
        there, here = os.lstat(place), os.stat(source)
        if (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns):
            return
        os.unlink(place)
    if link:
        os.link(os.path.realpath(source), place)
    else:
        shutil.copy2(source, place)


def _folder_name(label: object) -> str:
    # A manifest is not trusted to name a folder: no separator, no dot that leads upwards.
    return re.sub(r"[^\w -]", "_", str(label)).strip() or "unnamed"

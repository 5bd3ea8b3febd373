"""Labelled photos sorted into a folder per label, as copies or hard links; never moved."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

from handler import manifest, storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from handler.manifest import Row


def copy(rows: Iterable[Row], paths: Sequence[str], target: str, *, link: bool) -> None:
    """Copy each labelled file below `paths` to `target`/LABEL/, with its folders.

    A copy that is there already, of the same size and time, is left as it is. Raises `OSError`.
    """
    tops = {os.path.abspath(path) for path in paths}
    for row in rows:
        source = os.path.abspath(storage.to_path(row["source-ref"]))
        top = next((top for top in tops if source == top or source.startswith(top + os.sep)), None)
        if top is None or not os.path.isfile(source):
            continue
        inside = os.path.basename(source) if source == top else os.path.relpath(source, top)
        folder = _folder_name(manifest.metadata(row).get("class-name"))
        place = os.path.join(target, folder, os.path.basename(top) if source != top else "", inside)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        _put(source, place, link=link)


def _put(source: str, place: str, *, link: bool) -> None:
    if os.path.exists(place):
        there, here = os.stat(place), os.stat(source)
        if (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns):
            return
        os.unlink(place)
    if link:
        os.link(source, place)
    else:
        shutil.copy2(source, place)


def _folder_name(label: object) -> str:
    # A manifest is not trusted to name a folder: no separator, no dot that leads upwards.
    return re.sub(r"[^\w -]", "_", str(label)).strip() or "unnamed"

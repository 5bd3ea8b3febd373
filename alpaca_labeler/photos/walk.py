"""The one way through folders on disk, for labelling and for training alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from alpaca_labeler.photos import skip
from alpaca_labeler.photos.skip import Kind, Skip


class _Place(NamedTuple):
    """A folder or a file."""

    path: str
    real: str
    top: str
    """The path of the folder, or of the link to one, that the search began with."""
    below: str
    """The path from `top` to here."""


def files(
    tops: Sequence[str],
    skipped: Callable[[Skip], None],
    unreadable: Callable[[str], None],
    *,
    apart: Collection[str] = (),
) -> Iterator[os.DirEntry[str]]:
    """Find the files below the folders `tops` that `photos.skip` does not skip by name.

    They come in the order in which the disk has them. Files of `Kind.OTHER` are included: the
    caller decides by reading them. What lies at the real paths `apart` is left out. `skipped` is
    called for everything else that is skipped, `unreadable` for each folder that cannot be listed.

    Links to files are followed. Links to folders are followed too, after all real folders, unless
    their target was read already or contains a top: so loops end, and no photo is found twice.
    """
    waiting = [_top(path) for path in reversed(tops)]
    read = {top.real for top in waiting}
    around = {str(above) for real in read for above in Path(real).parents}
    links: list[_Place] = []
    while waiting:
        folder = waiting.pop()
        for entry in _entries(folder.path, unreadable):
            real, below = (os.path.join(to, entry.name) for to in (folder.real, folder.below))
            if real in apart:
                continue
            is_folder = _is_folder(entry)
            by_name = skip.by_folder if is_folder else skip.by_path
            found = by_name(below, real[: -len(below) - 1])
            if found and found.kind is not Kind.OTHER:
                skipped(Skip(found.kind, os.path.join(folder.top, found.place)))
            elif not is_folder:
                yield entry
            elif entry.is_symlink():
                links.append(_top(entry.path))
            elif real not in read:
                read.add(real)
                waiting.append(_Place(entry.path, real, folder.top, below))
        links.sort(key=lambda link: (link.real, link.path), reverse=True)
        while links and not waiting:
            link = links.pop()  # an outer folder before those inside it
            if link.real in read or link.real in around:
                skipped(Skip(Kind.LINK, link.path))
            else:
                read.add(link.real)
                waiting.append(link)


def _entries(folder: str, unreadable: Callable[[str], None]) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:  # also in the middle: a network drive may drop out
        unreadable(folder)


def _top(path: str) -> _Place:
    return _Place(path, os.path.realpath(path), path, "")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False

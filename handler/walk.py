"""The one way through folders on disk, for labelling and for training alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence

from . import skip
from .skip import Kind, Skip


def files(
    tops: Sequence[str],
    skipped: Callable[[Skip], None],
    unreadable: Callable[[str], None],
    *,
    apart: Collection[str] = (),
) -> Iterator[os.DirEntry[str]]:
    """Find the files below the folders `tops` that `handler.skip` does not skip by name.

    They come in the order in which the disk has them. Files of `Kind.OTHER` are included: the
    caller decides by reading them. What lies at the real paths `apart` is left out. `skipped` is
    called for everything else that is skipped, `unreadable` for each folder that cannot be listed.

    Links to files are followed. Links to folders are followed too, after all real folders, unless
    they lead into a folder that is read anyway, or to one that contains it: so loops end, and no
    photo is found twice.
    """
    roots = _Roots(tops)
    # Stacks of names, not of open folders or sorted lists: memory stays flat in any folder.
    waiting = [*reversed(tops)]
    links: list[str] = []
    while waiting:
        folder = waiting.pop()
        try:
            entries = os.scandir(folder)
        except OSError:
            unreadable(folder)
        else:
            parent = os.path.basename(os.path.abspath(folder))
            real = os.path.realpath(folder) if apart else ""
            with entries:
                for entry in entries:
                    if apart and os.path.join(real, entry.name) in apart:
                        continue
                    folders = links if entry.is_symlink() else waiting
                    yield from _sort_out(entry, parent, folders, skipped)
        if not waiting:
            # An outer folder before those inside it.
            for link in sorted(links, key=lambda link: (os.path.realpath(link), link)):
                if roots.add(link):
                    waiting.append(link)
                else:
                    skipped(Skip(Kind.LINK, link))
            links.clear()


def _sort_out(
    entry: os.DirEntry[str], parent: str, folders: list[str], skipped: Callable[[Skip], None]
) -> Iterator[os.DirEntry[str]]:
    try:
        is_folder = entry.is_dir()
    except OSError:  # a link to itself
        is_folder = False
    kind = skip.of_folder(entry.name, parent) if is_folder else skip.of_file(entry.name)
    if kind and kind is not Kind.OTHER:
        skipped(Skip(kind, entry.path))
    elif is_folder:
        folders.append(entry.path)
    else:
        yield entry


class _Roots:
    """Folders that are read with all that is in them, by their real paths."""

    def __init__(self, tops: Sequence[str]) -> None:
        self._roots = set(map(os.path.realpath, tops))
        self._around = {above for root in self._roots for above in _and_above(root)}

    def add(self, link: str) -> bool:
        """Add the target of a link; False if it is read anyway, or contains such a folder."""
        target = os.path.realpath(link)
        if target in self._around or any(
            root in self._roots and skip.by_path(f"{os.path.relpath(target, root)}/x.jpg") is None
            for root in _and_above(target)
        ):
            return False
        self._roots.add(target)
        self._around.update(_and_above(target))
        return True


def _and_above(path: str) -> Iterator[str]:
    yield path
    while path != (path := os.path.dirname(path)):
        yield path

"""From what a person types (files, folders, `s3://` prefixes) to the images that are meant."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from alpaca_labeler.handler import storage
from alpaca_labeler.handler.image_version import ImageVersion

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

SUFFIXES: Final = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .avif .heic .heif".split()
)

SNIFFED_BYTES: Final = 32


@dataclass(slots=True)
class Skipped:
    """What was passed over while looking for images."""

    others: int = 0
    """Files in folders that are no images by name or content, and hidden ones."""
    folders: list[str] = field(default_factory=list)
    """Folders that cannot be read."""


def find(paths: Sequence[str], skipped: Skipped) -> Iterator[ImageVersion]:
    """List the images below `paths`, one after the other as they are found.

    A path that names a file is an image whatever it is called. In folders, files count that are
    called like one or begin like one; hidden files and linked folders are not followed.

    Paths that overlap give each image once.

    Raises `StorageError` for a path that does not exist.
    """
    named = {path if path.strip("/") == "" else path.rstrip("/"): path for path in paths}
    for name, path in named.items():
        if storage.is_s3(path):
            if not any(_is_within(path, other) for other in named.values()):
                yield from _objects(path, skipped)
        elif os.path.isdir(path):
            yield from _folder(path, skipped, named.keys() - {name})
        else:
            yield _file(path)


def _is_within(uri: str, other: str) -> bool:
    return storage.is_s3(other) and uri != other and uri.startswith(other)


def _objects(uri: str, skipped: Skipped) -> Iterator[ImageVersion]:
    for item in storage.list_objects(uri):
        name = item.source_ref.rsplit("/", 1)[-1]
        suffix = os.path.splitext(name)[1].lower()
        # Keys without a suffix are common in buckets; one that ends with "/" marks a folder.
        if name and not name.startswith(".") and (suffix in SUFFIXES or not suffix):
            yield item
        else:
            skipped.others += 1


def _folder(top: str, skipped: Skipped, elsewhere: Collection[str]) -> Iterator[ImageVersion]:
    # A stack of names, not of open folders or sorted lists: memory stays flat in a folder of any
    # size.
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            entries = os.scandir(folder)
        except OSError:
            skipped.folders.append(folder)
            continue
        with entries:
            for entry in entries:
                if entry.path in elsewhere:
                    continue
                if entry.name.startswith("."):
                    skipped.others += 1
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield from _entry(entry, skipped)


def _entry(entry: os.DirEntry[str], skipped: Skipped) -> Iterator[ImageVersion]:
    named = os.path.splitext(entry.name)[1].lower() in SUFFIXES
    try:
        status = entry.stat()
    except OSError:  # a dangling link, a loop of links, or a file that has just gone
        status = None
    if status is not None and not stat.S_ISREG(status.st_mode):
        skipped.others += 1
    elif named or (status is not None and _begins_like_an_image(entry.path)):
        yield _version(entry.path, status)
    else:
        skipped.others += 1


def _file(path: str) -> ImageVersion:
    try:
        return _version(path, os.stat(path))
    except FileNotFoundError:
        raise storage.NotFound(f"{path}: there is no such file or folder") from None
    except (OSError, ValueError):  # what is wrong with it is the labeler's to say, in a failure row
        return _version(path, None)


def _version(path: str, status: os.stat_result | None) -> ImageVersion:
    source_ref = storage.to_source_ref(path)
    if status is None:
        return ImageVersion(source_ref)
    return ImageVersion(source_ref, status.st_size, storage.file_time(status.st_mtime_ns))


def _begins_like_an_image(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:
            start = file.read(SNIFFED_BYTES)
    except OSError:
        return False
    return (
        start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"II*\0", b"MM\0*"))
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or (start[4:8] == b"ftyp" and start[8:12] in {b"avif", b"heic", b"heix", b"mif1"})
    )

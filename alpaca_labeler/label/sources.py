"""Find the images that files, folders and `s3://` prefixes on the command line stand for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from alpaca_labeler import storage
from alpaca_labeler.photos import skip, walk
from alpaca_labeler.photos.skip import Kind, Skip, Skipped
from alpaca_labeler.storage import files
from alpaca_labeler.storage.image_version import ImageVersion


def find(paths: Sequence[str], skipped: Skipped) -> Iterator[ImageVersion]:
    """List the images below `paths`, one after the other as they are found.

    A path that names a file is an image whatever it is called. Below folders and prefixes
    `photos.skip` decides; in folders also files that begin like a photo count.

    Paths that overlap, or are several ways to write one place, give each image once.

    Raises `StorageError` for a path that does not exist or cannot be looked at.
    """
    named: dict[str, str] = {}
    for path in paths:
        named.setdefault(path if storage.is_s3(path) else place(path), path)
    folders = []
    for path in named.values():
        if storage.is_s3(path):
            if not any(path != other and path.startswith(other) for other in named):
                yield from _objects(path, skipped)
        elif (status := _status(path)) and stat.S_ISDIR(status.st_mode):
            folders.append(path)
        else:
            yield _version(path, status)
    apart = frozenset(named) if len(named) > 1 else frozenset()
    for entry in walk.files(folders, skipped.add, skipped.folders.append, apart=apart):
        yield from _entry(entry, skipped)


def place(path: str) -> str:
    """Return where a path leads. A link to a file stays one: it is a photo of its own."""
    if os.path.isdir(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _objects(uri: str, skipped: Skipped) -> Iterator[ImageVersion]:
    named = uri.rpartition("/")[0] + "/"
    for item in storage.list_objects(uri, missing_ok=False):
        found = skip.by_path(item.source_ref[len(named) :])
        if found is None or item.source_ref == uri:
            yield item
        else:
            skipped.add(Skip(found.kind, named + found.place))


def _entry(entry: os.DirEntry[str], skipped: Skipped) -> Iterator[ImageVersion]:
    named = os.path.splitext(entry.name)[1].lower() in skip.SUFFIXES
    try:
        status = entry.stat()
    except OSError:  # a dangling link, a loop of links, or a file that has just gone
        status = None
    if status is not None and not stat.S_ISREG(status.st_mode):
        skipped.add(Skip(Kind.OTHER, entry.path))
    elif named or (status is not None and _begins_like_a_photo(entry.path)):
        yield _version(entry.path, status)
    else:
        skipped.add(Skip(Kind.OTHER, entry.path))


def _status(path: str) -> os.stat_result | None:
    """Return what is at a path; None for a link that leads in a circle. Raises `StorageError`."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        raise storage.NotFound(f"{path}: there is no such file or folder") from None
    except (OSError, ValueError) as error:
        if os.path.islink(path):  # the labeler says what is wrong with it, in a failure row
            return None
        # The mount of a folder may be dead. That is no verdict on a photo.
        why = error.strerror if isinstance(error, OSError) else error
        raise storage.Unavailable(f"{path}: cannot be read ({why})") from error


def _version(path: str, status: os.stat_result | None) -> ImageVersion:
    source_ref = storage.to_source_ref(path)
    if status is None:
        return ImageVersion(source_ref)
    return ImageVersion(source_ref, status.st_size, files.file_time(status.st_mtime_ns))


def _begins_like_a_photo(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:
            return skip.begins_like_a_photo(file.read(skip.SNIFFED_BYTES))
    except OSError:
        return False

"""Files of JSON lines that several processes append to: locked, repaired, written line by line.

A lock is the system's own, on the open file: it ends with the process that holds it, however that
ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from typing import IO, Final, Literal

from alpaca_labeler import console
from alpaca_labeler.table import manifest_row, merge
from alpaca_labeler.table.manifest_row import ManifestError

_TAIL: Final = merge.MAX_LINE_BYTES

_ROW_START: Final = b'{"source-ref":'
"""How every row begins that `manifest_row.encode` has written, or the start of one."""

_PAUSE: Final = 0.005  # seconds between two tries for a lock

_NOT_ON_THIS_DRIVE: Final = frozenset(
    {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EPERM}
)
"""Errors of drives, such as network drives, that do not support an operation."""

_warned: set[str] = set()


def beside(manifest: str, kind: Literal["failures", "corrections"]) -> str:
    """Return the path of a manifest's failures or corrections.

    >>> beside("farm/manifest.jsonl", "failures"), beside("farm/goats.jsonl", "failures")
    ('farm/failures.jsonl', 'farm/goats.failures.jsonl')
    """
    folder, name = os.path.split(resolved(manifest))
    stem = "" if name == "manifest.jsonl" else f"{name.removesuffix('.jsonl')}."
    return os.path.join(folder, f"{stem}{kind}.jsonl")


def resolved(path: str) -> str:
    """Return the file that a link leads to, for a link stays a link; any other path as it is."""
    return os.path.realpath(path) if os.path.islink(path) else path


def open_locked(path: str, *, patience: float = 0.0) -> IO[bytes]:
    """Open a file for reading and appending, made if it is not there, and lock it.

    `patience` is how many seconds another process may keep it locked. Raises `BlockingIOError`
    after that, and `OSError` if the file cannot be written.
    """
    ends = time.monotonic() + patience
    while True:
        handle = open(path, "ab+", buffering=0)  # noqa: SIM115 - handed to the caller
        try:
            lock(handle, fcntl.LOCK_EX, ends)
        except BaseException:
            handle.close()
            raise
        if is_named(handle, path):
            return handle
        handle.close()  # another process put a new file in its place just now


def lock(handle: IO[bytes], kind: int, ends: float) -> None:
    """Lock an open file (`LOCK_EX`, `LOCK_SH`) before `ends` of `time.monotonic`.

    On a drive that has no locks, go on without one and say so once. Raises `BlockingIOError`.
    """
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends:
                raise
            time.sleep(_PAUSE)
        except OSError as error:
            if error.errno not in _NOT_ON_THIS_DRIVE:
                raise
            folder = os.path.dirname(os.path.abspath(handle.name))
            if folder not in _warned:
                _warned.add(folder)
                console.say(
                    f"{console.printable(folder)}: this drive cannot lock files. Do not let two "
                    "commands write here at the same time."
                )
            return
        else:
            return


def is_named(handle: IO[bytes], path: str) -> bool:
    """Tell whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def repair(handle: IO[bytes]) -> None:
    """Cut off a last line that a kill or a full disk has truncated. The file is open and locked.

    Raises `ManifestError` if the end is not a row's: somebody else's file, to be left as it is.
    """
    size = os.fstat(handle.fileno()).st_size
    if size == 0 or os.pread(handle.fileno(), 1, size - 1) == b"\n":
        return
    start = max(0, size - _TAIL)
    tail = os.pread(handle.fileno(), size - start, start).rpartition(b"\n")[2]
    manifest_row.check_encoding(os.pread(handle.fileno(), 4, 0))
    if not tail.startswith(_ROW_START[: len(tail)]):
        raise ManifestError("not a manifest, by its end; name another file")
    try:
        manifest_row.parse(tail)
    except ManifestError:
        os.ftruncate(handle.fileno(), size - len(tail))
    else:
        write(handle, b"\n")


def sync(file: IO[bytes]) -> None:
    """Have what was written survive a loss of power, if the drive can promise that."""
    file.flush()
    _sync(file.fileno())


def sync_folder(path: str) -> None:
    """Have the name of a new file survive a loss of power, if the drive can promise that."""
    try:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    except OSError:  # some drives do not open folders
        return
    try:
        _sync(folder)
    finally:
        os.close(folder)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_ON_THIS_DRIVE:
            raise


def keep_mode(old: IO[bytes], new_path: str) -> None:
    """Give a file's successor its permissions, on a drive that has such a thing."""
    try:
        os.chmod(new_path, os.fstat(old.fileno()).st_mode & 0o777)
    except OSError as error:
        if error.errno not in _NOT_ON_THIS_DRIVE:
            raise


def write(handle: IO[bytes], line: bytes) -> None:
    """Append a line. A full disk or a limit takes a part, and refuses only what comes after."""
    rest = memoryview(line)
    while rest:
        rest = rest[handle.write(rest) :]


def new_name(path: str) -> str:
    """Return the name under which a file's successor is written, beside it."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.new")

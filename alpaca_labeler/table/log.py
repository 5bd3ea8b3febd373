"""A folder's table: one file of rows that runs, watches and review pages append to.

Anyone who has rows to say appends them, in one write under a short lock, and every reader merges
what it finds. A run that ends settles the file: sorted, one row per photo, written beside it and
renamed over it. Nothing is lost if anything is killed at any moment, because there is only one
file, and a row that is merged twice is merged once.

Locks are the system's own, on two bytes far behind the end of the file. They end with the process
that holds them, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import logging
import os
import stat
import struct
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Final, Self

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.table import lines
from alpaca_labeler.table.lines import MAX_LINE_BYTES, Keyed, Poll
from alpaca_labeler.table.row import ManifestError, Row, check_encoding

APPENDING: Final = 0
"""Lock of a writer: for the time of one write, or of replacing the file."""
RUNNING: Final = 1
"""Lock of a labelling run, of which there is one at a time."""
_LOCKED_BYTES: Final = 2**62

PATIENCE: Final = 30.0
"""Seconds to wait for another process's write, which takes milliseconds."""
_PAUSE: Final = 0.005

_NO_LOCKS: Final = frozenset(
    {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EPERM}
)
"""Errors of drives, such as network drives, that do not support an operation."""
_NO_RENAME: Final = frozenset({errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS})
"""Errors if the file may be written but not replaced: mounted alone, or in a folder of others."""

_ROW_START: Final = b'{"source-ref":'

logger: Final = logging.getLogger(__name__)


class LogError(LabelerError):
    """The manifest cannot be used. The message names the file and the remedy."""


# --- reading -------------------------------------------------------------------------------------


def read(path: str) -> Iterator[Keyed]:
    """Yield one row per photo, sorted by `source-ref`. A file that is not there has none.

    Raises `ManifestError` naming file and line, and `OSError`.
    """
    if os.path.exists(path):
        with open(path, "rb") as file:
            yield from _merged(file, path, _end_of_rows(file, path))


def follow(path: str) -> Poll:
    """Begin to follow what is appended from here on. Raises `OSError`."""
    file = open(path, "rb")  # noqa: SIM115 - closed with what is returned
    end = 0

    def poll() -> tuple[list[Row], bool]:
        nonlocal end
        start, end = end, _end_of_rows(file, path)
        file.seek(start)
        rows = [Row.from_line(line) for _, line in lines.read(file, path, end)]
        return rows, not _is_named(file, path)

    weakref.finalize(poll, file.close)
    end = _end_of_rows(file, path)
    return poll


def _merged(file: IO[bytes], path: str, end: int) -> Iterator[Keyed]:
    """Merge the rows up to `end`: the first ones, which are in order, and those appended since."""
    before, middle, rows = "", 0, 0
    file.seek(0)
    for name, _ in lines.read(file, path, end):
        if name < before:
            break
        before, middle, rows = name, file.tell(), rows + 1
    file.seek(middle)
    appended = lines.sort(lines.read(file, path, end, first=rows + 1))
    file.seek(0)
    yield from lines.merge(lines.read(file, path, middle), appended)


def _is_settled(file: IO[bytes], path: str, keep: Callable[[Keyed], bool]) -> bool:
    """Tell whether a file is what `settle` would write."""
    before, left = "", os.fstat(file.fileno()).st_size
    with open(file.fileno(), "rb", closefd=False) as rows:
        rows.seek(0)
        for row in lines.read(rows, path, _whole(file, left)):
            if row[0] <= before or lines.OPEN_DECISION in row[1] or not keep(row):
                return False
            before, left = row[0], left - len(row[1])
    return not left


def _end_of_rows(file: IO[bytes], path: str) -> int:
    """Return the offset at which whole rows end, and say so if anything follows."""
    with _locked(file, fcntl.F_RDLCK, PATIENCE):
        size = os.fstat(file.fileno()).st_size
        end = _whole(file, size)
    if end < size:
        logger.warning(
            "%s: the last %s bytes are no row, cut short by a full disk or a loss of power; they "
            "do not count",
            path,
            f"{size - end:,}",
        )
    return end


def _whole(file: IO[bytes], size: int) -> int:
    """Return where the last row ends that is whole: a cut row or a tail of zeros may follow it."""
    if size and os.pread(file.fileno(), 1, size - 1) == b"\n":
        return size
    tail = b""
    while size and not tail:
        start = max(0, size - MAX_LINE_BYTES)
        tail = os.pread(file.fileno(), size - start, start).rstrip(b"\0")
        size = start + len(tail)
    start = max(0, size - MAX_LINE_BYTES)
    last = os.pread(file.fileno(), size - start, start).rpartition(b"\n")[2]
    with suppress(ManifestError):
        if last:
            Row.from_line(last)
        return size
    check_encoding(os.pread(file.fileno(), 4, 0))
    if not last.startswith(_ROW_START[: len(last)]):
        raise ManifestError(f"{file.name}: not a manifest, by its end; name another file")
    return size - len(last)


# --- writing -------------------------------------------------------------------------------------


def write(path: str, rows: Iterable[Row]) -> None:
    """Append rows that survive a loss of power. Raises `LogError` and `OSError`."""
    with Log(path) as table:
        table.append(rows, sync=True)


class Log:
    """A folder's table, for writing. A context manager: leaving it closes the file."""

    def __init__(self, path: str) -> None:
        """The file appears with its first row."""
        self.path = os.path.realpath(path) if os.path.islink(path) else path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; a file without rows is removed, unless another run is about to write some."""
        if self._file is None:
            return
        is_empty = os.fstat(self._file.fileno()).st_size == 0 and _is_named(self._file, self.path)
        if is_empty and _lock(self._file, fcntl.F_WRLCK, RUNNING, 0.0):
            os.unlink(self.path)
        self._file.close()

    def run(self) -> None:
        """Be the only labelling run until this is closed. Raises `LogError`."""
        with self._open():
            if self._file is not None and not _lock(self._file, fcntl.F_WRLCK, RUNNING, 0.0):
                raise LogError(
                    f"{self.path}: another run is writing it; wait for it, or name another manifest"
                )

    def append(self, rows: Iterable[Row], *, sync: bool = False) -> None:
        """Append rows; with `sync` they survive a loss of power. Raises `LogError`, `OSError`."""
        data = b"".join(row.to_line() for row in rows)
        with self._open() as file:
            size = os.fstat(file.fileno()).st_size
            end = _whole(file, size)
            if end < size:
                os.ftruncate(file.fileno(), end)
            if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                data = b"\n" + data
            rest = memoryview(data)
            try:
                while rest:  # a full disk takes a part, and refuses only what comes after
                    rest = rest[file.write(rest) :]
                if sync:
                    _sync(file)
            except OSError:
                os.ftruncate(file.fileno(), end)  # all of it or nothing
                raise

    def settle(self, keep: Callable[[Keyed], bool] = lambda _: True) -> bool:
        """Replace the file by one sorted row per photo, of those that `keep` keeps.

        No other run may be at work. Where it cannot be replaced, as a file that is mounted alone,
        it stays as it was written, since readers merge; then return False.

        Raises `LogError`, `ManifestError` and `OSError`.
        """
        self.run()
        with self._open() as file:
            if _is_settled(file, self.path, keep):
                return True
            try:
                new = self._replace(file, keep)
            except OSError as error:
                if error.errno in _NO_RENAME:
                    return False
                raise
            self._file = new
        file.close()
        _lock(new, fcntl.F_UNLCK, APPENDING, 0.0)
        return True

    def _replace(self, old: IO[bytes], keep: Callable[[Keyed], bool]) -> IO[bytes]:
        """Put a new file with both locks in the place of `old`, and return it."""
        folder, name = os.path.split(self.path)
        path = os.path.join(folder, f".{name}.new")
        new = _new(path, old)
        try:
            with (
                open(old.fileno(), "rb", closefd=False) as rows,
                open(new.fileno(), "wb", buffering=2**18, closefd=False) as out,
            ):
                end = _whole(old, os.fstat(old.fileno()).st_size)
                out.writelines(row[1] for row in _merged(rows, self.path, end) if keep(row))
            _sync(new)
            for byte in (APPENDING, RUNNING):  # before it has the name that others open
                _lock(new, fcntl.F_WRLCK, byte, 0.0)
            os.replace(path, self.path)
        except BaseException:
            new.close()
            os.unlink(path)
            raise
        return new

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        """Yield the file that the path names now, with the lock for appending."""
        ends = time.monotonic() + PATIENCE
        while True:
            if self._file is None:
                self._file = _opened(self.path)
            left = max(0.0, ends - time.monotonic())
            with _locked(self._file, fcntl.F_WRLCK, left):
                if _is_named(self._file, self.path):
                    yield self._file
                    return
            self._file.close()  # another process has put a new file in its place
            self._file = None


def _opened(path: str) -> IO[bytes]:
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise LogError(f"{path}: not a regular file; name another manifest")
    try:
        return open(path, "ab+", buffering=0)
    except OSError as error:
        raise LogError(
            f"{path}: cannot be written ({error.strerror}); name another manifest"
        ) from error


def _new(path: str, old: IO[bytes]) -> IO[bytes]:
    mode = os.fstat(old.fileno()).st_mode & 0o777
    with suppress(FileNotFoundError):  # of a run that was killed, or a link that somebody planted
        os.unlink(path)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # The opener keeps the name, by which a drive without locks is named.
    new = open(path, "ab+", buffering=0, opener=lambda name, _: os.open(name, flags, mode))  # noqa: SIM115
    with suppress(OSError):  # some drives have no permissions
        os.fchmod(new.fileno(), mode)
    return new


def _is_named(file: IO[bytes], path: str) -> bool:
    """Tell whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _sync(file: IO[bytes]) -> None:
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


# --- locks ---------------------------------------------------------------------------------------


@contextmanager
def _locked(file: IO[bytes], kind: int, patience: float) -> Iterator[None]:
    if not _lock(file, kind, APPENDING, patience):
        raise LogError(f"{file.name}: another process has kept it locked for {PATIENCE:.0f} s")
    try:
        yield
    finally:
        if not file.closed:
            _lock(file, fcntl.F_UNLCK, APPENDING, 0.0)


def _lock(file: IO[bytes], kind: int, byte: int, patience: float) -> bool:
    """Lock or unlock; tell whether it was possible within `patience` seconds.

    On a drive that has no locks it is, and is said once.
    """
    ends = time.monotonic() + patience
    wanted = struct.pack("hhqqi0q", kind, os.SEEK_SET, _LOCKED_BYTES + byte, 1, 0)
    while True:
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                _say_once(os.path.dirname(os.path.abspath(file.name)))
                return True
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            if time.monotonic() >= ends:
                return False
            time.sleep(_PAUSE)
        else:
            return True


@functools.cache
def _say_once(folder: str) -> None:
    logger.warning(
        "%s: this drive cannot lock files. Do not let two commands write here at the same time.",
        folder,
    )

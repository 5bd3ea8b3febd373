"""What people say of photos: `corrections.jsonl`, one row a decision, in the manifest's own form.

Rows are only added, each in one locked write that is on the disk before it is believed, so that any
number of pages, people and processes write one file and none loses another's word. Of an image's
rows the last word counts. Taking a decision back removes that one row, by a whole new file in the
old one's place.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from alpaca_labeler.handler import manifest_row, merge
from alpaca_labeler.handler.errors import LabelerError
from alpaca_labeler.handler.manifest_row import ManifestError
from alpaca_labeler.table import jsonl

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from alpaca_labeler.handler.manifest_row import Row

JOB_NAME: Final = "labeling-job/review"

PATIENCE: Final = 10.0
"""Seconds that another process may keep the file locked; a write takes milliseconds."""

_KEPT: Final = (
    "model-version",
    "etag",
    "version-id",
    "sequencer",
    "last-modified",
    "size",
    "width",
    "height",
)
"""What a decision keeps of the row it is about: which version of the image, by which model."""


class CorrectionsError(LabelerError):
    """The file cannot be read or written. The message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a person calls an image."""

    attribute: str
    """The manifest's label attribute."""
    index: int
    """Of the class."""
    name: str
    """Of the class."""


def decision(row: Row, label: Label, annotator: str, made: datetime) -> Row:
    """Return the row that says: `annotator` calls the image of `row` so.

    `row` is a label or a failure row; the decision is about the version of the image that it is
    about, so that a newer version wants a new look. `made` is in UTC.
    """
    labeler = manifest_row.block(row, "labeler")
    return {
        "source-ref": row["source-ref"],
        label.attribute: label.index,
        f"{label.attribute}-metadata": {
            "class-name": label.name,
            "confidence": 1.0,
            "type": manifest_row.TASK_TYPE,
            "job-name": JOB_NAME,
            "human-annotated": "yes",
            "creation-date": manifest_row.timestamp(made),
        },
        "labeler": {
            **{
                key: labeler[key]
                for key in _KEPT
                if key in labeler and isinstance(labeler[key], str | int | None)
            },
            "annotator": annotator,
        },
    }


def identify(line: bytes) -> str:
    """Return what names one decision among all: two of the same content are the same."""
    return hashlib.sha256(line).hexdigest()


@dataclass(frozen=True, slots=True)
class News:
    """Rows that a reader has not seen."""

    rows: list[Row]
    anew: bool
    """Whether `rows` are all there are, because the file is another one than was read before."""


class Corrections:
    """One corrections file, to be read as it grows and written beside others who write it.

    An object of this class remembers how far it has read. Not for use by two threads at once.
    """

    def __init__(self, path: str) -> None:
        """`path` need not be there yet."""
        # A link stays a link: what it names is written.
        self.path = os.path.realpath(path) if os.path.islink(path) else path
        self._seen: tuple[int, int, int] | None = None
        self._read_to = 0
        self._last_line = b""

    def add(self, row: Row) -> str:
        """Write one row as `add_all` does; return what `remove` takes."""
        self.add_all([row])
        return identify(manifest_row.encode(row))

    def add_all(self, rows: Sequence[Row]) -> None:
        """Write rows at once; when this returns they are safely on the disk.

        Raises `CorrectionsError`; then none was written.
        """
        with self._locked() as handle:
            end = os.fstat(handle.fileno()).st_size
            try:
                jsonl.write(handle, b"".join(map(manifest_row.encode, rows)))
                os.fsync(handle.fileno())
            except OSError:
                with suppress(OSError):  # a torn line is mended by the next one who writes
                    os.ftruncate(handle.fileno(), end)
                raise
            if end == 0:
                _sync_folder(self.path)

    def remove(self, identity: str) -> bool:
        """Take back the one row that `identify` names so; False if there is none."""
        return self.remove_all({identity}) > 0

    def remove_all(self, identities: Collection[str]) -> int:
        """Take back the rows that `identify` names so; return how many there were.

        Raises `CorrectionsError`; then none was removed.
        """
        with self._locked() as handle:
            new_name = jsonl.new_name(self.path)
            removed = 0
            try:
                handle.seek(0)
                with open(handle.fileno(), "rb", closefd=False) as old, open(new_name, "wb") as new:
                    for line in old:
                        if identify(line) in identities:
                            removed += 1
                        else:
                            new.write(line)
                    if not removed:
                        return 0
                    new.flush()
                    os.fsync(new.fileno())
                    os.chmod(new_name, stat.S_IMODE(os.fstat(handle.fileno()).st_mode))
                    os.replace(new_name, self.path)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(new_name)
            _sync_folder(self.path)
        return removed

    def news(self) -> News:
        """Return the rows that came since the last call; all of them in the first.

        A last line without its end is being written, and left for the next call.

        Raises `CorrectionsError` where a line is no person's row.
        """
        try:
            self._check_kind()
            with open(self.path, "rb") as file:
                if _state(file) == self._seen:
                    return News([], anew=False)
                # Whoever writes holds the lock until what is written is there to stay.
                jsonl.lock(file, fcntl.LOCK_SH, time.monotonic() + PATIENCE)
                return self._news(file)
        except FileNotFoundError:
            anew = self._seen is not None
            self.forget()
            return News([], anew)
        except OSError as error:
            raise _failed(self.path, error) from error

    def _news(self, file: IO[bytes]) -> News:
        state = _state(file)
        last = self._last_line
        # A row was taken back, or somebody's editor was at work: no line is twice the same.
        anew = os.pread(file.fileno(), len(last), self._read_to - len(last)) != last or not last
        rows: list[Row] = []
        read_to = self._read_to
        if anew:
            read_to, last = 0, b""
        for line in _lines(file, read_to, self.path):
            read_to += len(line)
            last = line
            if not line.isspace():
                rows.append(_persons(line, self.path))
        self._seen, self._read_to, self._last_line = state, read_to, last
        return News(rows, anew)

    def _check_kind(self) -> None:
        # Opening a pipe would wait for its other end for ever.
        if os.path.exists(self.path) and not os.path.isfile(self.path):
            raise CorrectionsError(f"{self.path}: not a regular file; see --corrections")

    def forget(self) -> None:
        """Have `news` tell of all rows again."""
        self._seen, self._read_to, self._last_line = None, 0, b""

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        try:
            self._check_kind()
            with jsonl.open_locked(self.path, patience=PATIENCE) as handle:
                jsonl.mend(handle)
                yield handle
        except ManifestError as error:
            raise CorrectionsError(f"{self.path}: {error}; see --corrections") from error
        except OSError as error:
            raise _failed(self.path, error) from error


def _state(file: IO[bytes]) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def _lines(file: IO[bytes], start: int, path: str) -> Iterator[bytes]:
    """Read whole lines from `start` on."""
    file.seek(start)
    while (line := file.readline(merge.MAX_LINE_BYTES + 1)).endswith(b"\n"):
        yield line
    if len(line) > merge.MAX_LINE_BYTES:
        raise CorrectionsError(f"{path}: a line is longer than {merge.MAX_LINE_BYTES:,} bytes")


def _persons(line: bytes, path: str) -> Row:
    try:
        row = manifest_row.parse(line)
    except ManifestError as error:
        raise CorrectionsError(f"{path}: a line of it is {error}") from error
    if not manifest_row.is_human(row):
        raise CorrectionsError(
            f"{path}: the row of {row['source-ref']} is no person's, so this is no file of "
            "corrections; name another with --corrections"
        )
    return row


def _sync_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _failed(path: str, error: OSError) -> CorrectionsError:
    if isinstance(error, BlockingIOError):
        return CorrectionsError(f"{path}: another process has kept it locked for {PATIENCE:.0f} s")
    return CorrectionsError(f"{path}: {error.strerror or error}")

"""The manifest of a run on this machine: `manifest.jsonl` and `failures.jsonl`.

Rows are appended as they come, in one write each, so that a run that is killed leaves at most one
torn line, and the next run cuts it off. A finished run leaves both files sorted, one row an image
in the two together.
"""

from __future__ import annotations

import fcntl
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, islice
from operator import eq
from typing import IO, TYPE_CHECKING, Final, Self

from alpaca_labeler.handler import manifest_row, merge
from alpaca_labeler.handler.errors import LabelerError
from alpaca_labeler.handler.image_version import ImageVersion
from alpaca_labeler.handler.manifest_row import ManifestError
from alpaca_labeler.table import jsonl

if TYPE_CHECKING:
    from alpaca_labeler.handler.manifest_row import Row

TRIED_AGAIN: Final = frozenset({"unreadable", "unsupported", "too-many-pixels"})
"""Failures that a user mends without touching the photo: by chmod, a package, `--max-pixels`."""


class LedgerError(LabelerError):
    """The manifest cannot be used. The message names the file and the remedy."""


@dataclass(slots=True)
class _File:
    path: str
    handle: IO[bytes] | None = None
    before: int = 0
    """Rows that lay in it, settled, before those of this run."""


class Ledger:
    """Both files of a manifest, locked for one run. A context manager."""

    def __init__(self, manifest_path: str, failures_path: str) -> None:
        self._labels, self._failures = (
            # A link stays a link: what it names is written.
            _File(os.path.realpath(path) if os.path.islink(path) else path)
            for path in (manifest_path, failures_path)
        )
        self._settled = True
        self._ordered = False
        self._index = self._failed = array("q")
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        """Lock the manifest and repair a torn end. Raises `LedgerError`."""
        with ExitStack() as stack:
            for file in (self._labels, self._failures):
                file.handle = stack.enter_context(_open_locked(file.path))
                _mend(file.path, file.handle)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock. A file without rows is taken away: there is nothing in it to look at."""
        for file in (self._labels, self._failures):
            if os.fstat(_handle(file).fileno()).st_size == 0:
                with suppress(FileNotFoundError):
                    os.unlink(file.path)
        self._exit.close()

    def load(self, model_version: str | None) -> None:
        """Learn which images have a row by `model_version`, or by a person. None: learn of none.

        Takes 16 bytes of memory an image. Raises `ManifestError` for a line that is no row.
        """
        self._scan(model_version)
        if not self._settled:  # an earlier run was killed: of an image's rows only the last counts
            self.settle()
            self._scan(model_version)
        self._ordered = True

    def peek(self, model_version: str | None) -> None:
        """Learn the same outside of a `with` block, without a lock and without writing anything."""
        self._scan(model_version)

    def _scan(self, model_version: str | None) -> None:
        self._settled = True
        images, known, failed = array("q"), array("q"), array("q")
        for file in (self._labels, self._failures):
            last = ""
            file.before = 0
            for source_ref, line in self._rows(file):
                file.before += 1
                self._settled &= last < source_ref
                last = source_ref
                row = manifest_row.parse(line)
                images.append(hash(source_ref))
                if model_version is not None and (
                    manifest_row.is_human(row) or manifest_row.model_version(row) == model_version
                ):
                    code = manifest_row.block(row, "failure").get("code")
                    again = isinstance(code, str) and code in TRIED_AGAIN
                    (failed if again else known).append(_key(manifest_row.version_of(row)))
        # An image in both files is left by a run that was killed while it settled them.
        seen = _sorted(images)
        self._settled &= not any(map(eq, seen, islice(seen, 1, None)))
        self._index, self._failed = _sorted(known), _sorted(failed)

    def has(self, image: ImageVersion) -> bool:
        """Tell whether this very version of the image has its row. Call `load` before.

        A failure of `TRIED_AGAIN` is no row to rest on.
        """
        return _contains(self._index, _key(image))

    def had_failed(self, image: ImageVersion) -> bool:
        """Tell whether this version has a failure of `TRIED_AGAIN`: the same again says nothing."""
        return _contains(self._failed, _key(image))

    def append(self, row: Row) -> None:
        """Write a row to the file where it belongs."""
        file = self._failures if manifest_row.is_failure(row) else self._labels
        self._settled = False
        jsonl.write(_handle(file), manifest_row.encode(row))

    def settle(self) -> None:
        """Bring both files to one sorted row an image. Killed at any point, it loses nothing."""
        if self._settled:
            return
        names = [jsonl.new_name(file.path) for file in (self._labels, self._failures)]
        try:
            with open(names[0], "wb") as labels, open(names[1], "wb") as failures:
                rows = [0, 0]
                for line, is_failure in self.table():
                    (failures if is_failure else labels).write(line)
                    rows[is_failure] += 1
                self._labels.before, self._failures.before = rows
                for file, new in ((self._labels, labels), (self._failures, failures)):
                    self._replace(file, new)
        finally:
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(name)
        self._settled = True

    def table(self) -> Iterator[tuple[bytes, bool]]:
        """Yield (line, is a failure) of every image, sorted, settled or not, as `settle` writes it.

        Needs no lock, and writes nothing.
        """
        files = (self._failures, self._labels)
        rows = [self._rows(file) for file in files]
        if not self._ordered:
            return merge.merge(merge.sort(chain(*rows)), choose=_latest)
        # Where this run began is known, so no clock need be believed: it may have been set back.
        before = [islice(some, file.before) for some, file in zip(rows, files, strict=True)]
        return merge.merge(merge.sort(chain(*before, *rows)), choose=manifest_row.latest)

    def rows(self) -> Iterator[Row]:
        """Read the label rows, in their order in the file."""
        for _, line in self._rows(self._labels):
            yield manifest_row.parse(line)

    def _rows(self, file: _File) -> Iterator[merge.Keyed]:
        try:
            lines = open(file.path, "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return
        with lines:
            try:
                yield from merge.read(lines, file.path)
            except ManifestError:
                # Who only peeks finds what the next run will repair.
                if file.handle is not None or not _is_torn_end(lines):
                    raise

    def _replace(self, file: _File, new: IO[bytes]) -> None:
        new.flush()
        os.fsync(new.fileno())
        old = _handle(file)
        os.chmod(new.name, os.fstat(old.fileno()).st_mode & 0o777)
        handle = self._exit.enter_context(open(new.name, "ab", buffering=0))  # noqa: SIM115
        fcntl.flock(handle, fcntl.LOCK_EX)  # before it has the name that others open
        os.replace(new.name, file.path)
        file.handle = handle
        old.close()


def _key(image: ImageVersion) -> int:
    # 64 bits: among 10^8 images one changed file in 10^11 is taken for an old one.
    return hash((image.source_ref, image.etag or image.last_modified, image.size))


def _latest(rows: list[Row]) -> Row:
    # Rows come in the order of writing, failures before labels; between the two files dates decide.
    failures = [row for row in rows if manifest_row.is_failure(row)]
    labels = [row for row in rows if not manifest_row.is_failure(row)]
    if (
        failures
        and labels
        and manifest_row.created(failures[-1]) > manifest_row.created(labels[-1])
    ):
        return manifest_row.latest(labels + failures)
    return manifest_row.latest(failures + labels)


def _sorted(keys: array[int]) -> array[int]:
    """Sort in place: no second copy of a hundred million keys."""
    if keys:
        import numpy as np  # 50 ms that the first run of a folder need not wait for

        np.frombuffer(keys, dtype=np.int64).sort()
    return keys


def _contains(index: array[int], key: int) -> bool:
    place = bisect_left(index, key)
    return place < len(index) and index[place] == key


def _is_torn_end(lines: IO[bytes]) -> bool:
    end = lines.tell()
    return end == lines.seek(0, os.SEEK_END) and lines.seek(end - 1) >= 0 and lines.read() != b"\n"


def _handle(file: _File) -> IO[bytes]:
    if file.handle is None:
        raise RuntimeError("a ledger is used inside its `with` block only")
    return file.handle


def _open_locked(path: str) -> IO[bytes]:
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise LedgerError(f"{path}: not a regular file; name another manifest")
    try:
        return jsonl.open_locked(path)
    except BlockingIOError as error:
        raise LedgerError(
            f"{path}: another run is writing it; wait for it, or name another manifest"
        ) from error
    except OSError as error:
        raise LedgerError(
            f"{path}: cannot be written ({error.strerror}); name another manifest"
        ) from error


def _mend(path: str, handle: IO[bytes]) -> None:
    """Cut off a torn last line; its image is labelled again."""
    try:
        jsonl.mend(handle)
    except ManifestError as error:
        raise LedgerError(f"{path}: not a manifest; name another manifest") from error

"""Compaction: every part's rows into `manifest.jsonl` and `failures.jsonl`, one row an image.

It streams through temporary files, so memory stays flat, and may stop or be stopped at any call and
be run again, by any number of runs at once. Why nothing is lost and nothing stays double, although
two objects cannot be committed as one:

- Each object is only replaced by what was merged from the very state that it is in (`If-Match`). So
  the row that wins, once committed, stays: nothing it meets later beats it. A part is deleted only
  after both commits of a run that read it. Hence at any moment the winner of every image lies in
  the manifest, the failures or a part. Parts are read before the two objects: one that another run
  deleted meanwhile has its rows in what is read next.
- The manifest is committed first, and the failures carry the digest of the manifest they belong to
  in their mark. Where that digest is the manifest's own, one merge made both, so no image is in
  both. Where it is not (a crash between the commits, two runs that met there), an image may be in
  both, and the next run merges again, even with no part to merge.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Final

from . import merge, parts, storage
from .errors import LabelerError
from .image_version import ImageVersion
from .manifest_row import ManifestError
from .storage import Stamp, StorageError

MANIFEST: Final = "manifest.jsonl"
FAILURES: Final = "failures.jsonl"

MAX_PARTS: Final = 10_000
"""Merged in one run, oldest first, so that a run fits into its time limit."""

MAX_OBJECT_BYTES: Final = 5 * 2**30
"""What one PutObject takes. A multipart upload could not be made conditional everywhere."""

_TRIES: Final = 6
_PAUSE: Final = 0.5  # seconds, doubled with every lost race
_READERS: Final = 16  # parts fetched at a time
_AT_ONCE: Final = 32  # parts held in memory


class TooManyRows(LabelerError):
    """The table has outgrown one object. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a run did."""

    committed: bool = False
    """Whether the table's objects were replaced."""
    parts: int = 0
    """Merged and deleted."""
    labels: int = 0
    """Rows of the manifest now; 0 where nothing was to be done."""
    failures: int = 0
    broken: tuple[str, ...] = ()
    """`uri: reason` of each part that is none; it stays where it is, for a person."""


def compact(results: str, *, max_parts: int = MAX_PARTS, pause: float = _PAUSE) -> Compacted:
    """Merge up to `max_parts` parts below `results` (`s3://bucket/labels/`) into the table.

    Raises `StorageError` (`Conflict`: other runs won every race), `ManifestError` where the table
    is damaged, and `TooManyRows`. Nothing is lost by any of them: run it again.
    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(random.uniform(0, pause * 2**attempt))  # noqa: S311 - not a secret
        try:
            return _attempt(results, max_parts)
        except storage.Conflict as error:
            lost = error
    raise lost


def _attempt(results: str, max_parts: int) -> Compacted:
    waiting = _oldest(results, max_parts)
    if not waiting and _settled(
        storage.stamp_of(results + MANIFEST), storage.stamp_of(results + FAILURES)
    ):
        return Compacted()
    with ExitStack() as files:
        gathered = _Gathered()
        arrived = merge.sort(gathered.rows(waiting))
        old = [_Table(results + name, files) for name in (MANIFEST, FAILURES)]
        ordered = _settled(*(table.stamp for table in old))
        new = [_Output(files), _Output(files)]
        for line, is_failure in merge.merge(
            *(table.rows(ordered=ordered) for table in old), arrived
        ):
            new[is_failure].write(line)
        labels = new[0].digest()
        marks = labels, f"{new[1].digest()}-{labels}"
        committed = [
            _commit(table, output, mark)
            for table, output, mark in zip(old, new, marks, strict=True)
        ]
        storage.delete(gathered.merged)
        return Compacted(
            any(committed), len(gathered.merged), new[0].count, new[1].count, tuple(gathered.broken)
        )


def table(results: str) -> Iterator[tuple[bytes, bool]]:
    """Yield (line, is a failure) of every image, sorted: merged on read, compacted or not.

    Raises `StorageError`, and `ManifestError` where the table or a part is damaged.
    """
    waiting = [part.source_ref for part in storage.list_objects(results + parts.PREFIX)]
    with ExitStack() as files:
        gathered = _Gathered()
        arrived = merge.sort(gathered.rows(waiting))
        if gathered.missed:
            raise gathered.missed[0]
        if gathered.broken:
            raise ManifestError(f"{gathered.broken[0]}; move it away to go on without it")
        old = [_Table(results + name, files) for name in (MANIFEST, FAILURES)]
        ordered = _settled(*(one.stamp for one in old))
        yield from merge.merge(*(one.rows(ordered=ordered) for one in old), arrived)


def _oldest(results: str, count: int) -> list[str]:
    listed = storage.list_objects(results + parts.PREFIX)
    oldest = heapq.nsmallest(count, listed, key=_age)
    return [part.source_ref for part in oldest]


def _age(part: ImageVersion) -> tuple[str, str]:
    return part.last_modified or "", part.source_ref


def _settled(table: Stamp | None, failures: Stamp | None) -> bool:
    """Tell whether one merge made both objects, or there is neither."""
    if table is None or failures is None:
        return table is failures
    return bool(table.mark) and (failures.mark or "").endswith(f"-{table.mark}")


class _Gathered:
    """The rows of parts, and what became of each part."""

    def __init__(self) -> None:
        self.merged: list[str] = []
        self.broken: list[str] = []
        self.missed: list[storage.Transient] = []
        """Of parts that could not be read now, and stay for the next run."""

    def rows(self, uris: list[str]) -> Iterator[merge.Keyed]:
        """Yield the parts' rows, in memory a few parts at a time."""
        with ThreadPoolExecutor(min(_READERS, len(uris) or 1), "part") as pool:
            for start in range(0, len(uris), _AT_ONCE):
                some = uris[start : start + _AT_ONCE]
                for uri, data in zip(some, pool.map(_read_part, some), strict=True):
                    yield from self._rows(uri, data)

    def _rows(self, uri: str, data: bytes | StorageError) -> list[merge.Keyed]:
        try:
            if isinstance(data, StorageError):
                raise data
            rows = [*merge.read(io.BytesIO(data), uri)]
        except storage.NotFound:  # another run has merged and deleted it
            return []
        except storage.Transient as error:
            self.missed.append(error)
            return []
        except (ManifestError, storage.TooLarge) as error:
            self.broken.append(str(error))
            return []
        self.merged.append(uri)
        return rows


def _read_part(uri: str) -> bytes | StorageError:
    try:
        return storage.read(uri, parts.MAX_BYTES)
    except StorageError as error:
        return error


def _temporary_file() -> IO[bytes]:
    return tempfile.TemporaryFile()


class _Table:
    """One of the table's objects as it is now, in a temporary file."""

    def __init__(self, uri: str, files: ExitStack) -> None:
        self.uri = uri
        self._file = files.enter_context(_temporary_file())
        self.stamp = storage.download(uri, self._file)

    def rows(self, *, ordered: bool) -> Iterable[merge.Keyed]:
        """Return the rows by `source-ref`. `ordered` says that a compaction wrote them."""
        self._file.seek(0)
        rows = merge.read(self._file, self.uri)
        return rows if ordered else merge.sort(rows)


class _Output:
    """One of the table's objects as it is to be, in a temporary file."""

    def __init__(self, files: ExitStack) -> None:
        self.file = files.enter_context(_temporary_file())
        self.count = 0
        self._hash = hashlib.sha256()

    def write(self, line: bytes) -> None:
        self.file.write(line)
        self._hash.update(line)
        self.count += 1

    def digest(self) -> str:
        return self._hash.hexdigest()


def _commit(table: _Table, output: _Output, mark: str) -> bool:
    """Replace the object unless it is the same. Raises `Conflict` where it has changed."""
    if table.stamp and table.stamp.mark == mark:
        return False
    size = output.file.tell()
    if size > MAX_OBJECT_BYTES:
        raise TooManyRows(
            f"{table.uri}: {output.count:,} rows are {size:,} bytes, more than one object takes "
            f"({MAX_OBJECT_BYTES:,}); give each input prefix a results prefix of its own"
        )
    etag = table.stamp.etag if table.stamp else None
    storage.write_if_unchanged(table.uri, output.file, etag, parts.CONTENT_TYPE, mark=mark)
    return True

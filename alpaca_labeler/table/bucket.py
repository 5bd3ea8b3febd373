"""A bucket's table: one object, and the parts that batches have written since.

    labels/manifest.jsonl          one row per photo, sorted
    labels/parts/<32 hex>.jsonl    the rows of one batch; the name is a digest of the content

S3 cannot append, and its events come twice, late and in any order. So each batch writes a part that
never changes, and compaction merges parts into the manifest. Many runs of it may work at once, and
any may stop at any call: parts are read before the manifest, the manifest is replaced only if it is
still what was read, and a part is deleted only after its rows are in the manifest. What is merged
again changes nothing.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import random
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Final

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.storage.upload import PART_BYTES, Upload
from alpaca_labeler.table import lines
from alpaca_labeler.table.facts import Decision, timestamp
from alpaca_labeler.table.lines import Keyed, Poll
from alpaca_labeler.table.row import ManifestError, Row, merged
from alpaca_labeler.table.run import RETENTION, is_past

MANIFEST: Final = "manifest.jsonl"
PARTS: Final = "parts/"
CONTENT_TYPE: Final = "application/jsonl"

MAX_PARTS: Final = 10_000
"""Parts merged in one run, oldest first, so that a run fits into its time limit."""

PART_ROWS: Final = 10_000
"""Rows of one part at most: some 7 MB, what a full batch of the function writes."""

MAX_PART_BYTES: Final = 64 * 2**20

SHARE: Final = 0.05
"""A merge pays once the waiting bytes exceed this share of the table. So 20 bytes are written per
new byte, not the whole table."""

_PART: Final = re.compile(r"[0-9a-f]{32}\.jsonl")
_TRIES: Final = 6
_PAUSE: Final = 0.5  # seconds, doubled with every lost race
_READERS: Final = 16  # parts fetched at a time
_AT_ONCE: Final = 32  # parts held in memory
_PEOPLE: Final = b'"people":{"'


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a run did."""

    rows: int = 0
    """Rows in the manifest now; 0 if there was nothing to do."""
    parts: int = 0
    """Number of parts merged and deleted."""
    broken: tuple[str, ...] = ()
    """`uri: reason` of each unreadable part; it stays where it is, for a person to check."""
    waiting: int = 0
    """Parts that were left, because merging them does not pay yet, or is for the next run."""


# --- writing -------------------------------------------------------------------------------------


def write(results: str, rows: Sequence[Row]) -> None:
    """Write rows as parts below `results` (`s3://bucket/labels/`). Raises `StorageError`."""
    for start in range(0, len(rows), PART_ROWS):
        some = sorted(rows[start : start + PART_ROWS], key=lambda row: row.source_ref)
        data = b"".join(row.to_line() for row in some)
        name = hashlib.sha256(data).hexdigest()[:32]
        # If it is there already, it holds the same: from this very call, whose answer was lost.
        storage.write_if_absent(f"{results}{PARTS}{name}.jsonl", data, CONTENT_TYPE)


def compact(
    results: str,
    *,
    max_parts: int = MAX_PARTS,
    max_age: float | None = None,
    until: str | None = None,
    pause: float = _PAUSE,
    part_bytes: int = PART_BYTES,
) -> Compacted:
    """Merge up to `max_parts` parts below `results` (`s3://bucket/labels/`) into the manifest.

    With `max_age`, in seconds, nothing is done until a merge pays: until the waiting bytes exceed
    `SHARE` of the manifest, or a part has waited for `max_age`. What has been gone since before
    `until` is dropped; without it, for longer than `RETENTION`. `pause`, in seconds, scales the
    random wait after a lost race. A manifest larger than `part_bytes` is uploaded in parts.

    Raises `StorageError` (`Conflict`: other runs won every race) and `ManifestError` if
    the manifest is damaged. None of them loses a row: run it again.
    """
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(random.uniform(0, pause * 2**attempt))  # noqa: S311 - not a secret
        found = _Found(results, max_parts)
        nothing = not found.waiting and until is None
        if nothing or (max_age is not None and not found.pays(max_age)):
            storage.stamp_of(found.manifest)  # one that was deleted is heard of at once
            return Compacted(waiting=found.waiting)
        try:
            return _merge(found, until or timestamp(datetime.now(UTC) - RETENTION), part_bytes)
        except storage.Conflict as error:
            lost = error
    raise lost


def _merge(found: _Found, until: str, part_bytes: int) -> Compacted:
    gathered = _Gathered()
    arrived = lines.sort(gathered.rows(found.parts))
    said: _Said = {}
    count = 0
    stamp, manifest = storage.stream(found.manifest)
    etag = stamp.etag if stamp else None
    with manifest, Upload(found.manifest, etag, CONTENT_TYPE, part_bytes) as new:
        for row in lines.merge(_in_order(manifest, found.manifest), arrived):
            _note(said, row)
            if not is_past(row, until):
                new.write(row[1])
                count += 1
        new.commit()
    _carry_over(found.results, gathered.merged, said)
    storage.delete(gathered.merged)
    left = found.waiting - len(gathered.merged)
    return Compacted(count, len(gathered.merged), tuple(gathered.broken), left)


def _in_order(manifest: IO[bytes], uri: str) -> Iterator[Keyed]:
    before = ""
    for name, line in lines.read(manifest, uri):
        if name < before:
            raise ManifestError(
                f"{uri}: {name!r} is out of order, so something else has written it; move it away "
                "and bring its rows in with `alpaca manifest merge`"
            )
        before = name
        yield name, line


_Said = dict[str, dict[str, Decision]]
"""What people said of contents: by content, then by photo."""


def _note(said: _Said, row: Keyed) -> None:
    if _PEOPLE in row[1]:
        for content, decision in Row.from_line(row[1]).people.items():
            said.setdefault(content, {})[row[0]] = decision


def _carry_over(results: str, merged_parts: list[str], said: _Said) -> None:
    """Give a person's label of a photo to the same photo under another name, as a part."""
    if not said:
        return
    copies: list[Row] = []
    for name, line in _Gathered().rows(merged_parts):
        read = Row.from_line(line).read
        content = read.content if read else None
        if content and content in said and name not in said[content]:
            about = (Row(name, people={content: each}) for each in said[content].values())
            copies.append(merged(about))
    write(results, copies)


# --- reading -------------------------------------------------------------------------------------


def read(results: str) -> Iterator[Keyed]:
    """Yield one row per photo, sorted by `source-ref`: merged on read, compacted or not.

    Raises `StorageError` (`NotFound`: there is neither a manifest nor a part) and `ManifestError`
    if the manifest or a part is damaged.
    """
    found = _Found(results)
    arrived = lines.sort(_Gathered().checked(found.parts))
    # Read only now, so that the rows of parts that have been merged meanwhile are found in it.
    stamp, manifest = storage.stream(found.manifest)
    if stamp is None and not found.waiting:
        raise storage.NotFound(
            f"{results}: there are no labels; name the folder that holds {MANIFEST} or {PARTS}"
        )
    with manifest:
        yield from lines.merge(_in_order(manifest, found.manifest), arrived)


def follow(results: str) -> Poll:
    """Begin to follow the parts that others write, until they are merged. Raises `StorageError`."""
    manifest = results + MANIFEST
    stamp, seen = storage.stamp_of(manifest), {*_Found(results).parts}

    def poll() -> tuple[list[Row], bool]:
        new = [uri for uri in _Found(results).parts if uri not in seen]
        rows = [Row.from_line(line) for _, line in _Gathered().checked(new)]
        seen.update(new)
        return rows, storage.stamp_of(manifest) != stamp

    return poll


def waiting(results: str) -> int:
    """Return how many parts wait to be merged. Raises `StorageError`."""
    return _Found(results).waiting


class _Found:
    """The parts below the results, by one listing."""

    def __init__(self, results: str, max_parts: int | None = None) -> None:
        """List them, and keep the oldest `max_parts`."""
        self.results = results
        self.manifest = f"{results}{MANIFEST}"
        self.waiting_bytes = self.waiting = 0
        found = self._listed()
        kept = sorted(found) if max_parts is None else heapq.nsmallest(max_parts, found)
        self.parts = [uri for _, uri in kept]
        """The oldest first."""
        self._oldest = kept[0][0] if kept else ""

    def _listed(self) -> Iterator[tuple[str, str]]:
        """Yield (time of writing, URI) of each part, and count them."""
        for listed in storage.list_objects(self.results + PARTS):
            if _PART.fullmatch(listed.source_ref.removeprefix(self.results + PARTS)):
                self.waiting += 1
                self.waiting_bytes += listed.size or 0
                yield listed.last_modified or "", listed.source_ref

    def pays(self, max_age: float) -> bool:
        """Tell whether enough waits, or a part for long enough (seconds), that a merge pays."""
        table_bytes = sum(o.size or 0 for o in storage.list_objects(self.manifest))
        if self.waiting_bytes > SHARE * table_bytes or not self._oldest:
            return True
        age = datetime.now(UTC) - datetime.fromisoformat(self._oldest)
        return age.total_seconds() >= max_age


@dataclass(slots=True)
class _Gathered:
    """The rows of parts, and the result for each part."""

    merged: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    missed: list[storage.Transient] = field(default_factory=list)
    """Errors of parts that could not be read now, and stay for the next run."""

    def rows(self, uris: Sequence[str]) -> Iterator[Keyed]:
        """Yield the parts' rows, with a few parts in memory at a time."""
        with ThreadPoolExecutor(min(_READERS, len(uris) or 1), "part") as pool:
            for start in range(0, len(uris), _AT_ONCE):
                some = uris[start : start + _AT_ONCE]
                for uri, found in zip(some, pool.map(_read_part, some), strict=True):
                    if isinstance(found, storage.Transient):
                        self.missed.append(found)
                    elif isinstance(found, LabelerError):
                        self.broken.append(str(found))
                    elif found is not None:
                        self.merged.append(uri)
                        yield from found

    def checked(self, uris: Sequence[str]) -> Iterator[Keyed]:
        """Yield the same, but raise the first error."""
        yield from self.rows(uris)
        if self.missed:
            raise self.missed[0]
        if self.broken:
            raise ManifestError(f"{self.broken[0]}; move it away to continue without it")


def _read_part(uri: str) -> list[Keyed] | LabelerError | None:
    """Return a part's rows, or why there are none; None if another run has deleted it."""
    try:
        rows = [*lines.read(io.BytesIO(storage.read(uri, MAX_PART_BYTES)), uri)]
        for _, line in rows:
            Row.from_line(line)  # what cannot be read must not reach the manifest
    except storage.NotFound:
        return None
    except (ManifestError, storage.TooLarge, storage.Transient) as error:
        return error
    return rows

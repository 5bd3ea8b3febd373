"""Compaction: every part's rows into the table, one row per image.

It streams through temporary files, so memory stays flat. It may stop or be stopped at any call and
be run again, and any number of runs may work at once. Nothing is lost and no row stays duplicated,
although many objects cannot be committed as one:

- Rows move one way: from parts into the undivided pair (`manifest.jsonl`, `failures.jsonl`), and
  from both into shards. Every reader and every merge reads in that order, so a row that moves in
  the meantime is found at its new place.
- Concurrency is optimistic: an object is only replaced by a merge of the exact state that it is in
  (`If-Match`). So the winning row, once committed, stays: no row that it meets later beats it. A
  part is deleted only after a run that read it has committed both objects of every shard that its
  rows belong to; the undivided pair is emptied (`If-Match` again) only after its rows were
  committed to their shards. Hence at any moment the winner of every image lies in its shard, the
  undivided pair or a part.
- In a pair, the manifest is committed first, and the failures carry the manifest's mark in theirs.
  If that is the mark of the manifest, one merge made both, so no image is in both. If it is not
  (after a crash between the commits, or if two runs wrote there at once), an image may be in both,
  and the next run merges the pair again, even with no part to merge. An image belongs to one shard
  only, so it is in no other.
- If a run stops between shards, the next one does not begin again: a shard's failures name the set
  of parts that was merged into it. A run that finds the same parts waiting skips such a shard,
  provided that the pair is settled; rows never leave a shard.
- A run that saw no shard may still write to the undivided pair while another divides it. One of the
  two then fails its conditional write, or the rows land in the emptied pair, and the next run moves
  them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import heapq
import io
import itertools
import math
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.storage import StorageError
from alpaca_labeler.table import merge, pair, parts
from alpaca_labeler.table.manifest_row import ManifestError
from alpaca_labeler.table.pair import FAILURES, MANIFEST, WHOLE, Merged, Pair, Spool, State

__all__ = ["FAILURES", "MANIFEST", "Compacted", "NoSpace", "compact", "table"]

MAX_PARTS: Final = 10_000
"""Parts merged in one run, oldest first, so that a run fits into its time limit."""

DIVIDE_BYTES: Final = 4 * 2**30
"""A larger table is divided. A merge holds a pair twice in temporary files, beside the new rows: a
pair of this size fits into the 10 GiB of a function, and into one PutObject of 5 GiB."""

SHARE: Final = 0.05
"""A merge pays once the waiting bytes exceed this share of the table. So 20 bytes are written per
new byte, not the whole table."""

_TRIES: Final = 6
_PAUSE: Final = 0.5  # seconds, doubled with every lost race
_READERS: Final = 16  # parts fetched at a time
_AT_ONCE: Final = 32  # parts held in memory
_MODEL: Final = re.compile(rb'"model-version":\s*"([^"\\]+)"')


class NoSpace(LabelerError):
    """Temporary files do not fit. The message says how much is needed, and where."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a run did."""

    committed: bool = False
    """Whether objects of the table were replaced."""
    parts: int = 0
    """Number of parts merged and deleted."""
    labels: int = 0
    """Label rows in the table now; 0 if there was nothing to do."""
    failures: int = 0
    """Failure rows in the table now; 0 if there was nothing to do."""
    broken: tuple[str, ...] = ()
    """`uri: reason` of each unreadable part; it stays where it is, for a person to check."""
    waiting: int = 0
    """Parts that were left, because merging them does not pay yet or time ran out."""
    models: tuple[str, ...] = ()
    """Versions of the models behind the rows that were merged."""
    mark: str = ""
    """Digest that changes with the content of the table and with nothing else; empty if nothing was
    merged, or if time ran out before everything was."""


def compact(
    results: str,
    *,
    max_parts: int = MAX_PARTS,
    max_age: float | None = None,
    divide_bytes: int = DIVIDE_BYTES,
    seconds: float = math.inf,
    pause: float = _PAUSE,
) -> Compacted:
    """Merge up to `max_parts` parts below `results` (`s3://bucket/labels/`) into the table.

    With `max_age`, in seconds, nothing is done until a merge pays: until the waiting bytes exceed
    `SHARE` of the table, or a part has waited for `max_age`. A table that would exceed
    `divide_bytes` is divided into shards; after `seconds` no other shard is begun, and the next run
    continues from there. `pause`, in seconds, scales the random wait after a lost race.

    Raises `StorageError` (`Conflict`: other runs won every race), `ManifestError` if the table is
    damaged, `TooManyRows` and `NoSpace`. None of them loses a row: run it again.
    """
    ends = time.monotonic() + seconds
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(random.uniform(0, pause * 2**attempt))  # noqa: S311 - not a secret
        found = _Found(results, max_parts)
        if found.waiting and max_age is not None and not found.pays(max_age):
            return Compacted(waiting=found.waiting)
        try:
            with _room(found), ExitStack() as files:
                if found.shards or found.table_bytes + found.waiting_bytes > divide_bytes:
                    return _merge_shards(found, files, ends)
                return _merge_whole(found, files)
        except storage.Conflict as error:
            lost = error
    raise lost


def _merge_whole(found: _Found, files: ExitStack) -> Compacted:
    if not found.parts and _states(found)[WHOLE].settled:
        return Compacted()
    gathered = _Gathered()
    arrived = merge.sort(gathered.rows(found.parts))
    merged = Pair(found.results, WHOLE, files).merge(arrived)
    storage.delete(gathered.merged)
    return _compacted(found, gathered, {WHOLE: merged.state}, [merged])


def _merge_shards(found: _Found, files: ExitStack, ends: float) -> Compacted:
    states = _states(found)
    settled = states[WHOLE].empty and all(state.settled for state in states.values())
    if not found.parts and settled:
        return Compacted()
    gathered, moving = _Gathered(), _Moving(found.results, files)
    chosen = _begun(found.parts, states)
    rows = itertools.chain(gathered.rows(chosen), moving.rows())
    arrived = merge.sort(rows, key=_by_shard)
    name = "" if gathered.missed else _name(chosen, moving.state)
    done: list[Merged] = []
    for shard, new in _each_shard(arrived):
        state = states.get(shard, State(None, None))
        if state.settled and (new is None or state.merged == name != ""):
            continue
        if time.monotonic() >= ends:
            return Compacted(committed=bool(done), waiting=found.waiting)
        with ExitStack() as own:
            done.append(Pair(found.results, shard, own).merge(new or (), merged=name))
        states[shard] = done[-1].state
    moving.finish()
    storage.delete(gathered.merged)
    return _compacted(found, gathered, states | {WHOLE: State(None, None)}, done)


class _Moving:
    """The rows of the undivided pair on their way into shards."""

    def __init__(self, results: str, files: ExitStack) -> None:
        self._results, self._files = results, files
        self._pair: Pair | None = None

    def rows(self) -> Iterator[merge.Keyed]:
        """Read the pair at the first row, not before, and yield its rows."""
        self._pair = Pair(self._results, WHOLE, self._files)
        for rows in self._pair.rows():
            yield from rows

    @property
    def state(self) -> State:
        """The state that was read."""
        return self._pair.state if self._pair else State(None, None)

    def finish(self) -> None:
        """Empty the pair, now that every shard has its rows. Raises `Conflict` if it changed."""
        if self._pair and not self._pair.state.empty:
            self._pair.clear()


def _by_shard(row: merge.Keyed) -> tuple[str, str]:
    return pair.shard_of(row[0]), row[0]


def _each_shard(rows: Iterable[merge.Keyed]) -> Iterator[tuple[str, Iterable[merge.Keyed] | None]]:
    """Yield each shard in order, with its rows, or None if it has no rows."""
    groups = itertools.groupby(rows, key=lambda row: pair.shard_of(row[0]))
    ahead, group = next(groups, ("", None))
    for shard in pair.shards():
        if shard != ahead:
            yield shard, None
            continue
        yield shard, group
        ahead, group = next(groups, ("", None))


def _states(found: _Found) -> dict[str, State]:
    """Return the state of the undivided pair and of each shard that there is."""
    shards = [WHOLE, *sorted(found.shards)]
    uris = [uri for shard in shards for uri in pair.uris(found.results, shard)]
    with ThreadPoolExecutor(_READERS, "state") as pool:
        stamps = pool.map(storage.stamp_of, uris)
        return {shard: State(next(stamps), next(stamps)) for shard in shards}


def _name(uris: list[str], whole: State) -> str:
    """Return a name for a set of parts together with the state of the undivided pair."""
    etags = [stamp.etag if stamp else "" for stamp in (whole.manifest, whole.failures)]
    digest = hashlib.sha256("\n".join([*etags, *uris]).encode()).hexdigest()
    return f"{len(uris)}.{digest[:32]}"


def _begun(uris: list[str], states: dict[str, State]) -> list[str]:
    """Return those of the waiting parts that a run has begun to merge; all if no run has."""
    for name in {state.merged for state in states.values()}:
        count = name.partition(".")[0]
        if count.isdigit() and 0 < int(count) <= len(uris):
            some = uris[: int(count)]
            if _name(some, states[WHOLE]) == name:
                return some
    return uris


def _compacted(
    found: _Found, gathered: _Gathered, states: dict[str, State], done: list[Merged]
) -> Compacted:
    counts = [state.counts for state in states.values()]
    contents = "\n".join(f"{shard}:{state.content}" for shard, state in sorted(states.items()))
    return Compacted(
        committed=any(each.committed for each in done),
        parts=len(gathered.merged),
        labels=sum(labels for labels, _ in counts),
        failures=sum(failures for _, failures in counts),
        broken=tuple(gathered.broken),
        waiting=found.waiting - len(gathered.merged),
        models=tuple(sorted(gathered.models)),
        mark=hashlib.sha256(contents.encode()).hexdigest(),
    )


def table(results: str, *, missing_ok: bool = False) -> Iterator[tuple[bytes, bool]]:
    """Yield (line, is a failure) for every image, sorted: merged on read, compacted or not.

    Raises `StorageError` (`NotFound`: there is neither a table nor a part, unless `missing_ok`),
    `ManifestError` if the table or a part is damaged, and `NoSpace`.
    """
    found = _Found(results)
    if not found.waiting and not found.objects and not missing_ok:
        raise storage.NotFound(
            f"{results}: there are no labels; name the folder that holds manifest.jsonl or parts/"
        )
    with _room(found), ExitStack() as files:
        gathered = _Gathered()
        arrived = merge.sort(gathered.rows(found.parts))
        if gathered.missed:
            raise gathered.missed[0]
        if gathered.broken:
            raise ManifestError(f"{gathered.broken[0]}; move it away to continue without it")
        spool = Spool(files)
        pairs = [Pair(results, WHOLE, files, spool)]
        # Listed only now, so that rows which have moved from the undivided pair are found.
        shards = sorted(_Found(results, only="manifest/").shards)
        pairs += [Pair(results, shard, files, spool) for shard in shards]
        for each in pairs:
            each.settle()
        yield from merge.merge(*itertools.chain(*(each.rows() for each in pairs)), arrived)


class _Found:
    """The objects below the results, by one listing."""

    def __init__(self, results: str, max_parts: int = sys.maxsize, only: str = "") -> None:
        """List them, and keep the oldest `max_parts` parts."""
        self.results = results
        self.objects: set[str] = set()
        """Names of the table's objects, relative to the results."""
        self.shards: set[str] = set()
        self.table_bytes = self.waiting_bytes = self.waiting = 0
        parts = heapq.nsmallest(max_parts, self._parts(only))
        self.parts = [uri for _, uri in parts]
        """The oldest first."""
        self._oldest = parts[0][0] if parts else ""

    def _parts(self, only: str) -> Iterator[tuple[str, str]]:
        """Yield (time of writing, URI) of each part, and count everything."""
        for listed in storage.list_objects(self.results + only):
            name = listed.source_ref.removeprefix(self.results)
            shard = pair.shard_named(name)
            if name.startswith(parts.PREFIX):
                self.waiting += 1
                self.waiting_bytes += listed.size or 0
                yield listed.last_modified or "", listed.source_ref
            elif shard is not None:
                self.objects.add(name)
                self.table_bytes += listed.size or 0
                if shard != WHOLE:
                    self.shards.add(shard)

    def pays(self, max_age: float) -> bool:
        """Tell whether enough waits, or a part for long enough (seconds), that a merge pays."""
        if self.waiting_bytes > SHARE * self.table_bytes or not self._oldest:
            return True
        age = datetime.now(UTC) - datetime.fromisoformat(self._oldest)
        return age.total_seconds() >= max_age


@contextlib.contextmanager
def _room(found: _Found) -> Iterator[None]:
    """Raise `NoSpace` if temporary files do not fit."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        needed = 2 * found.table_bytes + found.waiting_bytes
        raise NoSpace(
            f"{tempfile.gettempdir()}: no space left for the temporary files of {found.results}, "
            f"up to {needed:,} bytes; free some, or set TMPDIR to a larger disk (for the function, "
            "raise EphemeralStorage). Nothing is lost"
        ) from error


class _Gathered:
    """The rows of parts, and the result for each part."""

    def __init__(self) -> None:
        self.merged: list[str] = []
        self.broken: list[str] = []
        self.missed: list[storage.Transient] = []
        """Errors of parts that could not be read now, and stay for the next run."""
        self.models: set[str] = set()
        """Versions of the models that the rows name."""

    def rows(self, uris: list[str]) -> Iterator[merge.Keyed]:
        """Yield the parts' rows, with a few parts in memory at a time."""
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
        self.models.update(name.decode() for name in _MODEL.findall(data))
        return rows


def _read_part(uri: str) -> bytes | StorageError:
    try:
        return storage.read(uri, parts.MAX_BYTES)
    except StorageError as error:
        return error

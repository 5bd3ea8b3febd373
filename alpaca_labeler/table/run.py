"""A labelling run and the table of its folder: what is known, what is new, what is gone."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self

from msgspec import structs

from alpaca_labeler import storage
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import log, prune
from alpaca_labeler.table.facts import DECODER_CODES, EARLIEST, Decision, Read, later, timestamp
from alpaca_labeler.table.lines import Keyed
from alpaca_labeler.table.log import Log, LogError
from alpaca_labeler.table.places import Places
from alpaca_labeler.table.row import Row, merge
from alpaca_labeler.table.table import Table, open_table

TRIED_AGAIN: Final = frozenset({"unreadable", "too-many-pixels", "too-large"})
"""Failures that a user repairs without touching the photo: by chmod, `--max-pixels`."""

RETENTION: Final = timedelta(days=18)
"""How long the row of a photo that is gone is kept. Longer than a queue and its dead letters keep a
message: 14 days, and 4 for a message that was tried before."""

EVER: Final = "~"
"""Later than any moment: what is gone at all is past."""

_FEW: Final = 100_000
"""Keys that are sorted sooner without NumPy: 100,000 take 44 ms, its import alone 80."""


class Held(NamedTuple):
    """What models have said in a table so far."""

    labels: set[str]
    models: set[str]
    """Versions of those whose labels count: nobody has decided about them."""


class Run:
    """One labelling run over a manifest. A context manager: it locks out other runs."""

    def __init__(
        self, path: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Without entering the context, nothing is locked or written."""
        self.places = Places(path)
        self.overruled: list[str] = []
        """Photos with a new content, whose label a person gave to the one before."""
        self._log = Log(path)
        self._clock = clock
        self._known = self._failed = array("q")
        self._seen, self._written = array("q"), array("q")
        self._said: dict[str, Decision] = {}
        """By content: what a person called it, under any name."""
        self._judged: dict[str, Row] = {}
        """By name: the rows about which people have decided."""
        self._ahead: dict[str, str] = {}
        """By name: moments in the table that are still to come, since a clock was set back."""
        self._last = EARLIEST

    def __enter__(self) -> Self:
        """Lock the manifest. Raises `LogError`."""
        try:
            self._log.run()
        except BaseException:
            self._log.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock."""
        self._log.close()

    def load(self, model: str | None, decoder: str = "") -> Held:
        """Learn which photos have a row by the version `model`, or by a person; with None, none.

        What another decoder than `decoder` could not read counts as new: it is tried once. Takes 16
        bytes of memory per photo. Raises `ManifestError` for a line that is not a row.
        """
        known, failed, now = array("q"), array("q"), timestamp(self._clock())
        held = Held(set(), set())
        for row, _ in self._table().read():
            if row.newest > now:
                self._ahead[row.source_ref] = row.newest
            if row.people:
                self._judge(row)
            if row.hidden or row.read is None:
                continue
            if row.answer and row.answer.label:
                held.labels.add(row.answer.label)
                if not row.decision:
                    held.models.add(row.model)
            failure = row.failure
            if failure and failure.code in TRIED_AGAIN:
                failed.append(_key(row.source_ref, row.read))
            elif failure and failure.code in DECODER_CODES and failure.decoder != decoder:
                continue
            elif model is not None and (row.decision or row.model == model):
                known.append(_key(row.source_ref, row.read))
        self._known, self._failed = _sorted(known), _sorted(failed)
        return held

    def _judge(self, row: Row) -> None:
        self._judged[row.source_ref] = Row(row.source_ref, row.read, people=row.people)
        for content, said in row.people.items():
            before = self._said.get(content)
            if content and said.label is not None and (before is None or before.at < said.at):
                self._said[content] = said

    # --- photos that are found ---

    def named(self, image: ImageVersion) -> ImageVersion:
        """Return a photo that was found under its name in this manifest, and note that it is there.

        The name of a file is relative to the manifest's folder, however the command was called.
        """
        name = image.source_ref
        if not storage.is_s3(name):
            name = storage.to_source_ref(self.places.name(storage.to_path(name)))
        self._seen.append(hash(name))
        return image if name == image.source_ref else replace(image, source_ref=name)

    def has(self, image: ImageVersion) -> bool:
        """Tell whether this very version of the image has its row. Call `load` before.

        A failure of `TRIED_AGAIN` does not count.
        """
        return _contains(self._known, _key(image.source_ref, image))

    def had_failed(self, image: ImageVersion) -> bool:
        """Tell whether this version has a failure of `TRIED_AGAIN`, which is not reported again."""
        return _contains(self._failed, _key(image.source_ref, image))

    def append(self, row: Row) -> Row:
        """Write what was read, dated after all that is known of the photo; return it with that.

        If a person has labelled the same content under another name, that label comes with it.
        """
        name, read = row.source_ref, row.read or Read()
        self._last = later(self._clock(), max(self._last, self._ahead.get(name, "")))
        row = replace(row, read=structs.replace(read, at=self._last))
        before = self._judged.get(name, Row(name))
        if read.content in self._said and read.content not in before.people:
            row = replace(row, people={read.content: self._said[read.content]})
        known = merge(before, row)
        if before.decision and not known.decision:
            self.overruled.append(name)
        self._log.append([row])
        self._written.append(hash(name))
        return known

    def settle(self, until: str | None = None) -> bool:
        """Bring the manifest to one sorted row per photo; tell whether it could be replaced.

        What has been gone since before `until` is dropped; without it, for longer than `RETENTION`.
        """
        until = until or timestamp(self._clock() - RETENTION)
        return self._log.settle(lambda row: not is_past(row, until))

    # --- what the table holds ---

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the photos that are there."""
        return self._table().rows()

    def found(self) -> Iterator[tuple[Row, bool]]:
        """Yield the rows of the photos that this run has found, and whether it wrote them."""
        seen, written = _sorted(self._seen), _sorted(self._written)
        for row in self.rows():
            if _contains(seen, key := hash(row.source_ref)):
                yield row, _contains(written, key)

    def _table(self) -> Table:
        return open_table(self._log.path, missing_ok=True)

    def gone(self, listed: Iterable[str] = ()) -> list[Row]:
        """Return a row that says so for each photo that has a row and is no longer there.

        `listed` are `s3://` prefixes of which this run has found all photos; other photos in
        buckets are taken to be there.
        """
        seen, prefixes, now = _sorted(self._seen), tuple(listed), self._clock()
        files: list[Row] = []
        objects: list[str] = []
        for name, line in log.read(self._log.path):
            if _contains(seen, hash(name)) or (row := Row.from_line(line)).hidden:
                continue
            if storage.is_s3(name):
                objects += [name] * name.startswith(prefixes)
            elif self.places.is_gone(name):
                files.append(Row(name, gone=later(now, row.newest)))
        return files + prune.gone(objects)

    def prune(self, gone: Sequence[Row]) -> None:
        """Write that photos are gone. Raises `LogError`."""
        self.check_gone(gone)
        self._log.append(gone)

    def check_gone(self, gone: Sequence[Row]) -> None:
        """Raise `LogError` if no photo would be left: then something else is wrong."""
        if gone and len(gone) == sum(1 for _ in self.rows()):
            raise LogError(
                f"{self._log.path}: none of its {len(gone):,} photos is there, so no row was "
                "removed. Connect their drive, or put the manifest back beside them; to start "
                "again, delete the manifest"
            )


def is_past(row: Keyed, until: str) -> bool:
    """Tell whether a row is of a photo that has been gone since before `until`."""
    if b'"gone":"' not in row[1]:
        return False
    found = Row.from_line(row[1])
    return found.hidden and found.gone < until


def _key(name: str, state: ImageVersion | Read) -> int:
    # 64 bits: among 10^8 photos one changed file in 10^11 is taken for an old one.
    # A file is known before it is read: by its date, and not by its content.
    etag = state.etag if storage.is_s3(name) else None
    return hash((name, etag or state.last_modified, state.size))


def _sorted(keys: array[int]) -> array[int]:
    """Return the keys sorted; many are sorted in place, so a hundred million have no copy."""
    if len(keys) < _FEW:
        return array("q", sorted(keys))
    import numpy as np  # 80 ms that a small folder need not wait for

    np.frombuffer(keys, dtype=np.int64).sort()
    return keys


def _contains(index: array[int], key: int) -> bool:
    place = bisect_left(index, key)
    return place < len(index) and index[place] == key

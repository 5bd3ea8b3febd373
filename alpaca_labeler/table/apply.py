"""People's rows into a manifest, on this machine or in a bucket: `alpaca manifest apply`.

A person's row speaks of the version of the photo that the person saw. It is taken in where the
table still has that version, or no row of the photo at all; of several, the last word counts.
"""

from __future__ import annotations

import fcntl
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from alpaca_labeler.handler import compaction, manifest_row, parts, storage
from alpaca_labeler.handler.manifest_row import ManifestError
from alpaca_labeler.table import jsonl
from alpaca_labeler.table.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alpaca_labeler.handler.manifest_row import Row

PATIENCE: Final = 10.0
"""Seconds that another process may keep the corrections locked; a write takes milliseconds."""

PART_ROWS: Final = 10_000
"""Rows of one part at most: some 6 MB, what a full batch of the function writes."""

KNOWN: Final = "there already"
OUTDATED: Final = "passed over: the photo has another version there, which wants a look of its own"
UNNAMED: Final = "passed over: which version of the photo was seen is not said, nor is there a row"


@dataclass(slots=True)
class Plan:
    """What corrections come to in one manifest."""

    rows: list[Row] = field(default_factory=list)
    """To be written, one an image."""
    left: Counter[str] = field(default_factory=Counter)
    """Images with nothing to write, by the reason."""

    def take(self, said: list[Row], current: Row | None) -> None:
        """Decide on one image, of which people said `said`; `current` is its row now, if any."""
        if current is not None:
            said = [_of_version_seen(row, current) for row in said]
            said = [row for row in said if manifest_row.same_version(row, current)]
        elif not any(map(manifest_row.names_version, said)):
            self.left[UNNAMED] += 1
            return
        if not said:
            self.left[OUTDATED] += 1
            return
        now = [current] if current is not None else []
        word = manifest_row.winner([*now, *said])
        if current is not None and manifest_row.encode(word) == manifest_row.encode(current):
            self.left[KNOWN] += 1
        else:
            self.rows.append(word)


def read_corrections(path: str) -> dict[str, list[Row]]:
    """Read people's rows, by `source-ref`.

    Raises `ManifestError` naming file, line and remedy where a line is no person's label, and
    `OSError`.
    """
    said: dict[str, list[Row]] = {}
    with open(path, "rb") as file:
        try:
            jsonl.lock(file, fcntl.LOCK_SH, time.monotonic() + PATIENCE)  # whole lines only
        except BlockingIOError:
            raise ManifestError(f"{path}: another process is writing it; try again") from None
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                row = _persons(line)
            except ManifestError as error:
                raise ManifestError(
                    f"{path}: line {number}: {error}; take the line out, or name a file that "
                    "`alpaca review` has written"
                ) from None
            said.setdefault(row["source-ref"], []).append(row)
    return said


def _persons(line: bytes) -> Row:
    row = manifest_row.parse(line)
    name = row["source-ref"]
    if manifest_row.is_failure(row):
        raise ManifestError(f"the row of {name} is a failure, and no person's label")
    if not manifest_row.is_human(row):
        raise ManifestError(f'the row of {name} is no person\'s (`human-annotated` is not "yes")')
    index, label = (
        row.get(f"{manifest_row.attribute(row)}"),
        manifest_row.metadata(row).get("class-name"),
    )
    if type(index) is not int or not isinstance(label, str):
        raise ManifestError(f"the row of {name} has no label (an index and a `class-name`)")
    return row


def to_files(
    said: Mapping[str, list[Row]], manifest_path: str, failures_path: str, *, dry_run: bool
) -> Plan:
    """Bring people's rows into a manifest on this machine, locked meanwhile.

    Raises `LedgerError`, `ManifestError` and `OSError`; nothing is lost by any of them.
    """
    ledger = Ledger(manifest_path, failures_path)
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(ledger)
        plan = _plan(said, ledger.table())
        if not dry_run and plan.rows:
            for row in plan.rows:
                ledger.append(row)
            ledger.settle()
    return plan


def to_bucket(said: Mapping[str, list[Row]], results: str, *, dry_run: bool) -> Plan:
    """Bring people's rows into a bucket's table, as immutable parts for the next compaction.

    `results` is `s3://bucket/labels/`. Raises `StorageError`, and `ManifestError` where the table
    is damaged or a row is of no photo in a bucket.
    """
    for name in said:
        if not storage.is_s3(name):
            raise ManifestError(
                f"{name}: a file, and {results} is of photos in a bucket; apply its row to the "
                "manifest.jsonl that it came from"
            )
    plan = _plan(said, compaction.table(results))
    if not dry_run:
        for start in range(0, len(plan.rows), PART_ROWS):
            parts.write(results, plan.rows[start : start + PART_ROWS])
    return plan


def _plan(said: Mapping[str, list[Row]], table: Iterable[tuple[bytes, bool]]) -> Plan:
    plan = Plan()
    rest = dict(said)
    for line, _ in table:
        current = manifest_row.parse(line)
        rows = rest.pop(current["source-ref"], None)
        if rows is not None:
            plan.take(rows, current)
    for rows in rest.values():
        plan.take(rows, None)
    return plan


def _of_version_seen(row: Row, current: Row) -> Row:
    """A row that does not say which version was seen, as other tools write them, is of this one."""
    if manifest_row.names_version(row):
        return row
    return {
        **row,
        "labeler": {**manifest_row.block(current, "labeler"), **manifest_row.block(row, "labeler")},
    }

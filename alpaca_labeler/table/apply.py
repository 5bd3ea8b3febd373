"""Corrections from elsewhere into a table, on this machine or in a bucket: `alpaca manifest apply`.

What `alpaca review` writes beside a manifest, or into a bucket, counts without it.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from alpaca_labeler import storage
from alpaca_labeler.table import corrections, manifest_row
from alpaca_labeler.table.corrections import BucketCorrections, CorrectionsError, Skipped
from alpaca_labeler.table.ledger import Ledger
from alpaca_labeler.table.table import open_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from alpaca_labeler.table.manifest_row import Row

KNOWN: Final = "there already"
OUTDATED: Final = "skipped: the photo has another version there; review it again"
UNNAMED: Final = (
    "skipped: the correction does not name a photo version, and the manifest has no row for it"
)
BY_MODEL: Final = "skipped: by a model"


@dataclass(slots=True)
class Plan:
    """What corrections come to in one manifest."""

    rows: list[Row] = field(default_factory=list)
    """To be written, one per image."""
    left: Counter[str] = field(default_factory=Counter)
    """Images with nothing to write, by the reason."""

    def take(self, said: list[Row], current: Row | None) -> None:
        """Decide on one image, of which people said `said`; `current` is its row now, if any."""
        named = [row for row in said if manifest_row.names_version(row)]
        if current is None:
            if named:
                self.rows.append(manifest_row.winner(named))
            else:
                self.left[UNNAMED] += 1
        elif (new := corrections.corrected(current, said)) != current:
            self.rows.append(new)
        elif len(named) < len(said) or any(manifest_row.same_version(r, current) for r in named):
            self.left[KNOWN] += 1
        else:
            self.left[OUTDATED] += 1


def read_corrections(path: str) -> tuple[dict[str, list[Row]], int]:
    """Read what people decided, by `source-ref`, and how many rows by a model were skipped.

    Raises `CorrectionsError`.
    """
    said: dict[str, list[Row]] = {}
    skipped = Skipped()
    for source_ref, line in corrections.read(path, skipped):
        said.setdefault(source_ref, []).append(manifest_row.parse(line))
    return said, skipped.rows


def to_files(
    said: Mapping[str, list[Row]], manifest_path: str, failures_path: str, *, dry_run: bool
) -> Plan:
    """Bring corrections into a manifest on this machine, locked meanwhile.

    Raises `LedgerError`, `ManifestError` and `OSError`; nothing is lost by any of them.
    """
    ledger = Ledger(manifest_path, failures_path)
    here: dict[str, list[Row]] = {}
    for name, rows in said.items():
        modern = ledger.places.modern(name)
        here.setdefault(modern, []).extend({**row, "source-ref": modern} for row in rows)
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(ledger)
            ledger.load(None)
        plan = _plan(here, ledger.table())
        if not dry_run and plan.rows:
            for row in plan.rows:
                ledger.append(row)
            ledger.settle()
    return plan


def to_bucket(said: Mapping[str, list[Row]], results: str, *, dry_run: bool) -> Plan:
    """Bring corrections into a bucket's table, as immutable parts for the next compaction.

    `results` is `s3://bucket/labels/`. Raises `StorageError`, `ManifestError` if the table is
    damaged, and `CorrectionsError` if a row is not of a photo in a bucket.
    """
    for name in said:
        if not storage.is_s3(name):
            raise CorrectionsError(
                f"{name}: a file, and {results} is of photos in a bucket; apply its row to the "
                "manifest.jsonl that it came from"
            )
    plan = _plan(said, open_table(results).lines(missing_ok=True))
    if not dry_run and plan.rows:
        BucketCorrections(results).add_all(plan.rows)
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

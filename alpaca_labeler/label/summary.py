"""Summary of a run: what the manifest holds for its photos now, and what is new."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from alpaca_labeler.console import counted, printable
from alpaca_labeler.photos import skip
from alpaca_labeler.photos.skip import Kind, Skipped
from alpaca_labeler.table import manifest_row
from alpaca_labeler.table.table import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from alpaca_labeler.label.sort_into import Sorted
    from alpaca_labeler.pipeline.worker import Done
    from alpaca_labeler.table.manifest_row import Row


@dataclass(slots=True)
class Report:
    """What a run has done, and what the manifest holds for its photos afterwards."""

    model_version: str
    labels: Counter[str]
    """Photos by label as the manifest has them, the model's positive class first."""
    new: Counter[str] = field(default_factory=Counter)
    """Photos by the label that the model gave them in this run."""
    needs_review: int = 0
    by_people: int = 0
    failed: int = 0
    newly_failed: int = 0
    unreached: int = 0
    """Photos without a row for now: throttled, no connection, no permission on S3."""
    gone: int = 0
    """Rows of photos that are no longer there."""
    pruned: bool = False
    overruled: list[str] = field(default_factory=list)
    """Photos with a new version, whose label a person gave to the one before."""
    sorted: Sorted | None = None
    skipped: Skipped = field(default_factory=Skipped)
    seconds: float = 0.0
    interrupted: bool = False
    latest: dict[str, tuple[str | None, bool]] | None = None
    """Of a watch, which may try a photo again: name -> (label, whether it has a row)."""

    def add(self, done: Done) -> None:
        """Count one more photo that this run has tried."""
        found = done.label, done.row is not None
        if self.latest is not None:
            if before := self.latest.get(done.image.source_ref):
                self._count(*before, -1)
            self.latest[done.image.source_ref] = found
        self._count(*found, 1)

    def _count(self, label: str | None, has_row: bool, by: int) -> None:  # noqa: FBT001
        if label is not None:
            self.new[label] += by
        elif has_row:
            self.newly_failed += by
        else:
            self.unreached += by

    def hold(self, rows: Iterable[Row]) -> None:
        """Count the rows that the manifest holds for the photos of this run."""
        for row in rows:
            if manifest_row.is_failure(row):
                self.failed += 1
                continue
            self.labels[manifest_row.label(row) or "unknown"] += 1
            self.needs_review += manifest_row.needs_review(row)
            self.by_people += manifest_row.is_human(row)

    @property
    def photos(self) -> int:
        """Photos that have a row, or could not be reached."""
        return self.labels.total() + self.failed + self.unreached

    @property
    def tried(self) -> int:
        """Photos that this run has labelled or tried to."""
        return self.new.total() + self.newly_failed + self.unreached

    @property
    def lost(self) -> float:
        """Share of the photos that have no label, 0..1."""
        return (self.failed + self.unreached) / max(self.photos, 1)

    @property
    def unchanged(self) -> int:
        """Photos whose label is from an earlier run."""
        return self.labels.total() - self.new.total()


def as_json(report: Report, manifest: str, failures: str) -> str:
    """Return the summary for programs."""
    return json.dumps(
        {
            "photos": report.photos,
            "labels": dict(report.labels),
            "needs_review": report.needs_review,
            "by_people": report.by_people,
            "failed": report.failed,
            "failed_before": report.failed - report.newly_failed,
            "unreached": report.unreached,
            "new": {name: report.new[name] for name in report.labels},
            "unchanged": report.unchanged,
            "gone": report.gone,
            "overruled": report.overruled,
            "sorted": report.sorted and report.sorted.as_dict(),
            "not_images": report.skipped.others,
            "skipped": {kind.value: count for kind, count in report.skipped.counts.items()},
            "not_downloaded": report.skipped.not_downloaded,
            "unreadable_folders": report.skipped.folders,
            "seconds": round(report.seconds, 3),
            "interrupted": report.interrupted,
            "model_version": report.model_version,
            "manifest": manifest,
            "failures": failures,
        },
        indent=2,
    )


def as_table(report: Report, manifest: str, failures: str) -> str:
    """Return the summary for people."""
    rows = list(_rows(report, failures))
    width = max(len(name) for name, *_ in rows)
    digits = max(len("photos"), *(len(f"{count:,}") for _, count, *_ in rows))
    lines = [f"  {'':<{width}}  {'photos':>{digits}}  {'new':>{digits}}"]
    for name, count, new, note in rows:
        text = f"  {name:<{width}}  {count:>{digits},}  {format(new, ',') if new else '':>{digits}}"
        text = f"{text}  {note}".rstrip()
        lines.append(click.style(text, fg=_COLOURS.get(name) if count else None))
    labelled = report.new.total()
    rate = f", {labelled / report.seconds:,.0f}/s" if labelled and report.seconds > 0 else ""
    lines += [
        "",
        f"  {labelled:,} of {report.photos:,} photos labelled in {report.seconds:.1f} s{rate}"
        if report.tried
        else f"  nothing new among {counted(report.photos, 'photo')}",
    ]
    if report.sorted is not None:
        lines.append(f"  {report.sorted}")
    lines += [f"  model     {report.model_version}", f"  manifest  {printable(manifest)}"]
    return "\n".join(lines)


_COLOURS = {"needs review": "yellow", "failed": "red", "not reached": "red"}


def _rows(report: Report, failures: str) -> Iterator[tuple[str, int, int, str]]:
    for name, count in report.labels.items():
        yield printable(name), count, report.new[name], ""
    yield "needs review", report.needs_review, 0, "of these"
    if report.by_people:
        yield "by people", report.by_people, 0, "as they said"
    before = report.failed - report.newly_failed
    as_before = ", as before" if before and not report.newly_failed else ""
    see = f"see {printable(failures)}{as_before}" if report.failed else ""
    yield "failed", report.failed, report.newly_failed, see
    more = (
        ("not reached", report.unreached, "run again"),
        ("unchanged", report.unchanged, "labelled before"),
        ("gone", report.gone, "rows removed" if report.pruned else "see --prune"),
        ("overruled", len(report.overruled), "review them again"),
        *(("skipped", report.skipped.counts[kind], kind.text) for kind in Kind),
    )
    for name, count, note in more:
        if count:
            yield name, count, 0, note


def nothing_found(paths: Iterable[str], report: Report) -> str:
    """Return the message if there is no photo at all."""
    others = report.skipped.others
    skipped = f"; {counted(others, 'other file')} skipped" if others else ""
    formats = " ".join(sorted(suffix[1:] for suffix in skip.SUFFIXES - skip.RAW_SUFFIXES))
    return f"no photos in {', '.join(map(printable, paths))} (formats: {formats}){skipped}"


def next_steps(manifest: str) -> str:
    """Return the commands that usually come next."""
    name = "" if manifest == DEFAULT else f" {printable(shlex.quote(manifest))}"
    return f"\n  Next: alpaca review{name}\n        alpaca report{name} --open"

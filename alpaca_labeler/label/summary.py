"""Summary of a run: what the manifest holds for its photos now, and what is new."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

import click

from alpaca_labeler import storage
from alpaca_labeler.console import counted, printable
from alpaca_labeler.label.sort_into import Sorted
from alpaca_labeler.photos import skip
from alpaca_labeler.photos.skip import Kind, Skipped
from alpaca_labeler.pipeline.done import Done
from alpaca_labeler.table.progress import Progress
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.run import Run
from alpaca_labeler.table.table import DEFAULT


@dataclass(slots=True)
class Report:
    """What a run has done, and what the manifest holds for its photos afterwards."""

    model_version: str
    labels: Counter[str]
    """Photos by label as the manifest has them, the model's positive class first."""
    new: Counter[str] = field(default_factory=Counter)
    """Photos by the label that the model gave them in this run."""
    needs_review: int = 0
    progress: Progress = field(default_factory=Progress)
    failed: int = 0
    newly_failed: int = 0
    """Photos that have failed in this run, and that nobody has labelled."""
    unreached: set[str] = field(default_factory=set)
    """Photos that may be labelled by another run: throttled, no connection, no permission."""
    gone: int = 0
    """Rows of photos that are no longer there."""
    pruned: bool = False
    overruled: list[str] = field(default_factory=list)
    """Photos with a new version, whose label a person gave to the one before."""
    sorted: Sorted | None = None
    skipped: Skipped = field(default_factory=Skipped)
    seconds: float = 0.0
    interrupted: bool = False

    def keep(self, done: Done, run: Run) -> Row | None:
        """Write the result for a photo. Return what the manifest says of it now."""
        if done.row is None or has_gone(done):
            self.unreached.add(done.image.source_ref)
            return None
        self.unreached.discard(done.image.source_ref)
        return run.append(done.row)

    def hold(self, found: Iterable[tuple[Row, bool]]) -> None:
        """Count the rows that the manifest holds for the photos of this run, and the new ones."""
        for row, is_new in found:
            if row.failure:
                self.failed += 1
                self.newly_failed += is_new
            else:
                self.labels[row.label or "unknown"] += 1
            if is_new and row.answer and row.answer.label:
                self.new[row.answer.label] += 1
            self.needs_review += row.needs_review
            self.progress.add(row)

    @property
    def photos(self) -> int:
        """Photos that have a row, or could not be reached."""
        return self.labels.total() + self.failed + len(self.unreached)

    @property
    def lost(self) -> float:
        """Share of the photos that have no label, 0..1."""
        return (self.failed + len(self.unreached)) / max(self.photos, 1)

    @property
    def unchanged(self) -> int:
        """Photos whose label is from an earlier run."""
        return self.labels.total() - self.new.total()


def has_gone(done: Done) -> bool:
    """Tell whether a file was found and could not be found again: its drive may have dropped out.

    That is no verdict on the photo.
    """
    failure = done.row.failure if done.row else None
    was_there = done.image.size is not None and not storage.is_s3(done.image.source_ref)
    return bool(failure and failure.code == "not-found" and was_there)


def as_json(report: Report, manifest: str) -> str:
    """Return the summary for programs."""
    return json.dumps(
        {
            "photos": report.photos,
            "labels": dict(report.labels),
            "needs_review": report.needs_review,
            "by_people": report.progress.decided,
            "progress": report.progress.as_dict(),
            "failed": report.failed,
            "failed_before": report.failed - report.newly_failed,
            "unreached": len(report.unreached),
            "new": {name: report.new[name] for name in report.labels},
            "unchanged": report.unchanged,
            "gone": report.gone,
            "overruled": report.overruled,
            "sorted": report.sorted and asdict(report.sorted),
            "not_images": report.skipped.counts.total(),
            "skipped": {kind.value: count for kind, count in report.skipped.counts.items()},
            "not_downloaded": report.skipped.not_downloaded,
            "unreadable_folders": report.skipped.folders,
            "seconds": round(report.seconds, 3),
            "interrupted": report.interrupted,
            "model_version": report.model_version,
            "manifest": manifest,
        },
        indent=2,
    )


def as_table(report: Report, manifest: str) -> str:
    """Return the summary for people."""
    rows = list(_rows(report))
    width = max(len(name) for name, *_ in rows)
    digits = max(len("photos"), *(len(f"{count:,}") for _, count, *_ in rows))
    lines = [f"  {'':<{width}}  {'photos':>{digits}}  {'new':>{digits}}"]
    for name, count, new, note in rows:
        text = f"  {name:<{width}}  {count:>{digits},}  {format(new, ',') if new else '':>{digits}}"
        text = f"{text}  {note}".rstrip()
        lines.append(click.style(text, fg=_COLOURS.get(name) if count else None))
    labelled = report.new.total()
    rate = f", {labelled / report.seconds:,.0f}/s" if labelled and report.seconds > 0 else ""
    done = f"  nothing new among {counted(report.photos, 'photo')}"
    if labelled or report.newly_failed or report.unreached or report.interrupted:
        # Before all are found, nobody knows how many there are.
        total = "photos" if report.interrupted else f"of {report.photos:,} photos"
        done = f"  {labelled:,} {total} labelled in {report.seconds:.1f} s{rate}"
    lines += ["", done]
    if report.progress.decided:
        lines.append(f"  {report.progress}")
    if report.sorted is not None:
        lines.append(f"  {report.sorted}")
    lines += [f"  model     {report.model_version}", f"  manifest  {printable(manifest)}"]
    return "\n".join(lines)


_COLOURS = {"needs review": "yellow", "failed": "red", "not reached": "red"}


def _rows(report: Report) -> Iterator[tuple[str, int, int, str]]:
    for name, count in report.labels.items():
        yield printable(name), count, report.new[name], ""
    yield "needs review", report.needs_review, 0, "of these"
    if decided := report.progress.decided:
        yield "by people", decided, 0, "as they said"
    before = report.failed - report.newly_failed
    as_before = "as before" if before and not report.newly_failed else ""
    yield "failed", report.failed, report.newly_failed, as_before
    more = (
        ("not reached", len(report.unreached), "run again"),
        ("unchanged", report.unchanged, "labelled before"),
        ("gone", report.gone, "rows hidden" if report.pruned else "see --prune"),
        ("overruled", len(report.overruled), "review them again"),
        *(("skipped", report.skipped.counts[kind], kind.text) for kind in Kind),
    )
    for name, count, note in more:
        if count:
            yield name, count, 0, note


def nothing_found(paths: Iterable[str], report: Report) -> str:
    """Return the message if there is no photo at all."""
    others = report.skipped.counts.total()
    skipped = f"; {counted(others, 'other file')} skipped" if others else ""
    formats = " ".join(sorted(suffix[1:] for suffix in skip.SUFFIXES - skip.RAW_SUFFIXES))
    return f"no photos in {', '.join(map(printable, paths))} (formats: {formats}){skipped}"


def too_few(report: Report, manifest: str) -> str:
    """Return the message if too many photos have no label: it names only what is there."""
    share = f"{100 * report.lost:.0f} % of the photos"
    text = f"{share} have no label, more than --max-failure-rate allows"
    if report.unreached:
        text += f"; {len(report.unreached):,} could not be reached: run the same command again"
    return f"{text}; see: {steps(manifest)[-1]}" if report.failed else text


def steps(manifest: str) -> list[str]:
    """Return the commands that come next: to review, to report, to see what failed."""
    name = "" if manifest == DEFAULT else f" {printable(shlex.quote(manifest))}"
    return [
        f"alpaca review{name}",
        f"alpaca report{name} --open",
        f"alpaca manifest show{name} --failed",
    ]

"""`alpaca label`: photos in, manifest out."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NoReturn

import click

from alpaca_labeler.console import SHOWN_PROBLEMS, Progress, printable
from alpaca_labeler.console.arguments import BUNDLE, NEW_FILE, NEW_FOLDER, PHOTOS
from alpaca_labeler.handler import cores, storage
from alpaca_labeler.handler.manifest_row import ManifestError
from alpaca_labeler.handler.pool import WorkerError, Workers
from alpaca_labeler.handler.worker import Job
from alpaca_labeler.label import sort_into, sources
from alpaca_labeler.label.sources import Skipped
from alpaca_labeler.table.ledger import Ledger, LedgerError
from alpaca_labeler.table.places import Places
from alpaca_labeler.table.table import beside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alpaca_labeler.handler.image_version import ImageVersion
    from alpaca_labeler.handler.worker import Done

S3_THREADS: Final = 16
"""Downloads at a time in each worker: a photo takes some 40 ms to arrive and 10 ms to label."""

LOOK_AHEAD: Final = 10_000
"""Photos that are found before the first is labelled: a few megabytes of names."""

MAX_WORKERS: Final = 256

MAX_BYTES: Final = 100 * 2**20
"""Largest encoded photo that is read."""

EXIT_INTERRUPTED: Final = 130


@click.command(context_settings={"max_content_width": 100})
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=PHOTOS)
@click.option(
    "--manifest",
    "manifest_path",
    type=NEW_FILE,
    default="manifest.jsonl",
    show_default=True,
    metavar="FILE",
    help="Where the labels go.",
)
@click.option(
    "--failures",
    "failures_path",
    type=NEW_FILE,
    metavar="FILE",
    help="Where photos go that cannot be labelled.  [default: failures.jsonl beside the manifest]",
)
@click.option(
    "--model",
    default="embedded",
    show_default=True,
    type=BUNDLE,
    metavar="BUNDLE",
    help="A model bundle: a folder, or an s3:// prefix or its latest.json.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    default=lambda: min(cores.usable(), MAX_WORKERS),
    help="Processes that label at the same time.  [default: one per core of this process]",
)
@click.option("--relabel", is_flag=True, help="Label all again, not only what is new.")
@click.option(
    "--copy-to",
    type=NEW_FOLDER,
    metavar="DIR",
    help="Then copy the photos into DIR/LABEL/.",
)
@click.option("--link", is_flag=True, help="With --copy-to: hard links instead of copies.")
@click.option(
    "--max-failure-rate",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Exit with 1 when a larger share of the photos failed.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=100_000_000,
    show_default=True,
    help="Largest width x height that is decoded.",
)
@click.option("--prune", is_flag=True, help="Remove rows of photos that are no longer there.")
@click.option("--dry-run", is_flag=True, help="Only say what would be labelled.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def label(
    *,
    paths: tuple[str, ...],
    manifest_path: str,
    failures_path: str | None,
    model: str,
    workers: int,
    relabel: bool,
    copy_to: str | None,
    link: bool,
    max_failure_rate: float,
    max_pixels: int,
    prune: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Label photos: files, folders or buckets.

    \b
        alpaca label holiday/
        alpaca label a.jpg b.png farm/ --manifest labels.jsonl
        alpaca label holiday/ --copy-to sorted/ --link
        alpaca label s3://my-photos/2026/ --workers 4
        alpaca label holiday/ --model s3://my-models/alpaca/latest.json
        alpaca label holiday/ --prune

    Run it again and only new or changed photos are labelled. Photos that cannot be labelled are
    listed with the reason in failures.jsonl.

    Exit code: 0 done, 1 too many failures, 2 wrong usage, 130 interrupted.
    """
    failures_path = failures_path or beside(manifest_path, "failures")
    run = Run(
        paths,
        manifest_path,
        failures_path,
        model,
        workers,
        relabel,
        copy_to,
        link,
        max_pixels,
        prune,
    )
    _check_usage(run)
    try:
        if dry_run:
            _print_plan(run)
            return
        report = _label(run)
    except (LedgerError, ManifestError, WorkerError, storage.StorageError) as error:
        raise click.ClickException(printable(str(error))) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read our output has seen enough: click ends us
            raise
        raise click.ClickException(
            f"{printable(str(error.filename or manifest_path))}: {error.strerror}. What is "
            "labelled so far is kept; run the same command again to go on."
        ) from error
    except KeyboardInterrupt:
        _exit_interrupted()
    click.echo(_as_json(run, report) if as_json else _as_table(run, report))
    if report.interrupted:
        _exit_interrupted()
    if report.lost > max_failure_rate * report.tried:
        share = report.lost / report.tried
        raise click.ClickException(
            f"{share:.0%} of the photos failed, more than --max-failure-rate allows; "
            f"{printable(failures_path)} says why"
        )


def _exit_interrupted() -> NoReturn:
    click.echo("Interrupted. Run the same command again to go on.", err=True)
    sys.exit(EXIT_INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for."""

    paths: tuple[str, ...]
    manifest_path: str
    failures_path: str
    model: str
    workers: int
    relabel: bool
    copy_to: str | None
    link: bool
    max_pixels: int
    prune: bool

    @property
    def on_s3(self) -> bool:
        """Some of the photos are in a bucket."""
        return any(storage.is_s3(path) for path in self.paths)

    def start(self, workers: int) -> Workers:
        """Start the processes that label."""
        threads = S3_THREADS if self.on_s3 else 1
        folder = Places(self.manifest_path).folder
        return Workers(Job(self.model, threads, MAX_BYTES, self.max_pixels, folder=folder), workers)


@dataclass(slots=True)
class Report:
    """What a run has done so far."""

    model_version: str
    labels: Counter[str]
    """Photos by label, in the model's order, the positive class first."""
    needs_review: int = 0
    failed: int = 0
    unreached: int = 0
    """Photos without a row for now: throttled, no connection, no permission on S3."""
    unchanged: int = 0
    gone: int = 0
    """Photos with a row that are no longer there."""
    overruled: list[str] = field(default_factory=list)
    """Photos with a new version, whose label a person gave to the one before."""
    skipped: Skipped = field(default_factory=Skipped)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def lost(self) -> int:
        """Photos that were tried and have no label."""
        return self.failed + self.unreached

    @property
    def tried(self) -> int:
        """Photos that were new or changed."""
        return self.labels.total() + self.lost

    def add(self, done: Done) -> None:
        """Count one more photo."""
        if done.label is not None:
            self.labels[done.label] += 1
            self.needs_review += done.needs_review
        elif done.row is not None:
            self.failed += 1
        else:
            self.unreached += 1


def _check_usage(run: Run) -> None:
    if run.link and run.copy_to is None:
        raise click.UsageError("--link says how --copy-to copies: give --copy-to DIR too")
    if os.path.abspath(run.manifest_path) == os.path.abspath(run.failures_path):
        raise click.UsageError("--manifest and --failures name the same file")
    if run.copy_to is None:
        return
    target = os.path.realpath(run.copy_to)
    for path in run.paths:
        if storage.is_s3(path):
            raise click.UsageError(f"--copy-to copies files; {path} is in a bucket")
        source = os.path.realpath(path)
        if os.path.isdir(source) and os.path.commonpath([target, source]) in {target, source}:
            raise click.UsageError(
                f"--copy-to {run.copy_to} overlaps {path}, where its copies would be labelled "
                "again: name a folder outside"
            )


def _label(run: Run) -> Report:
    began = time.monotonic()
    with ExitStack() as stack:
        # The workers load the model while the manifest is read.
        pool = stack.enter_context(run.start(run.workers))
        ledger = stack.enter_context(Ledger(run.manifest_path, run.failures_path))
        ready = pool.ready()
        report = Report(ready.model_version, Counter(dict.fromkeys(reversed(ready.labels), 0)))
        ledger.load(None if run.relabel else ready.model_version, ready.decoder)
        try:
            _work(run, pool, ledger, report)
        except KeyboardInterrupt:
            report.interrupted = True
        else:
            gone = ledger.gone(filter(storage.is_s3, run.paths))
            report.gone = len(gone)
            if run.prune:
                ledger.prune(gone)
        ledger.settle()
        report.overruled = ledger.overruled
        report.seconds = time.monotonic() - began
        if run.copy_to is not None and not report.interrupted:
            sort_into.copy(ledger.rows(), ledger.places, run.paths, run.copy_to, link=run.link)
    for folder in report.skipped.folders:
        click.echo(f"{printable(folder)}: this folder cannot be read", err=True)
    for name in report.overruled[:SHOWN_PROBLEMS]:
        click.echo(f"{printable(name)}: changed since a person labelled it", err=True)
    return report


def _work(run: Run, pool: Workers, ledger: Ledger, report: Report) -> None:
    todo = _todo(run, ledger, report.skipped, report)
    # A look ahead, so that the bar knows its end: with little left to label it is the only look.
    # Listing a bucket twice would cost too much.
    ahead = [] if run.on_s3 else list(islice(todo, LOOK_AHEAD))
    total = None if run.on_s3 else len(ahead)
    if total == LOOK_AHEAD:
        total = sum(1 for _ in _todo(run, ledger, Skipped()))
    with Progress("labelling", total) as progress:
        for done in pool.label(chain(ahead, todo)):
            if done.row is not None and done.label is None and ledger.had_failed(done.image):
                report.unchanged += 1
                progress.step()
                continue
            if done.row is not None:
                ledger.append(done.row)
            report.add(done)
            progress.step(_named(done))


def _named(done: Done) -> str:
    name = done.image.source_ref
    return done.problem if name in done.problem or not done.problem else f"{name}: {done.problem}"


def _todo(
    run: Run, ledger: Ledger, skipped: Skipped, report: Report | None = None
) -> Iterator[ImageVersion]:
    for image in map(ledger.named, sources.find(run.paths, skipped)):
        if not ledger.has(image):
            yield image
        elif report is not None:
            report.unchanged += 1


def _print_plan(run: Run) -> None:
    with run.start(1) as pool:
        ready = pool.ready()
    version = ready.model_version
    ledger = Ledger(run.manifest_path, run.failures_path)
    ledger.peek(None if run.relabel else version, ready.decoder)
    count = 0
    for image in _todo(run, ledger, Skipped()):
        if not ledger.had_failed(image):
            click.echo(printable(image.source_ref))
            count += 1
    place = printable(run.manifest_path)
    click.echo(f"{count:,} to label with {version} into {place}", err=True)


def _as_json(run: Run, report: Report) -> str:
    return json.dumps(
        {
            "labels": dict(report.labels),
            "needs_review": report.needs_review,
            "failed": report.failed,
            "unreached": report.unreached,
            "unchanged": report.unchanged,
            "gone": report.gone,
            "overruled": report.overruled,
            "not_images": report.skipped.others,
            "unreadable_folders": report.skipped.folders,
            "seconds": round(report.seconds, 3),
            "interrupted": report.interrupted,
            "model_version": report.model_version,
            "manifest": run.manifest_path,
            "failures": run.failures_path,
        },
        indent=2,
    )


def _as_table(run: Run, report: Report) -> str:
    rows = [(printable(name), count) for name, count in report.labels.items()]
    rows.append(("needs review", report.needs_review))
    notes = {"needs review": "of these"}
    for name, count, note in (
        ("failed", report.failed, f"see {printable(run.failures_path)}"),
        ("not reached", report.unreached, "run again to try again"),
        ("unchanged", report.unchanged, "labelled before"),
        ("not images", report.skipped.others, "passed over"),
        ("gone", report.gone, "rows removed" if run.prune else "see --prune"),
        ("overruled", len(report.overruled), "changed since a person labelled them: review again"),
    ):
        if count or name == "failed":
            rows.append((name, count))
            notes[name] = note if count else ""
    width = max(len(name) for name, _ in rows)
    table = "\n".join(
        f"  {name:<{width}}  {count:>9,}  {notes.get(name, '')}".rstrip() for name, count in rows
    )
    speed = f", {report.tried / report.seconds:,.0f} photos/s" if report.tried else ""
    return (
        f"{table}\n\n  {report.tried:,} photos in {report.seconds:.1f} s{speed}\n"
        f"  model {report.model_version} -> {printable(run.manifest_path)}"
    )

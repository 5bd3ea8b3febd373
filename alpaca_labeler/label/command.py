"""`alpaca label`: photos in, manifest out."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from alpaca_labeler import storage
from alpaca_labeler.console import (
    SHOWN_PROBLEMS,
    Progress,
    dry_run_option,
    is_quiet,
    printable,
    quiet_option,
    say,
    warn,
)
from alpaca_labeler.console.arguments import NEW_FILE, NEW_FOLDER, PHOTOS, SHARE, model_option
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.label import sort_into, sources, summary
from alpaca_labeler.label.sources import Skipped
from alpaca_labeler.label.summary import Report
from alpaca_labeler.pipeline import cores
from alpaca_labeler.pipeline.pool import Workers
from alpaca_labeler.pipeline.worker import Job
from alpaca_labeler.table.ledger import Ledger
from alpaca_labeler.table.places import Places
from alpaca_labeler.table.table import beside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alpaca_labeler.pipeline.worker import Done
    from alpaca_labeler.storage.image_version import ImageVersion

S3_THREADS: Final = 16
"""Downloads at a time in each worker: a photo takes some 40 ms to arrive and 10 ms to label."""

LOOK_AHEAD: Final = 10_000
"""Photos that are found before the first is labelled: a few megabytes of names."""

WATCH_SECONDS: Final = 1.0
"""Between two scans of a watched folder."""

MAX_WORKERS: Final = 256

MAX_BYTES: Final = 100 * 2**20
"""Largest encoded photo that is read."""

EXIT_INTERRUPTED: Final = 130


@click.command()
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
    help="Where failures are listed.  [default: failures.jsonl beside the manifest]",
)
@model_option
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    metavar="N",
    default=lambda: min(cores.usable(), MAX_WORKERS),
    help="Processes that label at the same time.  [default: one per core of this process]",
)
@click.option("--relabel", is_flag=True, help="Label all photos again, not only new ones.")
@click.option("--prune", is_flag=True, help="Remove the rows of photos that are gone.")
@click.option("--watch", is_flag=True, help="Then label what arrives in PATH, until Ctrl-C.")
@click.option(
    "--copy-to",
    type=NEW_FOLDER,
    metavar="DIR",
    help="Then copy the photos into DIR/LABEL/.",
)
@click.option("--link", is_flag=True, help="With --copy-to: hard links instead of copies.")
@click.option(
    "--max-failure-rate",
    type=SHARE,
    default=0.5,
    show_default=True,
    help="Exit with 1 if a larger share of the photos has no label.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    metavar="N",
    default=100_000_000,
    show_default=True,
    help="Largest width x height that is decoded.",
)
@dry_run_option
@quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def label(*, max_failure_rate: float, dry_run: bool, as_json: bool, **given: Any) -> None:
    """Label photos: files, folders or buckets.

    \b
        alpaca label holiday/
        alpaca label a.jpg b.png farm/ --manifest labels.jsonl
        alpaca label holiday/ --copy-to sorted/ --link
        alpaca label s3://my-photos/2026/ --workers 4
        alpaca label holiday/ --model s3://my-models/alpaca/latest.json
        alpaca label incoming/ --watch

    Run it again and only new or changed photos are labelled; what people decided stays. Photos
    that cannot be labelled are listed in failures.jsonl with the reason.

    With --copy-to, a photo that has changed is copied again, and its copy under a former label
    goes. Nothing else in DIR is touched: DIR/.alpaca-sorted.jsonl says which copies are ours. With
    --watch, a photo counts once it is no longer being written.

    Exit code: 0 done, 1 too many failures, 2 wrong usage, 130 interrupted.
    """
    manifest_path = given["manifest_path"]
    failures_path = given["failures_path"] or beside(manifest_path, "failures")
    run = Run(**{**given, "failures_path": failures_path})
    _check_usage(run)
    try:
        if dry_run:
            _print_plan(run)
            return
        report = _label(run)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has seen enough: click ends us
            raise
        raise RunError(
            f"{error.filename or manifest_path}: {error.strerror}. What is labelled so far is "
            "kept; run the same command again to go on"
        ) from error
    except KeyboardInterrupt:
        _exit_interrupted()
    if as_json:
        click.echo(summary.as_json(report, manifest_path, failures_path))
    elif not report.photos and not report.interrupted:
        warn(summary.nothing_found(run.paths, report))
    elif not is_quiet():
        click.echo(summary.as_table(report, manifest_path, failures_path))
        say(summary.next_steps(manifest_path))
    if report.interrupted:
        _exit_interrupted()
    if report.lost > max_failure_rate:
        raise RunError(
            f"{report.lost:.0%} of the photos have no label, more than --max-failure-rate "
            f"allows; {failures_path} says why"
        )


class RunError(LabelerError):
    """A run cannot go on, or has labelled too few. The message says what to do."""


def _exit_interrupted() -> NoReturn:
    warn("Interrupted. Run the same command again to go on.")
    sys.exit(EXIT_INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for, by the names of the options."""

    paths: tuple[str, ...]
    manifest_path: str
    failures_path: str
    model: str
    workers: int
    relabel: bool
    prune: bool
    copy_to: str | None
    link: bool
    max_pixels: int
    watch: bool

    @property
    def on_s3(self) -> bool:
        """Some of the photos are in a bucket."""
        return any(storage.is_s3(path) for path in self.paths)

    def start(self, workers: int) -> Workers:
        """Start the processes that label."""
        threads = S3_THREADS if self.on_s3 else 1
        folder = Places(self.manifest_path).folder
        return Workers(Job(self.model, threads, MAX_BYTES, self.max_pixels, folder=folder), workers)


def _check_usage(run: Run) -> None:
    if run.link and run.copy_to is None:
        raise click.UsageError("--link says how --copy-to copies: give --copy-to DIR too")
    if os.path.abspath(run.manifest_path) == os.path.abspath(run.failures_path):
        raise click.UsageError("--manifest and --failures name the same file")
    if run.watch and run.on_s3:
        raise click.UsageError("--watch is for folders; in a bucket the deployed job does this")
    if run.copy_to is None:
        return
    target = os.path.realpath(run.copy_to)
    for path in run.paths:
        if storage.is_s3(path):
            raise click.UsageError(f"--copy-to copies files; {path} is in a bucket")
        source = sources.place(path)
        if os.path.commonpath([target, source]) in {target, source}:
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
        report.latest = {} if run.watch else None
        ledger.load(None if run.relabel else ready.model_version, ready.decoder)
        # A watch labels what arrives or changes from here on.
        before = list(sources.find(run.paths, Skipped())) if run.watch else []
        try:
            _work(run, pool, ledger, report)
        except KeyboardInterrupt:
            report.interrupted = True
        _settle(run, ledger, report)
        report.seconds = time.monotonic() - began
        if run.watch and not report.interrupted:
            _watch(run, pool, ledger, report, before)
            ledger.settle()
        report.hold(ledger.found())
    for folder in report.skipped.folders:
        warn(f"{printable(folder)}: this folder cannot be read")
    for placeholder in report.skipped.not_downloaded:
        warn(f"{printable(placeholder)}: not downloaded; download it and run this again")
    return report


def _settle(run: Run, ledger: Ledger, report: Report) -> None:
    """Bring the manifest to one row per photo, and sort the photos into folders."""
    if not report.interrupted:  # else not all that is there has been found
        gone = ledger.gone(path for path in run.paths if storage.is_s3(path))
        report.gone, report.pruned = len(gone), run.prune
        if run.prune:
            ledger.prune(gone)
    ledger.settle()
    for name in ledger.overruled[len(report.overruled) :][:SHOWN_PROBLEMS]:
        warn(f"{printable(name)}: changed since a person labelled it; review it again")
    report.overruled = [*ledger.overruled]
    if run.copy_to is not None and not report.interrupted:
        report.sorted = sort_into.sort(
            ledger.rows(), ledger.places, run.paths, run.copy_to, link=run.link
        )


def _work(run: Run, pool: Workers, ledger: Ledger, report: Report) -> None:
    todo = _todo(run, ledger, report.skipped)
    # Count ahead, so that the bar knows its end; with little left to label, this is the whole pass.
    # Listing a bucket twice would cost too much.
    ahead = [] if run.on_s3 else list(islice(todo, LOOK_AHEAD))
    total = None if run.on_s3 else len(ahead)
    if total == LOOK_AHEAD:
        total = sum(1 for _ in _todo(run, ledger, Skipped()))
    with Progress("labelling", total) as progress:
        for done in pool.label(chain(ahead, todo)):
            progress.step(_named(done) if _keep(done, ledger, report) else "")


def _keep(done: Done, ledger: Ledger, report: Report) -> bool:
    """Write the result for a photo into the manifest; tell whether it is new."""
    if done.row is not None and done.label is None and ledger.had_failed(done.image):
        return False
    if done.row is not None:
        ledger.append(done.row)
    report.add(done)
    return True


def _watch(
    run: Run, pool: Workers, ledger: Ledger, report: Report, before: list[ImageVersion]
) -> None:
    """Label what arrives in the folders until Ctrl-C.

    A file is read once two scans in a row find it unchanged: it is no longer being written.
    """
    say(f"watching {', '.join(map(printable, run.paths))}; Ctrl-C ends it")
    known = {image.source_ref: image for image in before}
    with suppress(KeyboardInterrupt):
        waiting: dict[str, ImageVersion] = {}
        while True:
            time.sleep(WATCH_SECONDS)
            seen = {image.source_ref: image for image in sources.find(run.paths, Skipped())}
            ready = [image for name, image in waiting.items() if seen.get(name) == image]
            known.update((image.source_ref, image) for image in ready)
            waiting = {name: image for name, image in seen.items() if known.get(name) != image}
            if not ready:
                continue
            began = time.monotonic()
            for done in pool.label(map(ledger.named, ready)):
                _keep(done, ledger, report)
                name = printable(done.image.source_ref)
                say(f"{printable(done.label or 'failed'):<12}  {name}")
            _settle(run, ledger, report)
            report.seconds += time.monotonic() - began


def _named(done: Done) -> str:
    name = done.image.source_ref
    return done.problem if name in done.problem or not done.problem else f"{name}: {done.problem}"


def _todo(run: Run, ledger: Ledger, skipped: Skipped) -> Iterator[ImageVersion]:
    for image in map(ledger.named, sources.find(run.paths, skipped)):
        if not ledger.has(image):
            yield image


def _print_plan(run: Run) -> None:
    with run.start(1) as pool:
        ready = pool.ready()
    version = ready.model_version
    ledger = Ledger(run.manifest_path, run.failures_path)
    ledger.peek(None if run.relabel else version, ready.decoder)
    names = sorted(
        image.source_ref for image in _todo(run, ledger, Skipped()) if not ledger.had_failed(image)
    )
    for name in names:
        click.echo(printable(name))
    say(f"{len(names):,} to label with {version} into {printable(run.manifest_path)}")

"""`alpaca label`: photos in, manifest out."""

from __future__ import annotations

import errno
import os
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

import click
from click.core import ParameterSource

from alpaca_labeler import storage
from alpaca_labeler.console import (
    SHOWN_PROBLEMS,
    Progress,
    dry_run_option,
    few,
    is_quiet,
    printable,
    quiet_option,
    say,
    settings,
    warn,
)
from alpaca_labeler.console.arguments import (
    NEW_FILE,
    NEW_FOLDER,
    PHOTOS,
    max_bytes_option,
    model_option,
)
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.label import sources, summary, watch
from alpaca_labeler.label.sort_into import Sorter
from alpaca_labeler.label.summary import Report
from alpaca_labeler.photos.skip import Skipped
from alpaca_labeler.pipeline import cores
from alpaca_labeler.pipeline.done import Done, max_bytes
from alpaca_labeler.pipeline.pool import Workers
from alpaca_labeler.pipeline.worker import Job, Ready
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table.places import Places
from alpaca_labeler.table.run import Held, Run

S3_THREADS: Final = 16
"""Downloads at a time in each worker: a photo takes some 40 ms to arrive and 10 ms to label."""

LOOK_AHEAD: Final = 10_000
"""Photos that are found before the first is labelled: a few megabytes of names."""

MAX_WORKERS: Final = 256


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=PHOTOS)
@click.option(
    "--manifest",
    "manifest_path",
    type=NEW_FILE,
    default="manifest.jsonl",
    show_default=True,
    metavar="FILE",
    is_eager=True,
    callback=settings.beside,
    help="Where the labels go. Its folder is made.",
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
@click.option("--prune", is_flag=True, help="Hide the rows of photos that are gone; remove copies.")
@click.option("--watch", is_flag=True, help="Then label what arrives in PATH, until Ctrl-C.")
@click.option(
    "--copy-to", type=NEW_FOLDER, metavar="DIR", help="Then copy the photos into DIR/LABEL/."
)
@click.option("--link", is_flag=True, help="With --copy-to: hard links instead of copies.")
@click.option(
    "--max-failure-rate",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
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
@max_bytes_option
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

    Run it again and only new or changed photos are labelled; what people decided stays. A manifest
    answers one question, so a model with other classes is refused. A photo that cannot be labelled
    gets a row with the reason: alpaca manifest show --failed.

    With --copy-to, a photo that has changed is copied again, and its copy under a former label
    goes; with --prune, that of a photo that is gone too. Nothing else in DIR is touched:
    DIR/.alpaca-sorted.jsonl says which copies are ours.

    With --watch, a photo counts once it is no longer being written, and a folder that goes away is
    waited for. Ctrl-C sorts the manifest, and does what --prune says.

    Exit code: 0 done, 1 too many failures, 2 wrong usage, 130 interrupted.
    """
    options = Options(**given)
    _check_usage(options)
    manifest = options.manifest_path
    try:
        if dry_run:
            _print_plan(options)
            return
        report = _label(options)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has seen enough: click ends us
            raise
        raise RunError(
            f"{error.filename or manifest}: {error.strerror}. What is labelled so far is "
            "kept; run the same command again to go on"
        ) from error
    if as_json:
        click.echo(summary.as_json(report, manifest))
    elif not report.photos and not report.interrupted:
        warn(summary.nothing_found(options.paths, report))
    elif not is_quiet():
        click.echo(summary.as_table(report, manifest))
        steps = summary.steps(manifest)[: 3 if report.failed else 2]
        say("\n  Next: " + "\n        ".join(steps))
    if report.interrupted:
        raise KeyboardInterrupt
    if report.lost > max_failure_rate:
        raise RunError(summary.too_few(report, manifest))


class RunError(LabelerError):
    """A run cannot go on, or has labelled too few. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for, by the names of the options."""

    paths: tuple[str, ...]
    manifest_path: str
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
        if not os.path.isdir(folder):  # in a dry run, which reads no photo
            folder = ""
        return Workers(
            Job(self.model, threads, max_bytes(), self.max_pixels, folder=folder), workers
        )


def _check_usage(options: Options) -> None:
    if options.link and options.copy_to is None:
        raise click.UsageError("--link says how --copy-to copies: give --copy-to DIR too")
    if options.watch and options.on_s3:
        raise click.UsageError("--watch is for folders; in a bucket the deployed job does this")
    if options.copy_to is None:
        return
    target = os.path.realpath(options.copy_to)
    for path in options.paths:
        if storage.is_s3(path):
            raise click.UsageError(f"--copy-to copies files; {path} is in a bucket")
        source = sources.place(path)
        if os.path.commonpath([target, source]) in {target, source}:
            raise click.UsageError(
                f"--copy-to {options.copy_to} overlaps {path}, where its copies would be labelled "
                "again: name a folder outside"
            )


def _label(options: Options) -> Report:
    with ExitStack() as stack:
        _make_folder(options.manifest_path)
        pool = stack.enter_context(options.start(options.workers))
        run = stack.enter_context(Run(options.manifest_path))
        ready = pool.ready()
        sorter = None
        if options.copy_to is not None:
            sorter = stack.enter_context(
                Sorter(run.places, options.paths, options.copy_to, link=options.link)
            )
        report = Report(ready.model_version, Counter(dict.fromkeys(reversed(ready.labels), 0)))
        held = run.load(None if options.relabel else ready.model_version, ready.decoder)
        _check_question(options, held, ready)
        began = time.monotonic()
        # A watch labels what arrives or changes from here on.
        watched = watch.Watch(options.paths) if options.watch else None
        try:
            _work(options, pool, run, report)
        except KeyboardInterrupt:
            report.interrupted = True
        report.seconds = time.monotonic() - began
        if watched and not report.interrupted:
            if sorter:
                sorter.sort(run.rows())
            watch.label(watched, pool, run, report, sorter)
        _finish(options, run, report, sorter)
    return report


def _check_question(options: Options, held: Held, ready: Ready) -> None:
    """Raise `RunError` if the manifest answers another question, or for a model chosen by hand.

    A second model must not replace the first one's labels without a word.
    """
    manifest = printable(options.manifest_path)
    before = held.models - {ready.model_version}
    source = click.get_current_context().get_parameter_source("model")
    if before and source is not ParameterSource.COMMANDLINE:
        known = few(sorted(name or "unknown" for name in before))
        model = printable(shlex.quote(options.model))
        raise RunError(
            f"{manifest} was labelled by another model, {known}. Go on with it by --model BUNDLE, "
            f"or by [label] model = 'BUNDLE' in {settings.NAME} beside the manifest; "
            f"--model {model} labels again with this one"
        )
    if others := few(sorted(held.labels - {*ready.labels})):
        raise RunError(
            f"{manifest} answers another question: it holds {others}, and this model says "
            f"{printable(' or '.join(reversed(ready.labels)))}. Name another manifest: "
            f"--manifest {printable(ready.labels[1])}.jsonl"
        )


def _make_folder(manifest: str) -> None:
    folder = os.path.dirname(manifest)
    try:
        os.makedirs(folder or os.curdir, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{manifest}: cannot be written ({error.strerror}); name another manifest"
        ) from error


def _finish(options: Options, run: Run, report: Report, sorter: Sorter | None) -> None:
    """Settle the manifest, sort the photos into folders, and count what there is."""
    if not report.interrupted:  # else not all that is there has been found
        gone = run.gone(path for path in options.paths if storage.is_s3(path))
        report.gone, report.pruned = len(gone), options.prune
        if options.prune:
            run.prune(gone)
    run.settle()
    if sorter and not report.interrupted:
        sorter.sort(run.rows())
        if options.prune:
            sorter.prune()
        report.sorted = sorter.done
    report.hold(run.found())
    report.overruled = run.overruled
    for name in run.overruled[:SHOWN_PROBLEMS]:
        warn(f"{printable(name)}: changed since a person labelled it; review it again")
    for folder in report.skipped.folders:
        warn(f"{printable(folder)}: this folder cannot be read")
    for placeholder in report.skipped.not_downloaded:
        warn(f"{printable(placeholder)}: not downloaded; download it and run this again")


def _work(options: Options, pool: Workers, run: Run, report: Report) -> None:
    todo = _todo(options, run, report.skipped)
    # Count ahead, so that the bar knows its end; with little left to label, this is the whole pass.
    # Listing a bucket twice would cost too much.
    ahead = [] if options.on_s3 else list(islice(todo, LOOK_AHEAD))
    total = None if options.on_s3 else len(ahead)
    if total == LOOK_AHEAD:
        total = sum(1 for _ in _todo(options, run, Skipped()))
    with Progress("labelling", total) as progress:
        for done in pool.label(chain(ahead, todo)):
            if done.row and done.row.label is None and run.had_failed(done.image):
                progress.step()
            else:
                report.keep(done, run)
                progress.step(_named(done))


def _named(done: Done) -> str:
    name = done.image.source_ref
    return done.problem if name in done.problem or not done.problem else f"{name}: {done.problem}"


def _todo(options: Options, run: Run, skipped: Skipped) -> Iterator[ImageVersion]:
    for image in map(run.named, sources.find(options.paths, skipped)):
        if not run.has(image):
            yield image


def _print_plan(options: Options) -> None:
    with options.start(1) as pool:
        ready = pool.ready()
    version = ready.model_version
    run = Run(options.manifest_path)
    held = run.load(None if options.relabel else version, ready.decoder)
    _check_question(options, held, ready)
    names = sorted(
        image.source_ref for image in _todo(options, run, Skipped()) if not run.had_failed(image)
    )
    for name in names:
        click.echo(printable(name))
    say(f"{len(names):,} to label with {version} into {printable(options.manifest_path)}")

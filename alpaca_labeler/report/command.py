"""`alpaca report`: a manifest as one HTML page to send around."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from alpaca_labeler.console import as_folder, check_apart, printable, whole
from alpaca_labeler.handler import manifest_row, merge, storage

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command()
@click.argument("source", metavar="[MANIFEST]", default="manifest.jsonl")
@click.option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Where the page goes.",
)
@click.option(
    "--failures",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="The photos that could not be labelled.  [default: failures.jsonl beside the manifest]",
)
@click.option(
    "--least-certain",
    type=click.IntRange(0, 1000),
    default=24,
    show_default=True,
    metavar="N",
    help="Show so many labels nearest to the threshold.",
)
@click.option(
    "--sample",
    type=click.IntRange(0, 1000),
    default=24,
    show_default=True,
    metavar="N",
    help="Show so many drawn by lot.",
)
@click.option("--no-photos", is_flag=True, help="Name the photos, and do not show them.")
@click.option(
    "--photos-root",
    default=".",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False),
    help="Where relative names begin.  [default: the current folder]",
)
def report(
    *,
    source: str,
    output: str,
    failures: str | None,
    least_certain: int,
    sample: int,
    no_photos: bool,
    photos_root: str,
) -> None:
    """Make one HTML page of a manifest: counts, charts, and the photos to look at.

    \b
        alpaca report
        alpaca report manifest.jsonl -o holiday.html
        alpaca report s3://results/labels/ --no-photos
        alpaca report manifest.jsonl --photos-root /mnt/photos

    The page is a single file that loads nothing and runs nothing. MANIFEST is a file, by default
    manifest.jsonl, or a bucket's results. The same manifest gives the same page, but for its date.
    """
    from alpaca_labeler.report.counts import Counts, Sample
    from alpaca_labeler.report.manifest_page import render
    from alpaca_labeler.report.thumbnails import thumbnails

    if storage.is_s3(source):
        if failures is not None:
            raise click.UsageError("--failures is for a manifest on this machine")
        lines, name = _in_bucket(as_folder(source)), as_folder(source)
    else:
        check_apart(output, source)
        lines, name = _in_files(source, failures), os.path.basename(source)
    counts = Counts(least_certain, Sample(sample))
    for line in lines:
        counts.add(manifest_row.parse(line))
    picked = counts.least_certain(), counts.drawn()
    sheets = [(rows, None if no_photos else thumbnails(rows, photos_root)) for rows in picked]
    page = render(counts, name, datetime.now(UTC), *sheets)
    with whole(output) as file:
        file.write(page)
    missing = sum(bool(each.problem) for _, pictures in sheets for each in pictures or ())
    click.echo(f"{counts.rows:,} rows -> {printable(output)}", err=True)
    if missing:
        click.echo(
            f"{missing:,} photo{'s' * (missing > 1)} could not be shown; the page says why",
            err=True,
        )


def _in_files(path: str, failures: str | None) -> Iterator[bytes]:
    beside = os.path.join(os.path.dirname(path), "failures.jsonl")
    paths = [path]
    if failures is not None:
        paths.append(failures)
    elif os.path.exists(beside) and not (os.path.exists(path) and os.path.samefile(beside, path)):
        paths.append(beside)
    for each in paths:
        with open(each, "rb") as lines:
            for _, line in merge.read(lines, each):
                yield line


def _in_bucket(results: str) -> Iterator[bytes]:
    from alpaca_labeler.handler import compaction

    for line, _ in compaction.table(results):
        yield line

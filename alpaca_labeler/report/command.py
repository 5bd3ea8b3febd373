"""`alpaca report`: a manifest as one HTML page to send around."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import click

from alpaca_labeler.console import check_apart, printable, whole
from alpaca_labeler.handler import storage
from alpaca_labeler.table.table import open_table


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
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False),
    help="Where relative names begin.  [default: the manifest's folder]",
)
def report(
    *,
    source: str,
    output: str,
    failures: str | None,
    least_certain: int,
    sample: int,
    no_photos: bool,
    photos_root: str | None,
) -> None:
    """Make one HTML page from a manifest.

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

    check_apart(output, source)
    table = open_table(source, failures, photos_root=photos_root)
    name = table.name if storage.is_s3(source) else os.path.basename(source)
    counts = Counts(least_certain, Sample(sample))
    for row in table.rows():
        counts.add(row)
    picked = counts.least_certain(), counts.drawn()
    sheets = [(rows, None if no_photos else thumbnails(rows, table.photos_root)) for rows in picked]
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

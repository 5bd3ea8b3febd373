"""`alpaca report`: a manifest as one HTML page to send around."""

from __future__ import annotations

import json
import os
import webbrowser
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click

from alpaca_labeler.console import counted, printable, say, warn
from alpaca_labeler.console.arguments import NEW_FILE
from alpaca_labeler.console.manifest import shown_manifest_argument
from alpaca_labeler.console.output import spared, whole
from alpaca_labeler.table.table import Table

SHOWN = 12
"""Photos that are shown: of the least certain, and of each label, chosen at random."""
NAMED = 3
"""Folders that are named of those whose photos may not be shown."""


@click.command()
@click.option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    metavar="FILE",
    type=NEW_FILE,
    help="Where the page goes.",
)
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
@click.option("--no-photos", is_flag=True, help="List the photos' names only.")
@click.option("--json", "as_json", is_flag=True, help="Print where the page is, and its counts.")
@shown_manifest_argument
def report(*, table: Table, output: str, open_page: bool, no_photos: bool, as_json: bool) -> None:
    """Make one HTML page from a manifest.

    \b
        alpaca report --open
        alpaca report manifest.jsonl -o holiday.html
        alpaca report s3://results/labels/ --allow s3://photos/
        alpaca report manifest.jsonl --photos-root /mnt/photos

    The page is a single file that loads nothing and runs nothing. MANIFEST is a file, by default
    manifest.jsonl, or a bucket's results. The same manifest gives the same page, except its date.
    """
    from alpaca_labeler.report import manifest_page
    from alpaca_labeler.report.thumbnails import Thumbnail, thumbnails
    from alpaca_labeler.table.counts import Counts

    if not output.lower().endswith((".html", ".htm")):
        raise click.UsageError(f"--output {printable(output)}: the page is HTML; name it .html")
    counts = Counts(SHOWN, SHOWN)
    for row in spared(output, table):
        counts.add(row)
    sheets = [
        (rows, [Thumbnail()] * len(rows) if no_photos else thumbnails(rows, table.shown))
        for rows in (counts.least_certain(), *counts.sampled())
    ]
    page = manifest_page.render(
        counts, os.path.basename(table.name) or table.name, datetime.now(UTC), *sheets
    )
    with whole(output) as file:
        file.write(page)
    # A photo may be in two sheets.
    pictures = {r.source_ref: found for sheet in sheets for r, found in zip(*sheet, strict=True)}
    missing = sum(bool(picture.problem) for picture in pictures.values())
    if as_json:
        click.echo(json.dumps({"report": output, "rows": counts.rows, "not_shown": missing}))
    else:
        say(f"{counted(counts.rows, 'row')} -> {printable(output)}")
    if missing:
        say(f"{counted(missing, 'photo')} could not be shown; the page says why")
    folders = Counter(found.folder for found in pictures.values() if found.folder)
    for folder, count in folders.most_common(NAMED):
        there = printable(folder)
        warn(f"{counted(count, 'photo')} left out: to show what is in {there}, say --allow {there}")
    if open_page:
        webbrowser.open(Path(output).absolute().as_uri())

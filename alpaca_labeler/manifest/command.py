"""`alpaca manifest`: look into a manifest, count it, correct it, convert it."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import Any

import click

from alpaca_labeler import storage
from alpaca_labeler.console import Refused, as_folder, counted, dry_run_option, printable, say
from alpaca_labeler.console.arguments import BUCKET, FILE, NEW_FILE
from alpaca_labeler.console.help import Group
from alpaca_labeler.console.manifest import manifest_argument
from alpaca_labeler.console.output import spared
from alpaca_labeler.console.stack import from_stack
from alpaca_labeler.manifest import exports, sidecars
from alpaca_labeler.manifest.out import opened
from alpaca_labeler.table import bucket
from alpaca_labeler.table.incoming import bring_in
from alpaca_labeler.table.progress import Progress
from alpaca_labeler.table.prune import gone_in_s3
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.run import EVER, Run
from alpaca_labeler.table.table import Table

LABEL_WIDTH = 12
SHOWN = 5
FORMATS = sorted([*exports.FORMATS, "xmp"])


@click.group(cls=Group)
def manifest() -> None:
    """Show, count, convert or correct the labels in a manifest.

    \b
        alpaca manifest stats
        alpaca manifest show --needs-review
        alpaca manifest merge theirs.jsonl
        alpaca manifest export --format csv -o labels.csv
    """


@manifest.command()
@click.option("--label", metavar="NAME", help="Only rows with this label.")
@click.option("--needs-review", is_flag=True, help="Only rows in the review band.")
@click.option("--failed", is_flag=True, help="Only photos that could not be labelled.")
@click.option("--limit", type=click.IntRange(1), help="At most this many rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as they are.")
@manifest_argument()
def show(
    *,
    table: Table,
    label: str | None,
    needs_review: bool,
    failed: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Print the rows: confidence, label, photo.

    \b
        alpaca manifest show
        alpaca manifest show --label alpaca --limit 20
        alpaca manifest show --needs-review --json labels.jsonl
        alpaca manifest show --failed
        alpaca manifest show --json s3://results/labels/ > manifest.jsonl
    """
    labels = set()

    def chosen() -> Iterator[Row]:
        for row in table.rows():
            labels.add(row.label)
            if (
                (label is None or row.label == label)
                and (not needs_review or row.needs_review)
                and (not failed or row.failure)
            ):
                yield row

    for row in islice(chosen(), min(limit or sys.maxsize, sys.maxsize)):
        sys.stdout.write(json_line(row) if as_json else line(row))
    sys.stdout.flush()
    if label is not None and label not in labels:
        known = ", ".join(sorted(filter(None, labels))) or "none"
        raise Refused(printable(f"there is no label {label!r}; the labels are: {known}"))


def json_line(row: Row) -> str:
    """Return a row as JSON that cannot steer a terminal, by escapes that mean the same."""
    text = row.to_line().decode().rstrip("\n")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    return f"{text}\n"


def line(row: Row) -> str:
    """Return a row as one line for people: confidence (`?`: needs review), label, photo."""
    name = printable(row.source_ref)
    if row.failure:
        return f"{'failed':>6}   {printable(row.failure.code):<{LABEL_WIDTH}}  {name}\n"
    mark = "?" if row.needs_review else " "
    sure = "?" if row.confidence is None else f"{row.confidence:.4f}"
    by = "person" if row.decision else sure
    label = printable(row.label or "no label")
    return f"{by:>6}{mark}  {label:<{LABEL_WIDTH}}  {name}\n"


@manifest.command()
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@manifest_argument()
def stats(*, table: Table, as_json: bool) -> None:
    """Count labels, reviews, models and failures.

    \b
        alpaca manifest stats
        alpaca manifest stats labels.jsonl --json
    """
    from alpaca_labeler.table.counts import BINS, Counts

    counts = Counts()
    for row in table.rows():
        counts.add(row)
    labels: Counter[str] = Counter()
    for (_, label), count in counts.labels.items():
        labels[label] += count
    found: dict[str, dict[str, int]] = {
        "label": labels,
        "by": {"person": counts.progress.decided, "model": counts.progress.left},
        "model": counts.models,
        "failure": {code: reason.count for code, reason in counts.reasons.items()},
        "probability": {f"{i / BINS:.2f}": n for i, n in enumerate(map(sum, counts.scores)) if n},
    }
    if as_json:
        plain: dict[str, Any] = {name: dict(sorted(each.items())) for name, each in found.items()}
        total = {
            "rows": counts.rows,
            "needs_review": counts.review,
            "progress": counts.progress.as_dict(),
            "ambiguous": counts.ambiguous,
            "other_tasks": counts.unlabelled,
        }
        click.echo(json.dumps(total | plain, indent=2))
        return
    need = "needs" if counts.review == 1 else "need"
    click.echo(f"{counted(counts.rows, 'row')}, {counts.review:,} {need} review")
    for text in filter(None, (counts.progress, counts.progress.check())):
        click.echo(text)
    if counts.ambiguous:
        click.echo(f"{counts.ambiguous:,} with several labels, of which the first counts")
    if counts.unlabelled:
        click.echo(f"{counts.unlabelled:,} of another kind of task, without a class name")
    for name, counter in found.items():
        if counter:
            click.echo(f"\n{name}")
        widest = max((len(printable(key)) for key in counter), default=0)
        for key, count in sorted(counter.items()):
            click.echo(f"  {printable(key):<{widest}}  {count:>9,}")


@manifest.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    required=True,
    metavar="FORMAT",
    help=f"One of {', '.join(FORMATS)}.",
)
@click.option(
    "-o", "--output", type=NEW_FILE, metavar="FILE", help="Where to.  [default: standard output]"
)
@click.option(
    "--xmp-style",
    type=click.Choice(["darktable", "adobe"]),
    help="Call the sidecars IMG_1.jpg.xmp, or IMG_1.xmp.  [default: darktable]",
)
@click.option("--only", multiple=True, metavar="LABEL", help="Write only this label's keyword.")
@click.option("--checked", is_flag=True, help="Write only labels of people.")
@dry_run_option
@manifest_argument()
def export(
    *,
    table: Table,
    form: str,
    output: str | None,
    xmp_style: str | None,
    only: Collection[str],
    checked: bool,
    dry_run: bool,
) -> None:
    """Convert a manifest for another tool.

    \b
        alpaca manifest export --format csv -o labels.csv
        alpaca manifest export --format rekognition -o rekognition.manifest
        alpaca manifest export --format label-studio -o tasks.json
        alpaca manifest export --format hugging-face -o photos/metadata.jsonl
        alpaca manifest export --format xmp --only alpaca --dry-run

    What the other tool cannot take is left out and counted. Tasks for Label Studio, and beside them
    its labelling config, tasks.xml, go into the folder that it serves local photos from, if they
    are local. Labels for photo programs go into sidecars beside the photos,
    IMG_1.jpg.xmp or IMG_1.xmp (--xmp-style adobe): what is in a sidecar stays, but a label that has
    changed replaces its own keyword.

    Exit code: 0 done, 1 nothing could be written.
    """
    if form == "xmp":
        if output is not None:
            raise click.UsageError("sidecars lie beside their photos, so name no output")
        adobe = xmp_style == "adobe"
        sidecars.export(table, adobe=adobe, only=only, checked=checked, dry_run=dry_run)
        return
    if xmp_style or only or checked or dry_run:
        options = "--xmp-style, --only, --checked and --dry-run"
        raise click.UsageError(f"{options} are for --format xmp")
    progress = Progress()
    if output in {"-", "/dev/stdout"}:
        output = None
    with opened(table.place, output) as out:
        exports.FORMATS[form](progress.counting(spared(output, table)), out)
    click.echo(f"{out.written:,} written", err=True)
    if progress.decided:
        click.echo(progress, err=True)
    if out.ambiguous:
        click.echo(f"{out.ambiguous:,} with several labels, of which the first counts", err=True)
    for reason, count in sorted(out.left_out.items()):
        click.echo(f"{count:,} left out: {reason}", err=True)
    for note in out.notes:
        click.echo(printable(note), err=True)


@manifest.command()
@click.argument("results", metavar="[RESULTS]", required=False, type=BUCKET)
@from_stack(results=("RESULTS", "ResultsUri"))
@dry_run_option
def compact(*, results: str, dry_run: bool) -> None:
    """Merge a bucket's parts into its manifest now.

    \b
        alpaca manifest compact s3://results/labels/ --dry-run
        alpaca manifest compact --stack alpaca
    """
    results = as_folder(results)
    if dry_run:
        click.echo(f"would merge {counted(bucket.waiting(results), 'part')}", err=True)
        return
    done = bucket.compact(results)
    _name_broken(done)
    click.echo(f"merged {counted(done.parts, 'part')}", err=True)


def _name_broken(done: bucket.Compacted) -> None:
    for problem in done.broken:
        click.echo(f"left where it is: {printable(problem)}", err=True)


@manifest.command()
@click.argument("theirs", type=FILE)
@manifest_argument(missing_ok=True)
@dry_run_option
def merge(*, theirs: str, table: Table, dry_run: bool) -> None:
    """Bring in the rows of another person, machine or tool.

    \b
        alpaca manifest merge theirs.jsonl
        alpaca manifest merge output.manifest s3://results/labels/ --dry-run

    Of each photo the last reading and the last decision of a person count. A person's label that
    names no version of the photo, as other tools write them, is about the photo as it is now.
    Merged again, nothing changes.
    """
    if os.path.exists(table.name) and os.path.samefile(theirs, table.name):
        raise Refused(printable(f"{theirs}: the manifest itself; name the rows to bring in"))
    done = bring_in(theirs, table, dry_run=dry_run)
    click.echo(f"{counted(done.rows, 'row')} {'would be ' * dry_run}merged", err=True)
    if done.known:
        click.echo(f"{done.known:,} there already", err=True)
    if done.without_label:
        click.echo(f"{done.without_label:,} skipped: without an image's class", err=True)
    if done.ambiguous:
        click.echo(
            f"{counted(len(done.ambiguous), 'row')} with several labels, of which the first "
            f"counts: {printable(', '.join(done.ambiguous[:SHOWN]))}",
            err=True,
        )


@manifest.command()
@manifest_argument()
@click.option("--erase", is_flag=True, help="Also erase all that is known of photos that are gone.")
@dry_run_option
@click.option("--json", "as_json", is_flag=True, help="Print the names of these photos as JSON.")
def prune(*, table: Table, erase: bool, dry_run: bool, as_json: bool) -> None:
    """Hide the rows of photos that are no longer there.

    \b
        alpaca manifest prune --dry-run
        alpaca manifest prune s3://results/labels/
        alpaca manifest prune --erase

    A photo on a drive that is not connected, or in an empty folder, where a drive may have been,
    keeps its row. If the photo comes back, label it again, and what people decided counts again.
    After 18 days the row is erased, with --erase immediately: name, label and decisions. In a
    bucket that keeps versions, earlier versions of the manifest hold it until they expire; exports,
    reports and backups are yours to delete.
    """
    gone = gone_in_s3(row.source_ref for row in table.rows() if storage.is_s3(row.source_ref))
    if not storage.is_s3(table.name):
        run = Run(table.name)
        with nullcontext() if dry_run else run:
            gone += run.gone()
            if dry_run:
                run.check_gone(gone)
            else:
                run.prune(gone)
                if not run.settle(EVER if erase else None) and erase:
                    raise Refused(
                        f"{printable(table.name)}: it cannot be replaced, so its rows are hidden "
                        "and not erased; repeat this where its folder may be written to"
                    )
    elif not dry_run:
        table.append(gone)
        if erase:
            _name_broken(bucket.compact(table.name, max_parts=sys.maxsize, until=EVER))
    if as_json:
        names = [row.source_ref for row in gone]
        click.echo(json.dumps({"removed": not dry_run, "photos": names}, indent=2))
    for row in gone if dry_run and not as_json else ():
        click.echo(printable(row.source_ref))
    say(f"{counted(len(gone), 'row')} {'would be ' * dry_run}removed")

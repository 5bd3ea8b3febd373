"""`alpaca manifest`: look into a manifest, count it, correct it, convert it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from alpaca_labeler import storage
from alpaca_labeler.console import Refused, as_folder, counted, dry_run_option, printable, say
from alpaca_labeler.console.arguments import BUCKET, FILE, FOLDER, MANIFEST, NEW_FILE
from alpaca_labeler.console.help import Group
from alpaca_labeler.console.manifest import manifest_argument
from alpaca_labeler.console.output import spared
from alpaca_labeler.console.stack import from_stack
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.manifest import exports
from alpaca_labeler.manifest.out import opened
from alpaca_labeler.table import compaction, manifest_row, parts
from alpaca_labeler.table.ledger import Ledger
from alpaca_labeler.table.table import DEFAULT, beside, open_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alpaca_labeler.table.manifest_row import Row

BAR_WIDTH = 32
LABEL_WIDTH = 12


COMPLETED_ROWS = 10_000
"""Rows that are read to find labels when a shell asks for them."""


class Label(click.ParamType[str]):
    """A label that the manifest may hold."""

    name = "label"

    def shell_complete(
        self, ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the labels of the manifest that is named before, or of manifest.jsonl."""
        # An option without its value ends click's parsing: what was named lies in `args` then.
        source = ctx.args[0] if ctx.args else ctx.params.get("source") or DEFAULT
        try:
            rows = islice(open_table(source).rows(), COMPLETED_ROWS)
            labels = {manifest_row.label(row) or "" for row in rows}
        except (LabelerError, OSError):
            return []
        return [CompletionItem(label) for label in sorted(labels) if label.startswith(incomplete)]


@click.group(cls=Group)
def manifest() -> None:
    """Show, count, convert or correct the labels in a manifest.

    \b
        alpaca manifest stats
        alpaca manifest show --needs-review
        alpaca manifest apply corrections.jsonl manifest.jsonl
        alpaca manifest export --format csv -o labels.csv
    """


@manifest.command()
@click.option("--label", type=Label(), metavar="NAME", help="Only rows with this label.")
@click.option("--needs-review", is_flag=True, help="Only rows in the review band.")
@click.option("--limit", type=click.IntRange(1), help="At most this many rows.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as they are.")
@manifest_argument
def show(
    *, source: str, label: str | None, needs_review: bool, limit: int | None, as_json: bool
) -> None:
    """Print the rows: confidence, label, photo.

    \b
        alpaca manifest show
        alpaca manifest show --label alpaca --limit 20
        alpaca manifest show --needs-review --json labels.jsonl
        alpaca manifest show failures.jsonl
    """
    labels = set()

    def chosen() -> Iterator[Row]:
        for row in open_table(source).rows():
            labels.add(manifest_row.label(row))
            if (label is None or manifest_row.label(row) == label) and (
                not needs_review or manifest_row.needs_review(row)
            ):
                yield row

    for row in islice(chosen(), min(limit or sys.maxsize, sys.maxsize)):
        click.echo(manifest_row.encode(row).decode().rstrip() if as_json else line(row))
    if label is not None and label not in labels:
        known = ", ".join(sorted(filter(None, labels))) or "none"
        raise Refused(printable(f"there is no label {label!r}; the labels are: {known}"))


def line(row: Row) -> str:
    """Return a row as one line for people: confidence (`?`: needs review), label, photo."""
    name = printable(row["source-ref"])
    if manifest_row.is_failure(row):
        failure = manifest_row.block(row, "failure")
        return f"{'failed':>6}   {printable(str(failure.get('code'))):<{LABEL_WIDTH}}  {name}"
    mark = "?" if manifest_row.needs_review(row) else " "
    confidence = manifest_row.confidence(row)
    sure = "?" if confidence is None else f"{confidence:.4f}"
    by = "person" if manifest_row.is_human(row) else sure
    label = printable(manifest_row.label(row) or "no label")
    return f"{by:>6}{mark}  {label:<{LABEL_WIDTH}}  {name}"


@manifest.command()
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@manifest_argument
def stats(*, source: str, as_json: bool) -> None:
    """Count labels, reviews, models and failures.

    \b
        alpaca manifest stats
        alpaca manifest stats labels.jsonl --json
    """
    from alpaca_labeler.table.counts import BINS, Counts

    counts = Counts()
    for row in open_table(source).rows():
        counts.add(row)
    labels: Counter[str] = Counter()
    for (_, label), count in counts.labels.items():
        labels[label] += count
    found: dict[str, dict[str, int]] = {
        "label": labels,
        "by": {"person": counts.people, "model": labels.total() - counts.people},
        "model": counts.models,
        "failure": {code: reason.count for code, reason in counts.reasons.items()},
        "probability": {f"{i / BINS:.2f}": n for i, n in enumerate(map(sum, counts.scores)) if n},
    }
    if as_json:
        plain: dict[str, Any] = {name: dict(sorted(each.items())) for name, each in found.items()}
        total = {"rows": counts.rows, "needs_review": counts.review, "changed": counts.changed()}
        total["other_tasks"] = counts.unlabelled
        click.echo(json.dumps(total | plain, indent=2))
        return
    need = "needs" if counts.review == 1 else "need"
    click.echo(f"{counted(counts.rows, 'row')}, {counts.review:,} {need} review")
    if judged := counts.judged.total():
        click.echo(f"people changed {counts.changed():,} of {judged:,} labels")
    if counts.unlabelled:
        click.echo(f"{counts.unlabelled:,} of another kind of task, without a class name")
    for name, counter in found.items():
        if counter:
            click.echo(f"\n{name}")
        widest = max((len(printable(key)) for key in counter), default=0)
        top = max(counter.values(), default=1)
        for key, count in sorted(counter.items()):
            bar = "#" * round(BAR_WIDTH * count / top) if name == "probability" else ""
            click.echo(f"  {printable(key):<{widest}}  {count:>9,}  {bar}".rstrip())


@manifest.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(sorted(exports.FORMATS)),
    required=True,
    metavar="FORMAT",
    help=f"One of {', '.join(sorted(exports.FORMATS))}.",
)
@click.option(
    "-o", "--output", type=NEW_FILE, metavar="FILE", help="Where to.  [default: standard output]"
)
@click.option(
    "--local-files-root",
    type=FOLDER,
    metavar="DIR",
    help="Label Studio's LOCAL_FILES_DOCUMENT_ROOT, which it serves local photos from.",
)
@manifest_argument
def export(*, source: str, form: str, output: str | None, local_files_root: str | None) -> None:
    """Convert a manifest for another tool.

    \b
        alpaca manifest export --format csv -o labels.csv
        alpaca manifest export --format rekognition -o rekognition.manifest
        alpaca manifest export --format label-studio -o tasks.json
        alpaca manifest export --format hugging-face -o photos/metadata.jsonl

    What the other tool cannot take is left out and counted. Beside the tasks for Label Studio lies
    its labelling config, tasks.xml.

    Exit code: 0 done, 1 nothing could be written.
    """
    if local_files_root is not None and form != "label-studio":
        raise click.UsageError("--local-files-root is for --format label-studio")
    table = open_table(source)
    rows = spared(output, table)
    with opened(table.place, output, local_files_root) as out:
        exports.FORMATS[form](rows, out)
    click.echo(f"{out.written:,} written", err=True)
    for reason, count in sorted(out.left_out.items()):
        click.echo(f"{count:,} left out: {reason}", err=True)
    for note in out.notes:
        click.echo(printable(note), err=True)


@manifest.command()
@click.argument("results", metavar="[RESULTS]", required=False, type=BUCKET)
@click.option("--failures", is_flag=True, help="The failure rows instead of the labels.")
@from_stack(results=("RESULTS", "ResultsUri"))
def cat(*, results: str, failures: bool) -> None:
    """Print a bucket's rows, one per image.

    \b
        alpaca manifest cat s3://results/labels/ > manifest.jsonl
        alpaca manifest cat --stack alpaca --failures
    """
    out = sys.stdout.buffer
    for row, is_failure in open_table(as_folder(results)).lines():
        if is_failure == failures:
            out.write(row)


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
        waiting = sum(1 for _ in storage.list_objects(results + parts.PREFIX))
        click.echo(f"would merge {counted(waiting, 'part')}", err=True)
        return
    done = compaction.compact(results)
    for problem in done.broken:
        click.echo(f"left where it is: {printable(problem)}", err=True)
    click.echo(f"merged {counted(done.parts, 'part')}", err=True)


@manifest.command()
@click.argument("corrections", type=FILE)
@click.argument("results", metavar="[RESULTS]", required=False, type=MANIFEST)
@click.option(
    "--failures",
    "failures_path",
    type=NEW_FILE,
    metavar="FILE",
    help="Where the manifest's failures are.  [default: failures.jsonl beside it]",
)
@from_stack(results=("RESULTS", "ResultsUri"))
@dry_run_option
def apply(*, corrections: str, results: str, failures_path: str | None, dry_run: bool) -> None:
    """Bring corrections from elsewhere into a manifest.

    \b
        alpaca manifest apply corrections.jsonl manifest.jsonl
        alpaca manifest apply corrections.jsonl s3://results/labels/ --dry-run
        alpaca manifest apply corrections.jsonl s3://results/labels/

    What `alpaca review` writes beside a manifest or into a bucket counts without this. A correction
    is of the version of the photo that the person saw; of several the last counts. Applied again,
    nothing changes.
    """
    from alpaca_labeler.table.apply import BY_MODEL, read_corrections, to_bucket, to_files

    on_s3 = storage.is_s3(results)
    if on_s3 and failures_path is not None:
        raise click.UsageError("--failures is for a manifest on this machine")
    said, by_model = read_corrections(corrections)
    if on_s3:
        plan = to_bucket(said, as_folder(results), dry_run=dry_run)
    else:
        failures_path = failures_path or beside(results, "failures")
        plan = to_files(said, results, failures_path, dry_run=dry_run)
    click.echo(f"{len(plan.rows):,} {'would be ' * dry_run}applied", err=True)
    plan.left[BY_MODEL] += by_model
    for reason, count in (+plan.left).items():
        click.echo(f"{count:,} {reason}", err=True)


@manifest.command()
@manifest_argument
@dry_run_option
def prune(*, source: str, dry_run: bool) -> None:
    """Remove the rows of photos that are no longer there.

    \b
        alpaca manifest prune --dry-run
        alpaca manifest prune s3://results/labels/

    A photo on a drive that is not connected, or in a folder that cannot be read, keeps its row. If
    the photo comes back, label it again; what people decided about it in corrections.jsonl counts
    again too.
    """
    from alpaca_labeler.table.prune import gone_in_s3, prune_bucket

    table = open_table(source)

    def in_s3() -> list[str]:
        names = (row["source-ref"] for row in table.rows())
        return gone_in_s3(filter(storage.is_s3, names))

    if storage.is_s3(table.name):
        gone = in_s3()
        if not dry_run:
            prune_bucket(table.name, table.rows(), gone)
    elif dry_run:
        ledger = Ledger(table.name, table.failures)
        ledger.peek(None)
        gone = ledger.gone() + in_s3()
        ledger.prune(gone)  # which refuses the same, and writes nothing yet
    else:
        with Ledger(table.name, table.failures) as ledger:
            ledger.load(None)
            gone = ledger.gone() + in_s3()
            ledger.prune(gone)
            ledger.settle()
    for name in gone if dry_run else ():
        click.echo(printable(name))
    say(f"{counted(len(gone), 'row')} {'would be ' * dry_run}removed")

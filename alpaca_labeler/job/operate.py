"""`alpaca audit`: compare a bucket with its table, and queue what has no label."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import click

from alpaca_labeler import storage
from alpaca_labeler.console import as_folder, dry_run_option, printable, say
from alpaca_labeler.console.arguments import BUCKET
from alpaca_labeler.console.stack import StackError, from_stack
from alpaca_labeler.handler import events
from alpaca_labeler.storage import requeue
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import open_table

STATES: Final = ("labelled", "failed", "missing", "stale", "outdated", "gone")
"""Of an image. `stale`: the row is of another version; `outdated`: an older model's; `gone`: there
is a row and no object."""

TO_LABEL: Final = frozenset({"missing", "stale", "outdated"})


class Audited(NamedTuple):
    """One object of the input and what the table says of it."""

    image: ImageVersion | None
    """None for a row whose object is gone."""
    source_ref: str
    state: str
    """One of `STATES`."""
    code: str = ""
    """Of a failure."""


def compare(
    images: Iterable[ImageVersion], rows: Iterable[Row], model_before: str = ""
) -> Iterator[Audited]:
    """Walk both lists, each sorted by source-ref, side by side; memory stays flat.

    Labels by models older than `model_before` are `outdated`.
    """
    table = iter(rows)
    row = next(table, None)
    for image in images:
        while row is not None and row.source_ref < image.source_ref:
            yield Audited(None, row.source_ref, "gone")
            row = next(table, None)
        if row is None or row.source_ref != image.source_ref:
            yield Audited(image, image.source_ref, "missing")
            continue
        state = _state(image, row, model_before)
        code = row.failure.code if row.failure and state == "failed" else ""
        yield Audited(image, image.source_ref, state, code)
        row = next(table, None)
    while row is not None:
        yield Audited(None, row.source_ref, "gone")
        row = next(table, None)


def _state(image: ImageVersion, row: Row, model_before: str) -> str:
    known = row.read.etag if row.read else None
    if known and image.etag and known != image.etag:  # some stores list no ETag
        return "stale"
    if row.failure:
        return "failed"
    if row.label is None:  # a decision that was taken back, and nobody has read the photo
        return "missing"
    # Versions begin with the time at which the model was made.
    return "outdated" if row.decision is None and row.model < model_before else "labelled"


@click.command()
@click.argument("input_uri", metavar="[INPUT]", required=False, type=BUCKET)
@click.argument("results_uri", metavar="[RESULTS]", required=False, type=BUCKET)
@click.option("--requeue", "send", is_flag=True, help="Queue what is named.")
@click.option("--failed", is_flag=True, help="Name photos that could not be labelled, too.")
@click.option(
    "--model-before", default="", metavar="VERSION", help="Labels by older models are outdated."
)
@click.option("--check", is_flag=True, help="Exit with 1 if something is to be labelled.")
@click.option("--queue", metavar="URL", help="The job's queue.")
@from_stack(
    input_uri=("INPUT", "InputUri"),
    results_uri=("RESULTS", "ResultsUri"),
    queue=("--queue", "QueueUrl"),
)
@dry_run_option
def audit(
    *,
    input_uri: str,
    results_uri: str,
    send: bool,
    failed: bool,
    model_before: str,
    check: bool,
    queue: str | None,
    dry_run: bool,
) -> None:
    """Name every image in a bucket without a row.

    \b
        alpaca audit --stack alpaca
        alpaca audit --stack alpaca --requeue
        alpaca audit --stack alpaca --requeue --failed
        alpaca audit --stack alpaca --model-before 20261124 --requeue
        alpaca audit s3://photos/farm/ s3://results/labels/ --check

    Names on standard output what is `missing`, `stale` (its row is of an older version), with
    --model-before `outdated`, and with --failed what another limit, permission or version of the
    function may now label.
    """
    if send and queue is None:
        raise click.UsageError("--requeue needs --queue URL or --stack NAME")
    results_uri = as_folder(results_uri)
    counts: Counter[str] = Counter()
    wanted = TO_LABEL | ({"failed"} if failed else set())

    def to_label() -> Iterator[ImageVersion]:
        images = _objects(input_uri)
        for found in compare(images, _rows(results_uri, input_uri), model_before):
            counts[found.state] += 1
            if found.image is not None and found.state in wanted:
                words = filter(None, (found.state, found.source_ref, found.code))
                click.echo("\t".join(map(printable, words)))
                yield found.image

    if send and queue and not dry_run:
        total = requeue.send(queue, to_label())
    else:
        total = sum(1 for _ in to_label())
    for state in STATES if model_before else (s for s in STATES if s != "outdated"):
        say(f"{state:<9} {counts[state]:>11,}")
    if send:
        say(f"{'would queue' if dry_run else 'queued'} {total:,}")
    if check and total:
        sys.exit(1)


def _objects(input_uri: str) -> Iterator[ImageVersion]:
    """List the objects that the function would label, in order."""
    for image in storage.list_objects(input_uri, in_order=True, missing_ok=False):
        if not events.is_skipped(image.source_ref, input_uri):
            yield image


def _rows(results_uri: str, prefix: str) -> Iterator[Row]:
    try:
        for row in open_table(results_uri).rows():
            if row.source_ref.startswith(prefix):
                yield row
    except storage.NotFound as error:
        raise StackError(
            f"{error}; if nothing has been labelled yet, `alpaca backfill` does it"
        ) from error

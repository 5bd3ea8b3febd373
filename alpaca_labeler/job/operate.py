"""`alpaca audit`: compare a bucket with its table, and queue what has no label."""

from __future__ import annotations

import heapq
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Final

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


def compare(
    images: Iterable[ImageVersion], rows: Iterable[Row], model_before: str = ""
) -> Iterator[tuple[str, ImageVersion | None, Row | None]]:
    """Yield (one of `STATES`, image, row) of each source-ref; memory stays flat.

    Both are sorted by source-ref. Labels by models older than `model_before` are `outdated`.
    """
    name = attrgetter("source_ref")
    both: Iterator[ImageVersion | Row] = heapq.merge(images, rows, key=name)
    for _, found in groupby(both, name):
        image: ImageVersion | None = None
        row: Row | None = None
        for each in found:
            if isinstance(each, Row):
                row = each
            else:
                image = each
        yield _state(image, row, model_before), image, row


def _state(image: ImageVersion | None, row: Row | None, model_before: str) -> str:
    if image is None or row is None:
        return "missing" if image else "gone"
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
    if model_before and not re.match(r"20\d{6}", model_before):
        raise click.UsageError(
            f"--model-before {printable(model_before)}: not a version; see `alpaca models list`"
        )
    results_uri = as_folder(results_uri)
    counts: Counter[str] = Counter()
    wanted = {"missing", "stale", "outdated"} | ({"failed"} if failed else set())

    def to_label() -> Iterator[ImageVersion]:
        listed = storage.list_objects(input_uri, in_order=True, missing_ok=False)
        images = (i for i in listed if not events.is_skipped(i.source_ref, input_uri))
        for state, image, row in compare(images, _rows(results_uri, input_uri), model_before):
            counts[state] += 1
            if image is not None and state in wanted:
                code = [row.failure.code] if row and row.failure and state == "failed" else []
                click.echo("\t".join(map(printable, [state, image.source_ref, *code])))
                yield image

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


def _rows(results_uri: str, prefix: str) -> Iterator[Row]:
    try:
        for row in open_table(results_uri).rows():
            if row.source_ref.startswith(prefix):
                yield row
    except storage.NotFound as error:
        raise StackError(
            f"{error}; if nothing has been labelled yet, `alpaca backfill` does it"
        ) from error

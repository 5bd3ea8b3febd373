"""`alpaca audit`, `retry`, `backfill` and `redrive`: what an operator does with a running job.

None of them labels anything: they compare, and hand work to the queue or to Step Functions.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote_plus

import click

from alpaca_labeler.console import dry_run_option, printable
from alpaca_labeler.handler import manifest_row, storage
from alpaca_labeler.table.table import open_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from alpaca_labeler.handler.image_version import ImageVersion
    from alpaca_labeler.handler.manifest_row import Row

SQS_BATCH: Final = 10
"""Messages in one SendMessageBatch call."""


_queue = click.option("--queue", metavar="URL", help="URL of the job's queue.")


class Audited(NamedTuple):
    """One object of the input and what the table says of it."""

    image: ImageVersion | None
    """None for a row whose object is gone."""
    source_ref: str
    state: str
    """`labelled`, `failed`, `stale` (the row is of another version), `missing` or `gone`."""


def compare(images: Iterable[ImageVersion], rows: Iterable[Row]) -> Iterator[Audited]:
    """Walk both lists, each sorted by source-ref, side by side; memory stays flat."""
    table = iter(rows)
    row = next(table, None)
    for image in images:
        while row is not None and row["source-ref"] < image.source_ref:
            yield Audited(None, row["source-ref"], "gone")
            row = next(table, None)
        if row is None or row["source-ref"] != image.source_ref:
            yield Audited(image, image.source_ref, "missing")
            continue
        stale = manifest_row.version_of(row).etag not in {image.etag, None}
        state = "failed" if manifest_row.is_failure(row) else "labelled"
        yield Audited(image, image.source_ref, "stale" if stale else state)
        row = next(table, None)
    while row is not None:
        yield Audited(None, row["source-ref"], "gone")
        row = next(table, None)


@click.command()
@click.argument("input_uri", metavar="INPUT")
@click.argument("results_uri", metavar="RESULTS")
@click.option("--requeue", is_flag=True, help="Send missing and stale images to the queue.")
@_queue
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each image.")
@dry_run_option
def audit(
    *,
    input_uri: str,
    results_uri: str,
    requeue: bool,
    queue: str | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Name every image in a bucket without a row.

    \b
        alpaca audit s3://photos/ s3://results/labels/
        alpaca audit s3://photos/farm/ s3://results/labels/ --requeue --queue URL

    Names what is `missing` or `stale` (its row is of an older version) on standard output.
    """
    if requeue and not queue:
        raise click.UsageError("--requeue needs --queue URL")
    counts: Counter[str] = Counter()

    def to_send() -> Iterator[ImageVersion]:
        images = storage.list_objects(input_uri)
        for found in compare(
            (image for image in images if not image.source_ref.endswith("/")),
            _rows(results_uri, input_uri),
        ):
            counts[found.state] += 1
            if as_json:
                click.echo(json.dumps({"source-ref": found.source_ref, "state": found.state}))
            elif found.state in {"missing", "stale"}:
                click.echo(f"{found.state}\t{printable(found.source_ref)}")
            if found.image is not None and found.state in {"missing", "stale"}:
                yield found.image

    sent = _send(to_send(), queue if requeue and not dry_run else None)
    for state in ("labelled", "failed", "missing", "stale", "gone"):
        click.echo(f"{state:<9} {counts[state]:>11,}", err=True)
    if requeue:
        click.echo(f"{'would queue' if dry_run else 'queued'} {sent:,}", err=True)


@click.command()
@click.argument("results_uri", metavar="RESULTS")
@click.option("--queue", required=True, metavar="URL", help="URL of the job's queue.")
@click.option("--code", multiple=True, metavar="CODE", help="Only failures of this code.")
@dry_run_option
def retry(*, results_uri: str, queue: str, code: tuple[str, ...], dry_run: bool) -> None:
    """Queue images again that could not be labelled.

    \b
        alpaca retry s3://results/labels/ --queue URL --dry-run
        alpaca retry s3://results/labels/ --queue URL --code too-many-pixels

    For failures that a new version of the function, or another limit, can now label.
    """

    def failed() -> Iterator[ImageVersion]:
        for row in _rows(results_uri):
            if manifest_row.is_failure(row) and (not code or row["failure"].get("code") in code):
                click.echo(f"{row['failure'].get('code')}\t{printable(row['source-ref'])}")
                yield manifest_row.version_of(row)

    sent = _send(failed(), None if dry_run else queue)
    click.echo(f"{'would queue' if dry_run else 'queued'} {sent:,}", err=True)


@click.command()
@click.argument("input_uri", metavar="INPUT")
@_queue
@click.option("--state-machine", metavar="ARN", help="The job's Distributed Map.")
@dry_run_option
def backfill(
    *, input_uri: str, queue: str | None, state_machine: str | None, dry_run: bool
) -> None:
    """Label what is in a bucket already.

    \b
        alpaca backfill s3://photos/farm/ --state-machine ARN
        alpaca backfill s3://photos/farm/ --queue URL

    Step Functions labels up to 10,000 batches at a time; the queue goes at the pace of new uploads.
    """
    if (queue is None) == (state_machine is None):
        raise click.UsageError("give either --state-machine ARN or --queue URL")
    _, prefix = storage.split_s3(input_uri)
    if queue is not None:
        images = (
            image for image in storage.list_objects(input_uri) if not image.source_ref.endswith("/")
        )
        sent = _send(images, None if dry_run else queue)
        click.echo(f"{'would queue' if dry_run else 'queued'} {sent:,}", err=True)
        return
    request = json.dumps({"prefix": prefix})
    if dry_run:
        click.echo(f"would start {state_machine} with {request}", err=True)
        return
    answer = _aws("stepfunctions").start_execution(stateMachineArn=state_machine, input=request)
    click.echo(answer["executionArn"])


@click.command()
@click.argument("dead_letter_queue", metavar="DLQ-URL")
@dry_run_option
def redrive(*, dead_letter_queue: str, dry_run: bool) -> None:
    """Queue again what the dead-letter queue holds.

    \b
        alpaca redrive "$DLQ_URL" --dry-run
        alpaca redrive "$DLQ_URL"
    """
    sqs = _aws("sqs")
    facts = sqs.get_queue_attributes(
        QueueUrl=dead_letter_queue, AttributeNames=["ApproximateNumberOfMessages", "QueueArn"]
    )["Attributes"]
    waiting = facts["ApproximateNumberOfMessages"]
    if not dry_run:
        sqs.start_message_move_task(SourceArn=facts["QueueArn"])
    click.echo(f"{'would move' if dry_run else 'moving'} about {waiting} messages", err=True)


def _rows(results_uri: str, prefix: str = "") -> Iterator[Row]:
    for row in open_table(results_uri).rows():
        if row["source-ref"].startswith(prefix):
            yield row


def _send(images: Iterable[ImageVersion], queue: str | None) -> int:
    """Send images as S3 would announce them, one a message; without a queue only count them."""
    sqs = _aws("sqs") if queue is not None else None
    sent = 0
    waiting = iter(images)
    while batch := list(islice(waiting, SQS_BATCH)):
        if sqs is not None:
            entries = [
                {"Id": str(number), "MessageBody": json.dumps({"Records": [_record(image)]})}
                for number, image in enumerate(batch)
            ]
            answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
            if answer.get("Failed"):
                raise storage.Transient(
                    f"{queue}: took only {sent + len(answer['Successful']):,} messages "
                    f"({answer['Failed'][0].get('Message')}); run this again"
                )
        sent += len(batch)
    return sent


def _record(image: ImageVersion) -> dict[str, Any]:
    bucket, key = storage.split_s3(image.source_ref)
    item = {"key": quote_plus(key), "size": image.size, "eTag": image.etag}
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": bucket},
            "object": {name: value for name, value in item.items() if value is not None},
        },
    }


def _aws(service: str) -> Any:
    import boto3

    return boto3.client(service)

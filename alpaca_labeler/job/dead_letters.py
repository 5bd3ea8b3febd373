"""`alpaca redrive`: list or requeue the messages of the dead-letter queue."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from alpaca_labeler.console import counted, dry_run_option, printable, say
from alpaca_labeler.console.stack import StackError, client, from_stack
from alpaca_labeler.handler import events
from alpaca_labeler.handler.errors import LabelerError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_LISTED: Final = 1000
LOOK_SECONDS: Final = 60
"""Seconds for which listed messages are hidden; the command unhides them when it ends."""
POLL_SECONDS: Final = 2.0
LOG_PAGES: Final = 20
ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


class RedriveError(LabelerError):
    """SQS stopped moving messages. The message says why and what to do."""


@click.command()
@click.argument("dead_letters", metavar="[DLQ-URL]", required=False)
@click.option("--to", "queue", metavar="URL", help="The queue to move to.  [default: its source]")
@click.option("--list", "show", is_flag=True, help="Name the photos instead: since when, and why.")
@from_stack(
    dead_letters=("DLQ-URL", "DeadLetterQueueUrl"),
    queue=("--to", "QueueUrl"),
    logs=("--logs", "LabelLogGroup"),
)
@dry_run_option
def redrive(
    *, dead_letters: str, queue: str | None, show: bool, dry_run: bool, logs: str | None = None
) -> None:
    """Queue again what the dead-letter queue holds.

    \b
        alpaca redrive --stack alpaca --list
        alpaca redrive --stack alpaca
        alpaca redrive "$DLQ_URL" --to "$QUEUE_URL"
    """
    sqs = client("sqs")
    if show:
        _list(sqs, dead_letters, logs)
        return
    waiting = _waiting(sqs, dead_letters)
    queue = queue or _source(sqs, dead_letters)
    if dry_run:
        say(f"would move about {counted(waiting, 'message')} to {queue}")
        return
    moved = _task(sqs, _arn(sqs, dead_letters), _arn(sqs, queue))
    if moved is None:
        moved = _by_hand(sqs, dead_letters, queue)
    say(f"moved {counted(moved, 'message')} to {queue}")


def _waiting(sqs: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(found[names[0]])


def _arn(sqs: Any, url: str) -> str:
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    return str(found["QueueArn"])


def _source(sqs: Any, dead_letters: str) -> str:
    """Return the one queue whose dead letters these are.

    SQS knows where its own dead letters came from, but not those that EventBridge wrote there.
    """
    urls = sqs.list_dead_letter_source_queues(QueueUrl=dead_letters)["queueUrls"]
    if len(urls) != 1:
        raise StackError(
            f"{dead_letters}: is the dead-letter queue of {len(urls)} queues; name one with --to "
            "URL"
        )
    return str(urls[0])


# --- moving --------------------------------------------------------------------------------------


def _task(sqs: Any, source: str, destination: str) -> int | None:
    """Have SQS move all messages, and return how many; None if it does not offer that."""
    from botocore.exceptions import ClientError

    try:
        sqs.start_message_move_task(SourceArn=source, DestinationArn=destination)
    except ClientError as error:
        if "already" not in str(error):  # another task is running: watch that one
            return None
    while True:
        [task] = sqs.list_message_move_tasks(SourceArn=source)["Results"]
        moved = int(task.get("ApproximateNumberOfMessagesMoved", 0))
        if task["Status"] in ENDED:
            break
        say(f"{moved:,} of {task.get('ApproximateNumberOfMessagesToMove', 0):,}")
        time.sleep(POLL_SECONDS)
    if task["Status"] != "COMPLETED":
        reason = task.get("FailureReason", "cancelled")
        raise RedriveError(
            f"SQS moved {counted(moved, 'message')} and stopped: {reason}; run this again for the "
            "rest"
        )
    return moved


def _by_hand(sqs: Any, dead_letters: str, queue: str) -> int:
    """Send each message, then delete it: one may arrive twice, none is lost."""
    moved = 0
    for batch in _received(sqs, dead_letters):
        entries = [
            {"Id": str(number), "MessageBody": message["Body"]}
            for number, message in enumerate(batch)
        ]
        answer = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
        sent = [batch[int(item["Id"])] for item in answer.get("Successful", ())]
        _entries(sqs.delete_message_batch, dead_letters, sent)
        moved += len(sent)
        if answer.get("Failed"):
            reason = answer["Failed"][0].get("Message")
            raise RedriveError(
                f"{queue}: took {counted(moved, 'message')} ({reason}); run this again"
            )
        say(f"{moved:,}")
    return moved


def _received(sqs: Any, url: str) -> Iterator[list[dict[str, Any]]]:
    while True:
        found = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=LOOK_SECONDS,
            WaitTimeSeconds=1,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages")
        if not found:
            return
        yield found


def _entries(call: Any, url: str, messages: list[dict[str, Any]], **more: Any) -> None:
    entries = [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"], **more}
        for number, message in enumerate(messages)
    ]
    if entries:
        call(QueueUrl=url, Entries=entries)


# --- looking -------------------------------------------------------------------------------------


def _list(sqs: Any, dead_letters: str, logs: str | None) -> None:
    seen: list[list[dict[str, Any]]] = []
    try:
        for batch in _received(sqs, dead_letters):
            seen.append(batch)
            if sum(map(len, seen)) >= MOST_LISTED:
                break
    finally:
        for batch in seen:
            _entries(sqs.change_message_visibility_batch, dead_letters, batch, VisibilityTimeout=0)
    messages = [message for batch in seen for message in batch]
    said = _said_in(logs, min(map(_sent, messages))) if logs and messages else {}
    for message in sorted(messages, key=_sent):
        since = datetime.fromtimestamp(_sent(message) / 1000, UTC)
        for photo, reason in _photos(message):
            why = said.get(photo) or said.get(message["MessageId"]) or reason
            click.echo(f"{since:%Y-%m-%d %H:%M}\t{printable(photo)}\t{printable(why)}")
    more = _waiting(sqs, dead_letters) - len(messages) if len(messages) >= MOST_LISTED else 0
    say(counted(len(messages), "message") + f", and about {more:,} more" * (more > 0))


def _sent(message: dict[str, Any]) -> int:
    return int(message["Attributes"]["SentTimestamp"])


def _photos(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (photo, the reason that the message itself gives)."""
    attributes = message.get("MessageAttributes", {})
    bridge = attributes.get("ERROR_MESSAGE", attributes.get("ERROR_CODE", {})).get("StringValue")
    try:
        requests = events.parse(json.loads(message["Body"]), within="s3://").requests
    except (ValueError, events.UnknownEvent) as error:
        yield message["Body"][:80], bridge or f"cannot be read: {error}"
        return
    for request in requests:
        yield request.image.source_ref, bridge or "see the function's log"


def _said_in(logs: str, since: int) -> dict[str, str]:
    """Return the last entry of the function's log about each photo, or each message without one."""
    pages = client("logs").get_paginator("filter_log_events")
    said: dict[str, str] = {}
    for number, page in enumerate(
        pages.paginate(logGroupName=logs, startTime=since, filterPattern='"problem"')
    ):
        for event in page["events"]:
            try:
                line = json.loads(event["message"])
                said[line.get("image") or line["id"]] = line["problem"]
            except (ValueError, KeyError, TypeError):
                continue
        if number >= LOG_PAGES:
            break
    return said

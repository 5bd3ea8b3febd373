"""Hand photos to the queue: as new messages, or have their own messages delivered again soon."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote_plus

from alpaca_labeler import storage
from alpaca_labeler.storage.image_version import ImageVersion

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Message:
    """What a queue says about one of its messages."""

    receipt: str
    """The receipt handle that changes the message's visibility; empty if unknown."""
    receives: int
    """How many times it was delivered, including this time."""


def send(queue: str, images: Iterable[ImageVersion]) -> int:
    """Announce images as S3 would, one per message; return how many. Raises `StorageError`."""
    sent = 0
    for batch in _tens(images):
        entries = [
            {"Id": str(number), "MessageBody": json.dumps({"Records": [announcement(image)]})}
            for number, image in enumerate(batch)
        ]
        answer = _call("send_message_batch", queue, entries)
        sent += len(answer.get("Successful", ()))
        if failed := answer.get("Failed"):
            raise storage.Transient(
                f"{queue}: took only {sent:,} messages ({failed[0].get('Message')}); run this again"
            )
    return sent


def soon(queue: str, messages: Iterable[Message]) -> None:
    """Make messages visible again, after 30 s for each receive. Raises `StorageError`.

    Otherwise they would stay hidden for the queue's visibility timeout, a quarter of an hour.
    """
    for batch in _tens(messages):
        entries = [
            {
                "Id": str(number),
                "ReceiptHandle": message.receipt,
                "VisibilityTimeout": min(30 * message.receives, 900),
            }
            for number, message in enumerate(batch)
        ]
        _call("change_message_visibility_batch", queue, entries)


def announcement(image: ImageVersion) -> dict[str, Any]:
    """Return the record with which S3 would announce an image."""
    bucket, key = storage.split_s3(image.source_ref)
    known = {
        "key": quote_plus(key),
        "size": image.size,
        "eTag": image.etag,
        "versionId": image.version_id,
        "sequencer": image.sequencer,
    }
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": {"name": bucket},
            "object": {name: value for name, value in known.items() if value is not None},
        },
    }


def _tens(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    waiting = iter(items)
    while batch := list(islice(waiting, 10)):  # what SQS takes in one call
        yield batch


def _call(operation: str, queue: str, entries: list[dict[str, Any]]) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return getattr(_client(), operation)(QueueUrl=queue, Entries=entries)
    except (BotoCoreError, ClientError) as error:
        raise storage.Transient(f"{queue}: {error}") from error


@functools.cache
def _client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client("sqs", config=Config(connect_timeout=2, read_timeout=5))

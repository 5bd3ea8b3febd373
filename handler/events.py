"""Any trigger's event in, image references out, and the answer in the trigger's own form.

Each image keeps the id of the message that brought it, for the answer that asks for another try.
Pure: nothing here fetches, labels or writes. Every source spells keys in its own way, so each key
is decoded here, exactly once:

    S3 notification                         form-encoded (`red+flower%2B.jpg`)
    EventBridge, Distributed Map, plain     as they are

An event is recognised by its shape, not by the sender that it names: other stores write S3's
notifications too, and SNS wraps them. An S3 event that brings no content (of a tag, an ACL, a
deletion, ...) asks for nothing. Each record counts for itself: one that cannot be read is reported,
and the others are labelled.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote_plus

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.photos import skip
from alpaca_labeler.storage import S3_SCHEME
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.storage.requeue import Message

Event = Mapping[str, Any]

_MAX_WHOLE: Final = 2**63 - 1
"""Largest number that a row can hold; S3's largest object has 2**46 bytes."""

_NEW_IMAGE: Final = ("ObjectCreated:", "ObjectSynced:Create", "ObjectRestore:Completed")
"""How the names of events that bring content begin; a replica of Ceph is synced."""
_NEW_IMAGE_DETAIL: Final = ("Object Created", "Object Restore Completed")


class UnknownEvent(LabelerError):
    """The event, or a part of it, is of an unknown kind. The message says what it holds."""


class Unfinished(LabelerError):
    """Some images must be tried again, and this trigger only does that after an error."""


_UNREADABLE: Final = (
    *(UnknownEvent, ValueError, KeyError, TypeError, AttributeError),
    *(OverflowError, OSError, RecursionError),
)
"""Errors from reading a document of an unexpected shape, with huge numbers or deep nesting too."""


@dataclass(frozen=True, slots=True)
class Request:
    """One image to be labelled."""

    id: str
    """Id of the message, which several images may share; empty for a direct caller."""
    image: ImageVersion


@dataclass(frozen=True, slots=True)
class Batch:
    """What one event asks for."""

    requests: tuple[Request, ...]
    unreadable: tuple[tuple[str, str], ...] = ()
    """(id of the message, why) for each record that cannot be read."""
    messages: Mapping[str, Message] = field(default_factory=dict)
    """A queue's messages by id, in their order; empty for a direct caller: S3, EventBridge, Step
    Functions or a person, who expects a summary, or an error."""
    isolated: bool = False
    """One of the images may have killed an earlier call: label them in a separate process."""

    def again(self, unfinished: Collection[str]) -> list[str]:
        """Return the ids of the messages to be delivered again, in their order.

        They are those of `unfinished` images, by source-ref, and those that ask for no image and
        cannot be read: the queue moves these to the dead letters, where an alarm reports them. A
        message that brings an image too is not one of them: it would be labelled each time.
        """
        asked = {request.id for request in self.requests}
        again = {r.id for r in self.requests if r.image.source_ref in unfinished}
        again |= {id_ for id_, _ in self.unreadable if id_ not in asked}
        return [id_ for id_ in self.messages if id_ in again]


def parse(event: object, *, within: str) -> Batch:
    """Read any trigger's event. `within` is the URI that every image must begin with.

    Raises `UnknownEvent` if an event that is not a queue's asks for no image and cannot be read:
    silence would be taken for success.
    """
    if not isinstance(event, Mapping):
        raise UnknownEvent(f"an event is a JSON object, not {type(event).__name__}")
    try:
        match event.get("Records"):
            case [{"messageId": _, "body": _}, *_] as records:
                return _queued(records, within)
        requests, unreadable = _requests("", event, within)
        isolated = event.get("isolated") is True
    except _UNREADABLE as error:
        raise UnknownEvent(f"the event cannot be read: {_say(error)}") from error
    if unreadable and not requests:
        raise UnknownEvent(unreadable[0][1])
    return Batch(tuple(requests), tuple(unreadable), isolated=isolated)


def _queued(records: list[Any], within: str) -> Batch:
    requests: list[Request] = []
    unreadable: list[tuple[str, str]] = []
    messages: dict[str, Message] = {}
    for record in records:
        id_, body = _name(record["messageId"]), record["body"]
        attributes = record.get("attributes") or {}
        receives = _whole(attributes.get("ApproximateReceiveCount")) or 1
        messages[id_] = Message(str(record.get("receiptHandle") or ""), receives)
        try:
            asked, problems = _requests(id_, json.loads(body), within)
        except _UNREADABLE as error:
            asked, problems = [], [(id_, _say(error))]
        requests += asked
        unreadable += problems
    again = any(message.receives > 1 for message in messages.values())
    return Batch(tuple(requests), tuple(unreadable), messages, isolated=again)


def _requests(
    id_: str, document: Event, within: str
) -> tuple[list[Request], list[tuple[str, str]]]:
    """Return the images to label, and (id, why) for each record that cannot be read."""
    requests: list[Request] = []
    unreadable: list[tuple[str, str]] = []
    for found in _read(document):
        if isinstance(found, Exception):
            unreadable.append((id_, _say(found)))
        elif not found.source_ref.startswith(within):
            why = f"{found.source_ref}: not below INPUT_URI, {within}; it was not touched"
            unreadable.append((id_, why))
        elif not is_skipped(found.source_ref, within):
            requests.append(Request(id_, found))
    return requests, unreadable


def _say(error: Exception) -> str:
    return str(error) if isinstance(error, UnknownEvent) else repr(error)


def is_skipped(source_ref: str, within: str) -> bool:
    """Tell whether an object below `within` is skipped because of its name."""
    return skip.by_path(source_ref.removeprefix(within[: within.rindex("/") + 1])) is not None


def _read(document: Event) -> Iterator[ImageVersion | Exception]:
    """Yield each image that is announced, and the error of each record that cannot be read."""
    try:
        parts = _parts(document)
        image = _image(document) if parts is None else None
    except _UNREADABLE as error:
        yield error
        return
    if image:
        yield image
    for part in parts or ():
        yield from _read(part)


def _parts(document: Event) -> list[Event] | None:
    """Return what an envelope or a list holds; None if the document is one record."""
    if isinstance(records := document.get("Records"), list) and records:
        return records
    if "Sns" in document:  # as SNS calls a function
        return [json.loads(document["Sns"]["Message"])]
    if "Type" in document and "Message" in document:  # as SNS writes to a queue
        notifies = document["Type"] == "Notification"  # and not of a subscription
        return [json.loads(document["Message"])] if notifies else []
    if "BatchInput" in document and "Items" in document:
        bucket = document["BatchInput"]["bucket"]
        return [{"bucket": bucket, "item": item} for item in document["Items"]]
    if "bucket" in document and isinstance(keys := document.get("keys"), list):
        return [{"bucket": document["bucket"], "item": {"Key": key}} for key in keys]
    return None


def _image(record: Event) -> ImageVersion | None:
    """Return the image that a record announces; None for one of S3 that brings no content."""
    if record.get("Event") == "s3:TestEvent":
        return None
    if "eventName" in record and "s3" in record:
        # MinIO writes `s3:` before the name. eventSource is aws:s3, minio:s3, ceph:s3...
        if not str(record["eventName"]).removeprefix("s3:").startswith(_NEW_IMAGE):
            return None
        bucket, found = record["s3"]["bucket"]["name"], record["s3"]["object"]
        key = unquote_plus(found["key"], errors="strict")
        return _version(bucket, key, found, record.get("eventTime"))
    if record.get("source") == "aws.s3" and str(record.get("detail-type")).startswith("Object "):
        if record["detail-type"] not in _NEW_IMAGE_DETAIL:
            return None
        bucket, found = record["detail"]["bucket"]["name"], record["detail"]["object"]
        return _version(bucket, found["key"], found, record.get("time"))
    if "bucket" in record and "item" in record:
        item = record["item"]
        return _version(record["bucket"], item["Key"], item, item.get("LastModified"))
    raise UnknownEvent(
        f"an event with {', '.join(map(str, record)) or 'nothing'} is not one of: S3 notification, "
        'SNS, SQS, EventBridge, Distributed Map batch, {"bucket": …, "keys": […]}'
    )


def _version(bucket: object, key: object, found: Event, moment: object) -> ImageVersion:
    """Return what is known of an object. `found` spells `etag` and `version-id` in its own way."""
    facts = {name.lower().replace("-", ""): value for name, value in found.items()}
    version_id = _fact(facts.get("versionid"))
    etag = _fact(facts.get("etag"))
    return ImageVersion(
        f"{S3_SCHEME}{_name(bucket)}/{_name(key)}",
        size=_whole(facts.get("size")),
        last_modified=_moment(moment),
        etag=etag.strip('"') or None if etag else None,
        version_id=None if version_id == "null" else version_id,
        sequencer=_fact(facts.get("sequencer")),
    )


def _name(value: object) -> str:
    """Return a non-empty text that UTF-8 can encode: JSON may hold half a surrogate pair."""
    if not isinstance(value, str) or not value:
        raise UnknownEvent(f"{value!r} where a name was expected")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnknownEvent(f"{value!r} is not text, so it cannot be a name") from None
    return value


def _fact(value: object) -> str | None:
    return None if value in {None, ""} else _name(value)


def _whole(value: object) -> int | None:
    if not isinstance(value, int | float | str) or value == "":
        return None
    number = int(value)
    if not 0 <= number <= _MAX_WHOLE:
        raise UnknownEvent(f"{value!r} where a size in bytes was expected")
    return number


def _moment(value: object) -> str | None:
    """Return ISO 8601 to the second, as S3 writes dates, from ISO text or seconds since 1970."""
    if isinstance(value, str) and value:
        moment = datetime.fromisoformat(value).astimezone(UTC)
    elif isinstance(value, int | float):
        moment = datetime.fromtimestamp(value, UTC)
    else:
        return None
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def answer(batch: Batch, rows: int, unfinished: Mapping[str, str], queued: int = 0) -> Event:
    """Answer as the trigger expects, so that it tries again what is needed and nothing else.

    `rows` is how many were written; `unfinished` maps source-refs to why they must be tried again;
    `queued` is how many images the queue took over from a direct caller, who is told.

    A queue delivers the named messages again. A direct caller repeats the whole event, and only
    after an error; rows made twice merge into one.

    Raises `Unfinished` to a direct caller if images are unfinished.
    """
    if batch.messages:
        return {"batchItemFailures": [{"itemIdentifier": i} for i in batch.again(unfinished)]}
    if unfinished:
        first = next(iter(unfinished.values()))
        raise Unfinished(
            f"{len(unfinished)} of {len(batch.requests)} images must be tried again, the first "
            f"because: {first}"
        )
    counts = {"images": len(batch.requests), "rows": rows}
    more = {"queued": queued, "unreadable": len(batch.unreadable)}
    return counts | {name: count for name, count in more.items() if count}

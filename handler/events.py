"""Any trigger's event in, image references out, and the answer in the trigger's own form.

Each image keeps the id by which its trigger knows it, for the answer that asks for another try.
Pure: nothing here fetches, labels or writes. Every source spells keys in its own way, so each key
is decoded here, exactly once:

    S3 notification, S3 Batch Operations    form-encoded (`red+flower%2B.jpg`)
    EventBridge, Distributed Map, plain     as they are

An event is recognised by its shape, not by the sender that it names: other stores write S3's
notifications too, SNS wraps them, and EventBridge Pipes put them into arrays.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote_plus

from . import skip
from .errors import LabelerError
from .image_version import ImageVersion
from .storage import S3_SCHEME

Event = Mapping[str, Any]

RESULT_STRING_LIMIT: Final = 1024
"""Longest text, in characters, that S3 Batch Operations takes as the result of a task."""

_MAX_WHOLE: Final = 2**63 - 1
"""Largest number that a row can hold; S3's largest object has 2**46 bytes."""

_NEW_IMAGE: Final = ("ObjectCreated:", "ObjectRestore:Completed")
_GONE_IMAGE: Final = ("ObjectRemoved:", "LifecycleExpiration:", "ObjectRestore:")
_NEW_IMAGE_DETAIL: Final = ("Object Created", "Object Restore Completed")
_GONE_IMAGE_DETAIL: Final = ("Object Deleted", "Object Restore Initiated", "Object Restore Expired")


class UnknownEvent(LabelerError):
    """The event, or a part of it, is of an unknown kind. The message says what it holds."""


class Unfinished(LabelerError):
    """Some images must be tried again, and this trigger only does that after an error."""


_UNREADABLE: Final = (
    UnknownEvent,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""Errors from reading a document of an unexpected shape, with huge numbers or deep nesting too."""


class Trigger(enum.Enum):
    """Kinds of caller, by the answer that they expect."""

    QUEUE = "SQS"
    """Expects the ids of the messages to deliver again."""
    BATCH_JOB = "S3 Batch Operations"
    """Expects a result code for each task."""
    CALLER = "direct"
    """S3, EventBridge, Step Functions or a person: expects a summary, or an error."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a queue says about one of its messages."""

    receipt: str
    """The receipt handle that changes the message's visibility; empty if unknown."""
    receives: int
    """How many times it was delivered, including this time."""


@dataclass(frozen=True, slots=True)
class Request:
    """One image to be labelled."""

    id: str
    """Id of the message or task, which several images may share; else the source-ref."""
    image: ImageVersion


@dataclass(frozen=True, slots=True)
class Batch:
    """What one event asks for."""

    trigger: Trigger
    requests: tuple[Request, ...]
    broken: Mapping[str, str] = field(default_factory=dict)
    """Id of each message or task that cannot be carried out -> why."""
    frame: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the event that the answer must repeat."""
    ids: tuple[str, ...] = ()
    """Ids of all messages or tasks, in their order."""
    messages: Mapping[str, Message] = field(default_factory=dict)
    """A queue's messages, by id."""
    isolated: bool = False
    """One of the images may have killed an earlier call: label them in a separate process."""


def parse(event: object, *, within: str) -> Batch:
    """Read any trigger's event. `within` is the URI that every image must begin with.

    A queue's message, or a job's task, that cannot be read is `broken` on its own. Raises
    `UnknownEvent` if the whole event cannot be read: silence would be taken for success.
    """
    if not isinstance(event, Mapping | list):
        raise UnknownEvent(f"an event is a JSON object or array, not {type(event).__name__}")
    try:
        return _parse(event, within)
    except UnknownEvent:
        raise
    except _UNREADABLE as error:
        raise UnknownEvent(f"the event cannot be read: {_say(error)}") from error


def _parse(event: Event | list[Any], within: str) -> Batch:
    if not event:
        raise UnknownEvent("the event is empty")
    # EventBridge Pipes send a queue's messages, or other events, as an array.
    records = event if isinstance(event, list) else event.get("Records")
    if isinstance(records, list) and records and _is_queued(records[0]):
        # A message that cannot be read is handed back alone. It is delivered again until the queue
        # moves it to the dead letters, where an alarm reports it. Dropping it could lose an image
        # silently; raising would have every other image of the batch tried again too.
        bodies = [(_name(record["messageId"]), record["body"]) for record in records]
        batch = _separate(
            Trigger.QUEUE, bodies, lambda body: [*_images(json.loads(body))], within=within
        )
        messages = {record["messageId"]: _message(record) for record in records}
        again = any(message.receives > 1 for message in messages.values())
        return replace(batch, messages=messages, isolated=again)
    if isinstance(event, Mapping) and "tasks" in event and "invocationId" in event:
        return _separate(
            Trigger.BATCH_JOB,
            [(_name(task["taskId"]), task) for task in event["tasks"]],
            lambda task: [_from_task(task)],
            within=within,
            frame={
                "invocationSchemaVersion": event.get("invocationSchemaVersion", "1.0"),
                "invocationId": event["invocationId"],
            },
        )
    images = [_inside(image, within) for image in _images(event)]
    return Batch(
        Trigger.CALLER,
        tuple(Request(image.source_ref, image) for image in images if _is_wanted(image, within)),
        isolated=isinstance(event, Mapping) and event.get("isolated") is True,
    )


def _is_queued(record: object) -> bool:
    return isinstance(record, Mapping) and "messageId" in record and "body" in record


def _message(record: Event) -> Message:
    attributes = record.get("attributes") or {}
    return Message(
        str(record.get("receiptHandle") or ""),
        _whole(attributes.get("ApproximateReceiveCount")) or 1,
    )


def _separate(
    trigger: Trigger,
    items: list[tuple[str, Any]],
    read: Callable[[Any], list[ImageVersion]],
    *,
    within: str,
    frame: Event | None = None,
) -> Batch:
    requests: list[Request] = []
    broken: dict[str, str] = {}
    for id_, item in items:
        try:
            images = [_inside(image, within) for image in read(item)]
            requests += [Request(id_, image) for image in images if _is_wanted(image, within)]
        except _UNREADABLE as error:
            broken[id_] = _say(error)
    return Batch(trigger, tuple(requests), broken, frame or {}, tuple(id_ for id_, _ in items))


def _say(error: Exception) -> str:
    return str(error) if isinstance(error, UnknownEvent) else repr(error)


def _inside(image: ImageVersion, within: str) -> ImageVersion:
    if not image.source_ref.startswith(within):
        raise UnknownEvent(f"{image.source_ref}: not below INPUT_URI, {within}; it was not touched")
    return image


def _is_wanted(image: ImageVersion, within: str) -> bool:
    return not is_skipped(image.source_ref, within)


def is_skipped(source_ref: str, within: str) -> bool:
    """Tell whether an object below `within` is skipped because of its name, as a folder marker is.

    An object whose name merely is not a photo's is not skipped: its content decides.
    """
    found = skip.by_path(source_ref.removeprefix(within[: within.rindex("/") + 1]))
    return found is not None and found.kind is not skip.Kind.OTHER


# --- one reader for each source ------------------------------------------------------------------


def _images(event: Event | list[Any]) -> Iterator[ImageVersion]:
    for document in _documents(event):
        yield from _from_document(document)


def _documents(event: Event | list[Any]) -> Iterator[Event]:
    """Unwrap arrays, S3's `Records` and the envelopes of SNS."""
    if isinstance(event, list):
        for item in event:
            yield from _documents(item)
    elif isinstance(records := event.get("Records"), list) and records:
        yield from _documents(records)
    elif "Sns" in event:  # as SNS calls a function
        yield from _documents(json.loads(event["Sns"]["Message"]))
    elif event.get("Type") == "Notification":  # as SNS writes to a queue
        yield from _documents(json.loads(event["Message"]))
    else:
        yield event


def _from_document(event: Event) -> Iterator[ImageVersion]:
    if event.get("Event") == "s3:TestEvent":
        return
    if "eventName" in event:
        yield from _from_notification(event)
    elif event.get("source") == "aws.s3" and "detail-type" in event:
        yield from _from_event_bridge(event)
    elif "Items" in event and "BatchInput" in event:
        bucket = event["BatchInput"]["bucket"]
        for item in event["Items"]:
            yield _from_map_item(bucket, item)
    elif "bucket" in event and "keys" in event:
        if not isinstance(event["keys"], list):
            raise UnknownEvent("`keys` must be a list of object keys")
        for key in event["keys"]:
            yield ImageVersion(_uri(event["bucket"], key))
    else:
        raise UnknownEvent(
            f"an event with {', '.join(map(str, event)) or 'nothing'} is not one of: S3 "
            "notification, SNS, SQS, EventBridge, S3 Batch Operations, Distributed Map batch, "
            '{"bucket": …, "keys": […]}'
        )


def _from_notification(record: Event) -> Iterator[ImageVersion]:
    # MinIO writes `s3:` before the name. eventSource is aws:s3, minio:s3, ceph:s3...
    name = str(record["eventName"]).removeprefix("s3:")
    if not name.startswith(_NEW_IMAGE + _GONE_IMAGE):
        raise UnknownEvent(f"a record of {record.get('eventSource')}, {name}, announces no image")
    if name.startswith(_NEW_IMAGE):
        s3 = record["s3"]
        found = s3["object"]
        yield ImageVersion(
            _uri(s3["bucket"]["name"], unquote_plus(found["key"], errors="strict")),
            size=_whole(found.get("size")),
            last_modified=_moment(record.get("eventTime")),
            etag=_etag(found.get("eTag")),
            version_id=_version(found.get("versionId")),
            sequencer=_fact(found.get("sequencer")),
        )


def _from_event_bridge(event: Event) -> Iterator[ImageVersion]:
    kind = event["detail-type"]
    if kind not in _NEW_IMAGE_DETAIL + _GONE_IMAGE_DETAIL:
        raise UnknownEvent(f"an EventBridge event {kind!r} announces no image")
    if kind in _NEW_IMAGE_DETAIL:
        detail = event["detail"]
        found = detail["object"]
        yield ImageVersion(
            _uri(detail["bucket"]["name"], found["key"]),
            size=_whole(found.get("size")),
            last_modified=_moment(event.get("time")),
            etag=_etag(found.get("etag")),
            version_id=_version(found.get("version-id")),
            sequencer=_fact(found.get("sequencer")),
        )


def _from_task(task: Event) -> ImageVersion:
    # Schema 2.0 names the bucket; 1.0 has its ARN.
    bucket = task["s3Bucket"] if "s3Bucket" in task else task["s3BucketArn"].rpartition(":")[2]
    return ImageVersion(
        _uri(bucket, unquote_plus(task["s3Key"], errors="strict")),
        version_id=_version(task.get("s3VersionId")),
    )


def _from_map_item(bucket: str, item: Event) -> ImageVersion:
    return ImageVersion(
        _uri(bucket, item["Key"]),
        size=_whole(item.get("Size")),
        last_modified=_moment(item.get("LastModified")),
        etag=_etag(item.get("Etag")),
    )


def _uri(bucket: object, key: object) -> str:
    return f"{S3_SCHEME}{_name(bucket)}/{_name(key)}"


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
    return None if value is None or value == "" else _name(value)


def _whole(value: object) -> int | None:
    if not isinstance(value, int | float | str) or value == "":
        return None
    number = int(value)
    if not 0 <= number <= _MAX_WHOLE:
        raise UnknownEvent(f"{value!r} where a size in bytes was expected")
    return number


def _etag(value: object) -> str | None:
    etag = _fact(value)
    return etag.strip('"') or None if etag else None


def _version(value: object) -> str | None:
    version = _fact(value)
    return None if version == "null" else version


def _moment(value: object) -> str | None:
    """Return ISO 8601 to the second, as S3 writes dates, from ISO text or seconds since 1970."""
    if isinstance(value, str) and value:
        moment = datetime.fromisoformat(value).astimezone(UTC)
    elif isinstance(value, int | float):
        moment = datetime.fromtimestamp(value, UTC)
    else:
        return None
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


# --- the answer ----------------------------------------------------------------------------------


def answer(
    batch: Batch, results: Mapping[str, str], unfinished: Mapping[str, str], queued: int = 0
) -> Event:
    """Answer as the trigger expects, so that it tries again what is needed and nothing else.

    `results` maps each source-ref that has a row now to what the row says, `unfinished` each one
    without a row to why it must be tried again. `queued` is how many images the queue took over
    from a direct caller, who is told.

    A queue delivers the named messages again. A job repeats the tasks with a temporary failure; an
    image that can never be labelled has its failure row, so its task succeeded, and a bucket of odd
    files does not stop the job (S3 ends it once half the tasks fail). A direct caller repeats the
    whole event, and only after an error; rows made twice merge into one.

    Raises `Unfinished` to a direct caller if images are unfinished.
    """
    if batch.trigger is Trigger.CALLER:
        if unfinished:
            first = next(iter(unfinished.values()))
            raise Unfinished(
                f"{len(unfinished)} of {len(batch.requests)} images must be tried again, the first "
                f"because: {first}"
            )
        counts = {"images": len(batch.requests), "rows": len(results)}
        return counts | ({"queued": queued} if queued else {})
    again: dict[str, str] = {}
    labelled: dict[str, str] = {}
    for request in batch.requests:
        source_ref = request.image.source_ref
        if source_ref in unfinished:
            again[request.id] = unfinished[source_ref]
        else:
            labelled[request.id] = results[source_ref]
    if batch.trigger is Trigger.QUEUE:
        failed = [id_ for id_ in batch.ids if id_ in again or id_ in batch.broken]
        return {"batchItemFailures": [{"itemIdentifier": id_} for id_ in failed]}
    return {
        **batch.frame,
        "treatMissingKeysAs": "TemporaryFailure",
        "results": [_task_result(id_, batch, again, labelled) for id_ in batch.ids],
    }


def _task_result(
    id_: str, batch: Batch, again: Mapping[str, str], labelled: Mapping[str, str]
) -> dict[str, str]:
    if id_ in batch.broken:
        code, text = "PermanentFailure", batch.broken[id_]
    elif id_ in again:
        code, text = "TemporaryFailure", again[id_]
    else:
        code, text = "Succeeded", labelled.get(id_, "not a photo: skipped")
    return {"taskId": id_, "resultCode": code, "resultString": text[:RESULT_STRING_LIMIT]}

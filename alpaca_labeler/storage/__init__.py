"""The one way to objects and files: `s3://bucket/key` URIs and local paths.

Reads, listings, conditional writes, and the S3 client. What callers need of `files` and
`s3_errors` they find here.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from alpaca_labeler.storage import files, s3_body, s3_errors
from alpaca_labeler.storage.files import S3_SCHEME, is_s3, join, split_s3, to_path, to_source_ref
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.storage.s3_errors import (
    Conflict,
    Denied,
    NotFound,
    StorageError,
    TooLarge,
    Transient,
    Unavailable,
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Identifies one state of an S3 object."""

    etag: str
    """As `If-Match` takes it."""
    mark: str | None
    """What `upload.Upload` calls this very write; None if another wrote it."""


def read(uri: str, max_bytes: int) -> bytes:
    """Return the content of an object or file of at most `max_bytes`. Raises `StorageError`."""
    return fetch(ImageVersion(uri), max_bytes).data


def fetch(image: ImageVersion, max_bytes: int) -> files.Fetched:
    """Read an image as it is now, and return the version that was read with it.

    The announcement's sequencer is kept only if it belongs to that. Raises `StorageError`.
    """
    if image.size is not None and image.size > max_bytes:
        raise TooLarge(f"{image.source_ref}: {image.size:,} bytes, over the limit of {max_bytes:,}")
    if is_s3(image.source_ref):
        return _fetch_object(image, max_bytes)
    return files.fetch_file(image, max_bytes)


def _fetch_object(image: ImageVersion, max_bytes: int) -> files.Fetched:
    uri = image.source_ref
    answer = call(uri, "get_object")
    with closing(answer["Body"]) as body:
        size: int = answer.get("ContentLength", 0)  # some S3-compatible stores do not send it
        if size > max_bytes:
            raise TooLarge(f"{uri}: {size:,} bytes, over the limit of {max_bytes:,}")
        data = s3_body.read_whole(uri, body, max_bytes)
    _check_is_s3(uri, answer, answer.keys() & {"ETag", "LastModified"})
    version_id = answer.get("VersionId")
    version = ImageVersion(
        uri,
        size=len(data),
        last_modified=_moment(answer),
        # Some stores send no ETag.
        etag=_etag(answer) or f"sha256:{hashlib.sha256(data).hexdigest()}",
        version_id=version_id if version_id != "null" else None,
    )
    announced = (image.version_id, image.etag)
    if announced in {(version.version_id, version.etag), (None, version.etag)}:
        version = replace(version, sequencer=image.sequencer)
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return files.Fetched(data, version, _date(headers))


def stamp_of(uri: str) -> Stamp | None:
    """Return the state of an S3 object; None if there was never one.

    Raises `StorageError`: `Denied` if it was deleted, in a bucket that keeps versions.
    """
    try:
        return _stamp(uri, call(uri, "head_object"))
    except NotFound as error:
        _, headers = s3_errors.answer_of(error)
        if headers.get("x-amz-delete-marker") != "true":
            return None
        bucket, key = split_s3(uri)
        raise Denied(
            f"{uri}: it was deleted. To restore it: aws s3api delete-object --bucket {bucket} "
            f"--key {key} --version-id {headers.get('x-amz-version-id', 'ID')}"
        ) from error


def stream(uri: str) -> tuple[Stamp | None, io.BufferedReader]:
    """Open an S3 object of any size as it is now; (None, nothing) if there was never one.

    Raises `StorageError`: `Denied` if it was deleted, in a bucket that keeps versions.
    """
    try:
        answer = call(uri, "get_object")
    except NotFound:
        if stamp_of(uri):
            raise Transient(f"{uri}: it appeared just now; try again") from None
        return None, io.BufferedReader(io.BytesIO())
    return _stamp(uri, answer), s3_body.stream(uri, answer["Body"])


def _stamp(uri: str, answer: Any) -> Stamp:
    if "ETag" not in answer:
        raise Denied(
            f"{uri}: the store sends no ETag, so what is there cannot be replaced safely; keep "
            "results in a store with conditional writes"
        )
    return Stamp(answer["ETag"], answer.get("Metadata", {}).get("mark"))


def list_objects(
    uri: str, *, in_order: bool = False, missing_ok: bool = True
) -> Iterator[ImageVersion]:
    """List the objects whose URI starts with `uri`, in the order of the store.

    With `in_order` any other order than that of the keys is refused, as in directory buckets (S3
    Express). Raises `StorageError`: `NotFound` if there is no object, unless `missing_ok`.
    """
    bucket, prefix = split_s3(uri)
    more: dict[str, str] = {}
    last = ""
    while True:
        page = _call(uri, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        _check_is_s3(uri, page, page.keys() & {"Contents", "IsTruncated", "KeyCount"})
        began = last
        for item in page.get("Contents", ()):
            if "Key" not in item:
                raise Denied(f"{uri}: {s3_errors.NOT_S3}")
            if in_order and item["Key"] < last:
                raise Denied(
                    f"{uri}: the store does not list its objects in the order of their names, "
                    "which this needs"
                )
            last = item["Key"]
            yield ImageVersion(
                f"{S3_SCHEME}{bucket}/{last}",
                size=item.get("Size"),
                last_modified=_moment(item),
                etag=_etag(item),
            )
        if not last and not missing_ok:
            raise NotFound(f"{uri}: there is no object with that name or below it")
        if not page.get("IsTruncated"):
            return
        if "NextContinuationToken" in page:
            more = {"ContinuationToken": page["NextContinuationToken"]}
            continue
        if last == began:
            raise Denied(f"{uri}: the store says that there is more, but does not list it")
        more = {"StartAfter": last}


def _moment(answer: Any) -> str | None:
    moment = answer.get("LastModified")
    try:
        return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else None
    except OverflowError:  # in the year 1 or 9999
        return None


def _date(headers: Any) -> datetime | None:
    """Return when S3 gave an answer, by its own clock, in whole seconds."""
    try:
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        return None


def date_of(error: StorageError) -> datetime | None:
    """Return when S3 gave the answer behind an error; None if it tells no time."""
    return _date(s3_errors.answer_of(error)[1])


def _etag(answer: Any) -> str | None:
    return (answer.get("ETag") or "").strip('"') or None


def _check_is_s3(uri: str, answer: Any, facts: object) -> None:
    """Raise `Denied` for a web page, which has none of the `facts` that S3 sends."""
    if not facts and s3_errors.is_page(answer):
        raise Denied(f"{uri}: {s3_errors.NOT_S3}")


def write_if_absent(uri: str, data: bytes, content_type: str) -> bool:
    """Create an S3 object; return False if one of that name exists already (it stays as it is).

    It may be our own earlier write, whose answer was lost. Raises `StorageError`.
    """
    try:
        call(uri, "put_object", Body=data, ContentType=content_type, IfNoneMatch="*")
    except Conflict:
        return False
    return True


def delete(uris: list[str]) -> None:
    """Delete S3 objects of one bucket, ignoring those already gone. Raises `StorageError`."""
    for start in range(0, len(uris), 1000):  # DeleteObjects takes 1,000 keys
        some = uris[start : start + 1000]
        bucket, _ = split_s3(some[0])
        objects = [{"Key": split_s3(uri)[1]} for uri in some]
        try:
            what = {"Objects": objects, "Quiet": True}
            answer = _call(some[0], "delete_objects", Bucket=bucket, Delete=what)
        except StorageError as error:
            if s3_errors.answer_of(error)[0] not in {400, 405, 501}:
                raise
            # Some stores require a Content-MD5, which boto3 no longer sends, or lack this call.
            for uri in some:
                with suppress(NotFound):
                    call(uri, "delete_object")
            continue
        for failed in answer.get("Errors", ()):
            raise Transient(f"{failed.get('Key')}: not deleted ({failed.get('Code')})")


_client_lock = threading.Lock()


@functools.cache
def _new_client(_pid: int) -> Any:
    import boto3  # 0.2 s that labelling local files need not wait for
    from botocore.config import Config

    made = boto3.client(
        "s3",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=5,
            read_timeout=20,
            max_pool_connections=64,
        ),
    )
    made.meta.events.register_first("needs-retry.s3", s3_errors.refuse_redirect)
    return made


def client() -> Any:
    """Return this process's S3 client; `AWS_ENDPOINT_URL` redirects it like any boto3 client."""
    with _client_lock:  # boto3's default session must not be set up by two threads at once
        return _new_client(os.getpid())


def credentials() -> tuple[str | None, ...]:
    """Return this process's key, secret and token, if any. May ask a person for a code.

    Raises whatever boto3 does.
    """
    import boto3

    client()
    found = boto3.DEFAULT_SESSION and boto3.DEFAULT_SESSION.get_credentials()
    return tuple(found.get_frozen_credentials()[:3]) if found else ()


def use_credentials(keys: tuple[str | None, ...]) -> None:
    """Let S3 calls of this process from now on use other `credentials`."""
    import boto3

    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    values = {name: value or "" for name, value in zip(names, keys, strict=False)}
    if values.items() - os.environ.items():
        os.environ.update(values)
        boto3.DEFAULT_SESSION = None
        _new_client.cache_clear()


def call(uri: str, operation: str, **arguments: Any) -> Any:
    """Make one S3 call about the object `uri`. Raises `StorageError`."""
    bucket, key = split_s3(uri)
    return _call(uri, operation, Bucket=bucket, Key=key, **arguments)


def _call(uri: str, operation: str, **arguments: Any) -> Any:
    """Make one S3 call: every error becomes ours, and a 409 is tried again."""
    try:
        call = getattr(client(), operation)
    except Exception as error:
        raise s3_errors.setup_error(uri, error) from error
    if s3_errors.pays():
        arguments["RequestPayer"] = "requester"
    for attempt in range(5):
        try:
            return call(**arguments)
        except Exception as error:
            code = (getattr(error, "response", None) or {}).get("Error", {}).get("Code")
            # Two conditional writes met inside S3: neither has won, and boto3 does not try again.
            if code != "ConditionalRequestConflict" or attempt == 4:
                raise s3_errors.translate(uri, error) from error
            time.sleep(0.05 * 2**attempt)
    raise AssertionError("unreachable")

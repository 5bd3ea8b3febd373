"""The one way to objects and files: `s3://bucket/key` URIs and local paths.

S3 errors become one small tree, so that nobody else needs to know botocore's:

    StorageError
    |-- NotFound        no such object, version, bucket or file
    |-- Denied          no permission, or no credentials: for the operator to repair
    |-- TooLarge        more bytes than the caller allows
    |-- Unavailable     archived, encrypted with a key that is not ours, only for readers who pay,
    |                   or not a regular file: reading it again will not help
    |-- Conflict        a conditional write found that the object had changed
    `-- Transient       throttling, timeouts, 5xx, broken connections: worth another try, later
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import IO, Any, Final
from urllib.parse import quote, unquote, unquote_to_bytes

from .errors import LabelerError
from .image_version import ImageVersion

S3_SCHEME: Final = "s3://"
FILE_SCHEME: Final = "file:"

DOWNLOAD_SECONDS: Final = 60.0
"""Longest time that one photo, or one MiB of a table of any size, may take to arrive. Socket
timeouts alone would let a download trickle on."""

_NO_FILE_TO_READ: Final = frozenset(
    {errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EINVAL}
)
"""System errors for a name that no second try can read. Other errors, of a disk or a network, may
pass."""

_CHUNK: Final = 2**20
_CONFLICT_TRIES: Final = 5
_NOT_S3: Final = (
    "the answer came not from S3 but from a web page; set AWS_ENDPOINT_URL to the S3 endpoint (not "
    "the console), and check whether a proxy or a login page is in between"
)


class StorageError(LabelerError):
    """Reading or writing failed. The message names the object."""


class NotFound(StorageError):
    """No such object, version, bucket or file."""


class Denied(StorageError):
    """Permission or credentials are missing."""


class TooLarge(StorageError):
    """The object holds more bytes than the caller allows."""


class Unavailable(StorageError):
    """It exists but cannot be read as it is, now or later: the message says why."""


class Conflict(StorageError):
    """A conditional write found that the object had changed."""


class Transient(StorageError):
    """A fault that passes: throttling, a timeout, a 5xx answer, a broken connection."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of an image, and the version that was read."""

    data: bytes
    version: ImageVersion


@dataclass(frozen=True, slots=True)
class Stamp:
    """Identifies one state of an S3 object."""

    etag: str
    """As `If-Match` takes it."""
    mark: str | None
    """The `mark` that its writer gave to `write_if_unchanged`; None if it gave none."""


# --- names ---------------------------------------------------------------------------------------


def is_s3(uri: str) -> bool:
    """Tell an S3 URI from a local path."""
    return uri.startswith(S3_SCHEME)


_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")
_AWS_HOST: Final = re.compile(
    r"(?:(.+)\.)?s3(?!-accesspoint)[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?"
)
_READABLE: Final = "give a file, a folder or s3://bucket/prefix/"


def as_uri(text: str) -> str:
    """Return a path, or an address in S3 as people may write it, in the one form used here.

    `S3://` and `s3a://`, an object's https URL and a bucket's ARN become `s3://bucket/key`, a
    `file://` URI becomes its path, and paths stay as they are. Raises `StorageError` for an address
    that cannot be read: one of another store, one of an access point, or one without a bucket.
    """
    scheme, separator, rest = text.partition("://")
    if text.startswith("arn:"):
        scheme, separator, rest = "s3", "://", text.removeprefix("arn:aws:s3:::")
        if rest == text:
            raise StorageError(f"{text}: name the bucket behind it, as s3://bucket/prefix/")
    if not separator or not scheme.isalnum() or os.path.lexists(text):
        return text
    scheme = scheme.lower()
    if scheme == "file":
        return to_path(FILE_SCHEME + rest)
    if scheme in {"http", "https"}:
        host, _, path = rest.partition("/")
        found = _AWS_HOST.fullmatch(host.lower())
        if found is None or "?" in path:
            raise StorageError(f"{text}: web addresses cannot be read; {_READABLE}")
        rest = f"{found[1]}/{unquote(path)}" if found[1] else unquote(path)
    elif scheme not in {"s3", "s3a", "s3n"}:
        raise StorageError(f"{text}: {scheme}:// cannot be read; {_READABLE}")
    if not _BUCKET.fullmatch(rest.partition("/")[0]):
        raise StorageError(f"{text}: not of the form s3://bucket/key")
    return S3_SCHEME + rest


def split_s3(uri: str) -> tuple[str, str]:
    """Return (bucket, key) of an `s3://bucket/key` URI. The key may be empty.

    Raises `ValueError` if there is no bucket.
    """
    bucket, _, key = uri.removeprefix(S3_SCHEME).partition("/")
    if not is_s3(uri) or not bucket:
        raise ValueError(f"{uri}: not of the form s3://bucket/key")
    return bucket, key


def join(base: str, name: str) -> str:
    """Return the URI or path of `name` below `base`."""
    return f"{base.rstrip('/')}/{name}" if base.rstrip("/") else f"{base}{name}"


def to_source_ref(path: str) -> str:
    """Return the name of a local file in a manifest.

    It is the path itself, with two exceptions: a path that is not UTF-8 cannot be written in JSON,
    and one that looks like a URI would be read as one. Both become a `file:` URI with the bytes of
    the path percent-encoded, `file:///...` for an absolute path.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        plain = False
    else:
        plain = not path.startswith((S3_SCHEME, FILE_SCHEME))
    if plain:
        return path
    return FILE_SCHEME + "//" * os.path.isabs(path) + quote(os.fsencode(path))


def to_path(source_ref: str) -> str:
    """Return the local path that `to_source_ref` named."""
    if source_ref.startswith(FILE_SCHEME):
        return os.fsdecode(unquote_to_bytes(source_ref[len(FILE_SCHEME) :].removeprefix("//")))
    return source_ref


def file_time(nanoseconds: int) -> str:
    """Return a file's modification time, in nanoseconds since 1970, as ISO 8601 in UTC."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # beyond what datetime can hold
        return f"@{nanoseconds}"
    return f"{moment.isoformat()[:19]}.{rest:09d}Z"


def digest(data: bytes) -> str:
    """Return a name for the content of a file, as S3's ETag is for an object's."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of(path: str) -> str:
    """Return the `digest` of a file that need not fit in memory. Raises `OSError`."""
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


# --- reading -------------------------------------------------------------------------------------


def read(uri: str, max_bytes: int) -> bytes:
    """Return the content of an object or file of at most `max_bytes`. Raises `StorageError`."""
    return fetch(ImageVersion(uri), max_bytes).data


def fetch(image: ImageVersion, max_bytes: int) -> Fetched:
    """Read an image as it is now, and return the version that was read with it.

    If the announced version has been replaced, the current one is read in its place. The
    announcement's sequencer is kept only if it belongs to the version that was read.

    Raises `StorageError`.
    """
    if image.size is not None and image.size > max_bytes:
        raise TooLarge(f"{image.source_ref}: {image.size:,} bytes, over the limit of {max_bytes:,}")
    if is_s3(image.source_ref):
        return _fetch_object(image, max_bytes)
    return _fetch_file(image, max_bytes)


def _fetch_file(image: ImageVersion, max_bytes: int) -> Fetched:
    path = to_path(image.source_ref)
    with _file_errors(image.source_ref):
        # Without O_NONBLOCK, opening a pipe would wait for its writer for ever. Directories and
        # devices are refused below.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(handle, "rb", buffering=0) as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise Unavailable(f"{image.source_ref}: not a regular file")
            if status.st_size > max_bytes:
                raise TooLarge(
                    f"{image.source_ref}: {status.st_size:,} bytes, over the limit of {max_bytes:,}"
                )
            data = file.read(status.st_size)
    version = ImageVersion(image.source_ref, len(data), file_time(status.st_mtime_ns), digest(data))
    return Fetched(data, version)


def _fetch_object(image: ImageVersion, max_bytes: int) -> Fetched:
    uri = image.source_ref
    answer = _call(uri, "get_object", **_where(uri))
    with closing(answer["Body"]) as body:
        size: int = answer.get("ContentLength", 0)  # some S3-compatible stores do not send it
        if size > max_bytes:
            raise TooLarge(f"{uri}: {size:,} bytes, over the limit of {max_bytes:,}")
        data = _download(uri, body, max_bytes)
    _check_is_s3(uri, answer, answer.keys() & {"ETag", "LastModified"})
    version = ImageVersion(
        uri,
        size=len(data),
        last_modified=_moment(answer),
        # If a store sends no ETag, the content is named as for a file.
        etag=_etag(answer) or digest(data),
        version_id=_real_version(answer.get("VersionId")),
    )
    announced = (image.version_id, image.etag)
    if announced in {(version.version_id, version.etag), (None, version.etag)}:
        version = replace(version, sequencer=image.sequencer)
    return Fetched(data, version)


def _download(uri: str, body: Any, max_bytes: int) -> bytes:
    ends = time.monotonic() + DOWNLOAD_SECONDS
    chunks: list[bytes] = []
    total = 0
    for chunk in _chunks(uri, body):
        total += len(chunk)
        if total > max_bytes:
            raise TooLarge(f"{uri}: over the limit of {max_bytes:,} bytes")
        if time.monotonic() > ends:
            raise Transient(f"{uri}: still arriving after {DOWNLOAD_SECONDS:.0f} s")
        chunks.append(chunk)
    return b"".join(chunks)


def _chunks(uri: str, body: Any) -> Iterator[bytes]:
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    # botocore's body checks length and checksum, but its `read` waits for all the bytes that were
    # asked for: a server that sends a byte now and then would never be noticed.
    if hasattr(raw := getattr(body, "_raw_stream", None), "read1"):
        body._raw_stream = _PartialReads(raw)  # noqa: SLF001 - it offers no such read itself
    try:
        while chunk := body.read(_CHUNK):
            yield chunk
    except (BotoCoreError, HTTPError, OSError) as error:
        raise Transient(f"{uri}: the download broke off ({error})") from error


class _PartialReads:
    """A stream whose reads return what has arrived: at least one byte until the end."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read1(size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def stamp_of(uri: str) -> Stamp | None:
    """Return the state of an S3 object; None if there is no object. Raises `StorageError`."""
    try:
        return _stamp(uri, _call(uri, "head_object", **_where(uri)))
    except NotFound:
        return None


def download(uri: str, file: IO[bytes]) -> Stamp | None:
    """Copy an S3 object of any size into `file`; return its state, or None if there is no object.

    Raises `StorageError`.
    """
    try:
        answer = _call(uri, "get_object", **_where(uri))
    except NotFound:
        return None
    with closing(answer["Body"]) as body:
        ends, arrived = time.monotonic() + DOWNLOAD_SECONDS, 0
        for chunk in _chunks(uri, body):
            file.write(chunk)
            arrived += len(chunk)
            if arrived >= _CHUNK:
                ends, arrived = time.monotonic() + DOWNLOAD_SECONDS, 0
            elif time.monotonic() > ends:
                raise Transient(f"{uri}: less than a MiB arrived in {DOWNLOAD_SECONDS:.0f} s")
    return _stamp(uri, answer)


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

    That is key order, except in directory buckets (S3 Express) and some other stores. With
    `in_order` any other order is refused, for a caller that compares the listing with sorted rows.

    Raises `StorageError`: `NotFound` if there is no object, unless `missing_ok`.
    """
    where = _where(uri)
    bucket, prefix = where["Bucket"], where["Key"]
    more: dict[str, str] = {}
    last = ""
    while True:
        page = _call(uri, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        _check_is_s3(uri, page, page.keys() & {"Contents", "IsTruncated", "KeyCount"})
        began = last
        for item in page.get("Contents", ()):
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
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if moment else None


def _etag(answer: Any) -> str | None:
    return (answer.get("ETag") or "").strip('"') or None


def _check_is_s3(uri: str, answer: Any, facts: object) -> None:
    """Raise `Denied` for a web page, which has none of the `facts` that S3 sends."""
    if not facts and _is_page(answer):
        raise Denied(f"{uri}: {_NOT_S3}")


def _is_page(answer: Any) -> bool:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return "html" in headers.get("content-type", "")


# --- writing -------------------------------------------------------------------------------------


def write_if_absent(uri: str, data: bytes, content_type: str) -> bool:
    """Create an S3 object; return False if one of that name exists already (it stays as it is).

    False can also mean our own earlier write, whose answer was lost: if that matters to a caller,
    it must compare the content.

    Raises `StorageError`.
    """
    try:
        _call(
            uri, "put_object", **_where(uri), Body=data, ContentType=content_type, IfNoneMatch="*"
        )
    except Conflict:
        return False
    return True


def write_if_unchanged(
    uri: str, data: bytes | IO[bytes], etag: str | None, content_type: str, *, mark: str
) -> None:
    """Replace the S3 object whose ETag is `etag` (None: create it), or raise `Conflict`.

    `mark` identifies this write (a digest of the content, say) and is stored with the object: if a
    write whose answer was lost is sent again and finds itself there, the mark tells it from another
    writer's.

    Raises `StorageError`.
    """
    condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
    try:
        _call(
            uri,
            "put_object",
            **_where(uri),
            Body=data,
            ContentType=content_type,
            Metadata={"mark": mark},
            **condition,
        )
    except (Conflict, NotFound) as error:  # with If-Match, an object that is gone answers 404
        try:
            now = _call(uri, "head_object", **_where(uri))
        except NotFound:
            now = {}
        if now.get("Metadata", {}).get("mark") != mark:
            raise Conflict(f"{uri}: it was changed by somebody else meanwhile") from error


def delete(uris: list[str]) -> None:
    """Delete S3 objects of one bucket, ignoring those already gone. Raises `StorageError`."""
    for start in range(0, len(uris), 1000):  # DeleteObjects takes 1,000 keys
        some = uris[start : start + 1000]
        bucket, _ = split_s3(some[0])
        objects = [{"Key": split_s3(uri)[1]} for uri in some]
        try:
            answer = _call(
                some[0],
                "delete_objects",
                Bucket=bucket,
                Delete={"Objects": objects, "Quiet": True},
            )
        except StorageError as error:
            if _status(error) not in _NO_SUCH_CALL:
                raise
            # Some stores require a Content-MD5, which boto3 no longer sends, or lack this call.
            for uri in some:
                with contextlib.suppress(NotFound):
                    _call(uri, "delete_object", **_where(uri))
            continue
        for failed in answer.get("Errors", ()):
            raise Transient(f"{failed['Key']}: not deleted ({failed['Code']})")


_NO_SUCH_CALL: Final = frozenset({400, 405, 501})


def _status(error: StorageError) -> int:
    """Return the HTTP status of the answer behind an error; 0 if there was none."""
    response = getattr(error.__cause__, "response", None) or {}  # a time-out's is None
    status: int = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


# --- the S3 client -------------------------------------------------------------------------------

_client_lock = threading.Lock()


@functools.cache
def _new_client(_pid: int) -> Any:
    import boto3  # 0.2 s that labelling local files need not wait for
    from botocore.config import Config

    return boto3.client(
        "s3",
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=5,
            read_timeout=20,
            max_pool_connections=64,
        ),
    )


def client() -> Any:
    """Return this process's S3 client; `AWS_ENDPOINT_URL` redirects it like any boto3 client."""
    with _client_lock:  # boto3's default session must not be set up by two threads at once
        return _new_client(os.getpid())


def _where(uri: str) -> dict[str, str]:
    try:
        bucket, key = split_s3(uri)
    except ValueError as error:
        raise NotFound(str(error)) from None
    return {"Bucket": bucket, "Key": key}


def _call(uri: str, operation: str, **arguments: Any) -> Any:
    """Make one S3 call about `uri`: botocore's errors become ours, and a 409 is tried again."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        CredentialRetrievalError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
        ProfileNotFound,
        SSOError,
        TokenRetrievalError,
    )

    if _pays():
        arguments["RequestPayer"] = "requester"
    for attempt in range(_CONFLICT_TRIES):
        body = arguments.get("Body")
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        try:
            return getattr(client(), operation)(**arguments)
        except ClientError as error:
            ours = _translate(uri, error)
            # Two conditional writes met inside S3: neither has won, and boto3 does not try again.
            conflict = error.response["Error"]["Code"] == "ConditionalRequestConflict"
            if not conflict or attempt == _CONFLICT_TRIES - 1:
                raise ours from error
            time.sleep(0.05 * 2**attempt)
        except (
            CredentialRetrievalError,
            NoCredentialsError,
            PartialCredentialsError,
            ProfileNotFound,
            SSOError,
            TokenRetrievalError,
        ) as error:
            raise Denied(
                f"{uri}: no usable AWS credentials ({error}); see `aws configure`"
            ) from error
        except ValueError as error:  # botocore's error for an endpoint that is not a URL
            raise Denied(f"{uri}: AWS is not set up correctly: {error}") from error
        except ParamValidationError as error:
            raise NotFound(f"{uri}: not a name that S3 allows") from error
        except (BotoCoreError, OSError) as error:
            raise Transient(f"{uri}: {error}") from error
    raise AssertionError("unreachable")


_KEY_IS_LOST: Final = frozenset(
    f"KMS.{kind}Exception" for kind in "Disabled InvalidKeyUsage KMSInvalidState NotFound".split()
)
_NOT_FOR_US: Final = ("server side encryption", "requester pays")
"""Parts of S3's messages, because their codes mean other things too: InvalidRequest for an object
that is encrypted with its writer's own key (SSE-C), AccessDenied for a bucket whose readers pay. A
denied kms:Decrypt is not among them: once the operator permits it, every photo can be read."""


def _translate(uri: str, error: Any) -> StorageError:  # noqa: PLR0911 - one per kind
    code: str = error.response["Error"]["Code"]
    message: str = error.response["Error"].get("Message") or ""
    reason = f"{code}: {message.rstrip('.')}" if message else code
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in {"NoSuchKey", "NoSuchVersion", "NoSuchBucket", "404", "NotFound"}:
        return NotFound(f"{uri}: there is no such object ({code})")
    if code in {"PreconditionFailed", "412"} or status == 412:
        return Conflict(f"{uri}: it is not in the expected state")
    if code == "InvalidObjectState":
        return Unavailable(f"{uri}: archived; restore it first")
    if code in _KEY_IS_LOST or any(part in message.lower() for part in _NOT_FOR_US):
        return Unavailable(f"{uri}: S3 refuses to return it ({reason})")
    # Status 400 means both our own mistakes and S3's RequestTimeout, so an unknown code is tried
    # again.
    if status in {401, 403} or code in _BAD_TOKEN:
        payer = "" if _pays() else "; if its readers pay, set AWS_REQUEST_PAYER=requester"
        return Denied(f"{uri}: access denied ({reason}){payer if code == 'AccessDenied' else ''}")
    if status in {301, 307, 501}:
        return Denied(f"{uri}: not available from this endpoint or region ({reason})")
    # botocore reports a page that is not XML as a 500; a gateway may have sent it for a while.
    return Transient(f"{uri}: {_NOT_S3 if _is_page(error.response) else reason}")


_BAD_TOKEN: Final = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
"""Codes that come with status 400: only a new token helps."""


def _pays() -> bool:
    """Tell whether our account pays for reading (GDAL and others read this variable, too)."""
    return os.environ.get("AWS_REQUEST_PAYER") == "requester"


def _real_version(version_id: str | None) -> str | None:
    return None if version_id in {None, "null"} else version_id


class _file_errors:  # noqa: N801 - used like a function
    """Turn the operating system's errors about one file into ours."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise NotFound(f"{self.name}: there is no such file") from error
        if isinstance(error, PermissionError):
            raise Denied(f"{self.name}: no permission to read it") from error
        if isinstance(error, OSError):
            kind = Unavailable if error.errno in _NO_FILE_TO_READ else Transient
            raise kind(f"{self.name}: {error.strerror or error}") from error
        if isinstance(error, ValueError):  # a NUL byte in the name
            raise NotFound(f"{self.name}: not a file name ({error})") from error

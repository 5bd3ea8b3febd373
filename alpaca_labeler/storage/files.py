"""Names and local files: addresses as people write them, paths, digests, dates, content.

Nothing here asks S3.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, unquote_plus, unquote_to_bytes

from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.storage.s3_errors import Denied, NotFound, TooLarge, Transient, Unavailable

S3_SCHEME: Final = "s3://"
FILE_SCHEME: Final = "file:"

_NO_FILE_TO_READ: Final = frozenset(
    {errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EINVAL}
)
"""Errors of a name that no second try can read. Others, of a disk or a network, may pass."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of an image, and the version that was read."""

    data: bytes
    version: ImageVersion
    at: datetime | None = None
    """When it was read, by the store's clock; None if it tells no time."""


def is_s3(uri: str) -> bool:
    """Tell an S3 URI from a local path."""
    return uri.startswith(S3_SCHEME)


_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{1,255}")
_BUCKET_ARN: Final = re.compile(r"^arn:aws[a-z-]*:s3:::")
_AWS_HOST: Final = re.compile(
    r"(?:(.+)\.)?s3(?!-accesspoint)[.-](?:[a-z0-9-]+\.)*amazonaws\.com(?:\.cn)?"
)
_NO_BUCKET: Final = "{}: not of the form s3://bucket/key"
_READABLE: Final = "give a file, a folder or s3://bucket/prefix/"


def as_uri(text: str) -> str:
    """Return a path, or an address in S3 as people may write it, in the one form used here.

    `S3://` and `s3a://`, an object's https URL and a bucket's ARN become `s3://bucket/key`, a
    `file://` URI becomes its path, and paths stay as they are. Raises `NotFound` for an address
    that cannot be read: one of another store, one of an access point, or one without a bucket.
    """
    if os.path.lexists(text):
        return text
    scheme, separator, rest = _BUCKET_ARN.sub(S3_SCHEME, text).partition("://")
    if text.startswith("arn:") and not separator:
        raise NotFound(f"{text}: name the bucket behind it, as s3://bucket/prefix/")
    if not separator and text.lower().startswith("s3:"):
        raise NotFound(_NO_BUCKET.format(text))
    if not separator or not scheme.isalnum():
        return text
    scheme, (host, _, path) = scheme.lower(), rest.partition("/")
    if scheme == "file":
        if host.lower() in {"", "localhost"}:
            return to_path(FILE_SCHEME + rest.removeprefix(host))
        raise NotFound(f"{text}: on another machine; {_READABLE}")
    if scheme in {"http", "https"}:
        rest = _of_web(text, host, path)
    elif scheme not in {"s3", "s3a", "s3n"}:
        raise NotFound(f"{text}: {scheme}:// cannot be read; {_READABLE}")
    if not _BUCKET.fullmatch(rest.partition("/")[0]):
        raise NotFound(_NO_BUCKET.format(text))
    return S3_SCHEME + rest


def _of_web(url: str, host: str, path: str) -> str:
    """Return `bucket/key` of an object's https URL."""
    found = _AWS_HOST.fullmatch(host.lower())
    if found is None or "?" in path:
        raise NotFound(f"{url}: web addresses cannot be read; {_READABLE}")
    key = unquote_plus(path)  # as S3 itself reads it
    return f"{found[1]}/{key}" if found[1] else key


def split_s3(uri: str) -> tuple[str, str]:
    """Return (bucket, key) of an `s3://bucket/key` URI. The key may be empty.

    Raises `NotFound` if there is no bucket.
    """
    bucket, _, key = uri.removeprefix(S3_SCHEME).partition("/")
    if not is_s3(uri) or not bucket:
        raise NotFound(_NO_BUCKET.format(uri))
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
        if not path.startswith((S3_SCHEME, FILE_SCHEME)):
            return path
    except UnicodeEncodeError:
        pass
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


def fetch_file(image: ImageVersion, max_bytes: int) -> Fetched:
    """Read a local file of at most `max_bytes`. Raises `StorageError`."""
    name = image.source_ref
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer for ever. Directories and
        # devices are refused below.
        handle = os.open(to_path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(handle, "rb", buffering=0) as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise Unavailable(f"{name}: not a regular file")
            if status.st_size > max_bytes:
                raise TooLarge(f"{name}: {status.st_size:,} bytes, over the limit of {max_bytes:,}")
            data = file.read(status.st_size)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{name}: there is no such file") from error
    except PermissionError as error:
        raise Denied(f"{name}: no permission to read it") from error
    except OSError as error:
        kind = Unavailable if error.errno in _NO_FILE_TO_READ else Transient
        raise kind(f"{name}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL byte in the name
        raise NotFound(f"{name}: not a file name ({error})") from error
    return Fetched(data, ImageVersion(name, len(data), file_time(status.st_mtime_ns)))

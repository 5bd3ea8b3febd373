"""The body of S3's answer: it arrives whole, within its limit and in time, or not at all."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any, Final

from alpaca_labeler.storage.s3_errors import TooLarge, Transient

DOWNLOAD_SECONDS: Final = 60.0
"""Longest time that one photo, or one MiB of a table of any size, may take to arrive. Socket
timeouts alone would let a download trickle on."""
_CHUNK: Final = 2**20


def read_whole(uri: str, body: Any, max_bytes: int) -> bytes:
    """Return a photo of at most `max_bytes`. Raises `StorageError`."""
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


def stream(uri: str, body: Any) -> io.BufferedReader:
    """Return a table of any size, read as it arrives. Reading raises `StorageError`."""
    return io.BufferedReader(_Stream(uri, body), 2**18)


class _Stream(io.RawIOBase):
    def __init__(self, uri: str, body: Any) -> None:
        self._uri, self._body = uri, body
        self._chunks = _chunks(uri, body)
        self._rest = memoryview(b"")
        self._ends, self._arrived = time.monotonic() + DOWNLOAD_SECONDS, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
            self._arrived += len(self._rest)
            if self._arrived >= _CHUNK:
                self._ends, self._arrived = time.monotonic() + DOWNLOAD_SECONDS, 0
            elif self._rest and time.monotonic() > self._ends:
                raise Transient(f"{self._uri}: less than a MiB arrived in {DOWNLOAD_SECONDS:.0f} s")
        some = self._rest[: len(buffer)]
        buffer[: len(some)] = some
        self._rest = self._rest[len(some) :]
        return len(some)

    def close(self) -> None:
        self._body.close()
        super().close()


def _chunks(uri: str, body: Any) -> Iterator[bytes]:
    # botocore's body checks length and checksum, but its `read` waits for all the bytes that were
    # asked for: a server that sends a byte now and then would never be noticed.
    if hasattr(raw := getattr(body, "_raw_stream", None), "read1"):
        body._raw_stream = _PartialReads(raw)  # noqa: SLF001 - it offers no such read itself
    try:
        while chunk := body.read(_CHUNK):
            yield chunk
    except Exception as error:
        raise Transient(f"{uri}: the download broke off ({type(error).__name__})") from error


class _PartialReads:
    """A stream whose reads return what has arrived: at least one byte until the end."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        data: bytes = self._stream.read1(size)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

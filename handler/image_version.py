"""One state of one image: what every trigger names, and every row speaks of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageVersion:
    """One state of one image, as far as it is known. Missing facts are None."""

    source_ref: str
    """`s3://bucket/decoded key`, or a local path as `find` would print it."""
    size: int | None = None
    """In bytes."""
    last_modified: str | None = None
    """ISO 8601 in UTC: to the second for S3, to the nanosecond for a file."""
    etag: str | None = None
    """Without quotes. None for a local file."""
    version_id: str | None = None
    sequencer: str | None = None
    """Of the S3 event that announced this version: orders the events of one key."""

"""One state of one image, as triggers announce it and rows record it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageVersion:
    """One state of one image, as far as it is known. Missing facts are None."""

    source_ref: str
    """`s3://bucket/decoded key`, or a local path, relative to the folder of its manifest."""
    size: int | None = None
    """Size in bytes."""
    last_modified: str | None = None
    """ISO 8601 in UTC: to the second for S3, to the nanosecond for a file."""
    etag: str | None = None
    """S3's ETag without quotes, which is no digest of the content; None for a file."""
    version_id: str | None = None
    sequencer: str | None = None
    """Sequencer of the S3 event that announced this version; it orders the events of one key."""

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
    """Name of the content: S3's ETag without quotes, `sha256:<hex>` for a file that was read."""
    version_id: str | None = None
    sequencer: str | None = None
    """Sequencer of the S3 event that announced this version; it orders the events of one key."""

    def is_named(self) -> bool:
        """Tell whether anything is known that distinguishes this state from others."""
        return bool(self.etag or self.version_id or self.last_modified or self.sequencer)

    def is_same(self, other: ImageVersion) -> bool:
        """Tell whether two states of one image are the same photo.

        The content decides: the same bytes with another date, or uploaded again, are the same. If
        the content of either is unknown, the first of these that both have decides: the sequencer,
        the version id, the date (with the size).
        """
        if self.etag and other.etag:
            return self.etag == other.etag
        if self.sequencer and other.sequencer:
            return padded(self.sequencer) == padded(other.sequencer)
        if self.version_id and other.version_id:
            return self.version_id == other.version_id
        sizes = {self.size, other.size} - {None}
        return bool(self.last_modified) and (
            self.last_modified == other.last_modified and len(sizes) < 2
        )


def padded(sequencer: str) -> str:
    """Return a sequencer so that it compares as text.

    S3's are hex strings of any length, compared with the shorter padded with zeros at its right:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    return sequencer.upper().ljust(64, "0")

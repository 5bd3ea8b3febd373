"""An S3 object of any size, written as it is produced and replaced only if nobody else has."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any, Final, Self

from alpaca_labeler import storage
from alpaca_labeler.storage import Conflict, NotFound, StorageError

PART_BYTES: Final = 8 * 2**20
"""An object up to this size is one PutObject; a larger one is uploaded in parts of this size. S3
takes 10,000 of them: 80 GB. Two are in memory at a time."""


class Upload:
    """The new content of an object. A context manager: leaving it uncommitted undoes it."""

    def __init__(
        self, uri: str, etag: str | None, content_type: str, part_bytes: int = PART_BYTES
    ) -> None:
        """`etag` is that of the object to be replaced; None if there must be none yet."""
        self._uri = uri
        self._condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        # It tells a commit whose answer was lost from another writer's.
        self._mark = uuid.uuid4().hex
        self._about = {"ContentType": content_type, "Metadata": {"mark": self._mark}}
        self._part_bytes = part_bytes
        self._data = bytearray()
        self._parts: list[dict[str, Any]] = []
        self._id = ""
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._id:
            with suppress(StorageError):  # the bucket's lifecycle removes it
                storage.call(self._uri, "abort_multipart_upload", UploadId=self._id)

    def write(self, data: bytes) -> None:
        """Add bytes. Raises `StorageError`."""
        self._data += data
        self.size += len(data)
        if len(self._data) >= self._part_bytes:
            self._flush()

    def commit(self) -> None:
        """Make it the object. Raises `StorageError`: `Conflict` if somebody else has changed it."""
        if self._id and self._data:
            self._flush()
        try:
            if self._id:
                parts = {"MultipartUpload": {"Parts": self._parts}, "UploadId": self._id}
                storage.call(self._uri, "complete_multipart_upload", **parts, **self._condition)
            else:
                body = {"Body": bytes(self._data), **self._about}
                storage.call(self._uri, "put_object", **body, **self._condition)
        except (Conflict, NotFound) as error:  # with If-Match, an object that is gone answers 404
            stamp = storage.stamp_of(self._uri)
            if stamp is None or stamp.mark != self._mark:
                raise Conflict(f"{self._uri}: it was changed by somebody else meanwhile") from error
        self._id = ""

    def _flush(self) -> None:
        if not self._id:
            answer = storage.call(self._uri, "create_multipart_upload", **self._about)
            self._id = answer["UploadId"]
        number = len(self._parts) + 1
        body = {"Body": bytes(self._data), "PartNumber": number, "UploadId": self._id}
        self._data.clear()
        answer = storage.call(self._uri, "upload_part", **body)
        self._parts.append({"ETag": answer["ETag"], "PartNumber": number})

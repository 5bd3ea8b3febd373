# ruff: noqa: N803 - S3's own names
"""S3 in memory, for tests that need thousands of calls in an order that a seed decides.

It answers as S3 does, with conditional writes, uploads in parts, delete markers and a clock of its
own in whole seconds; test_fake_s3.py holds it against moto.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from botocore.exceptions import ClientError


@dataclass
class Stored:
    body: bytes
    etag: str
    modified: datetime
    metadata: dict[str, str]


@dataclass
class Started:
    """An upload in parts."""

    key: tuple[str, str]
    metadata: dict[str, str]
    parts: dict[int, Stored] = field(default_factory=dict)


@dataclass
class FakeS3:
    clock: Any = lambda: datetime.now(UTC)
    page: int = 1000
    versioned: bool = False
    """Whether a deletion leaves a marker."""
    objects: dict[tuple[str, str], Stored] = field(default_factory=dict)
    markers: set[tuple[str, str]] = field(default_factory=set)
    uploads: dict[str, Started] = field(default_factory=dict)
    _ids: Any = field(default_factory=itertools.count)

    def put_object(self, Bucket, Key, Body=b"", IfMatch=None, IfNoneMatch=None, **more):
        self._check((Bucket, Key), IfMatch, IfNoneMatch)
        body = Body if isinstance(Body, bytes) else Body.read()
        return self._store((Bucket, Key), self._new(body, more.get("Metadata", {})))

    def create_multipart_upload(self, Bucket, Key, Metadata=None, **_):
        name = f"upload-{next(self._ids)}"
        self.uploads[name] = Started((Bucket, Key), Metadata or {})
        return {"UploadId": name}

    def upload_part(self, Bucket, Key, UploadId, PartNumber, Body):
        self._started(UploadId, (Bucket, Key)).parts[PartNumber] = part = self._new(Body, {})
        return {"ETag": part.etag}

    def complete_multipart_upload(self, Bucket, Key, *, UploadId, MultipartUpload, **condition):
        started = self._started(UploadId, (Bucket, Key))
        self._check((Bucket, Key), condition.get("IfMatch"), condition.get("IfNoneMatch"))
        parts = [started.parts[named["PartNumber"]] for named in MultipartUpload["Parts"]]
        if [part.etag for part in parts] != [named["ETag"] for named in MultipartUpload["Parts"]]:
            raise self.error("InvalidPart", 400)
        stored = self._new(b"".join(part.body for part in parts), started.metadata)
        digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
        stored.etag = f'"{hashlib.md5(digests).hexdigest()}-{len(parts)}"'
        del self.uploads[UploadId]
        return self._store((Bucket, Key), stored)

    def abort_multipart_upload(self, Bucket, Key, UploadId):
        self._started(UploadId, (Bucket, Key))
        del self.uploads[UploadId]
        return {}

    def get_object(self, Bucket, Key):
        stored = self._stored(Bucket, Key, "NoSuchKey")
        return {**self._head(stored), "Body": io.BytesIO(stored.body)}

    def head_object(self, Bucket, Key):
        return self._head(self._stored(Bucket, Key, "404"))

    def list_objects_v2(self, Bucket, Prefix, ContinuationToken=""):
        keys = sorted(
            key
            for bucket, key in self.objects
            if bucket == Bucket and key.startswith(Prefix) and key > ContinuationToken
        )
        found = [(key, self.objects[Bucket, key]) for key in keys[: self.page]]
        contents = [
            {"Key": key, "Size": len(s.body), "LastModified": s.modified, "ETag": s.etag}
            for key, s in found
        ]
        cut = len(keys) > self.page
        more = {"NextContinuationToken": keys[self.page - 1]} if cut else {}
        return {"Contents": contents, "IsTruncated": cut, **more}

    def delete_objects(self, Bucket, Delete):
        for item in Delete["Objects"]:
            self.objects.pop((Bucket, item["Key"]), None)
            if self.versioned:
                self.markers.add((Bucket, item["Key"]))
        return {}

    def error(self, code: str, status: int, **headers: str) -> ClientError:
        return error(code, status, date=format_datetime(self.clock(), usegmt=True), **headers)

    def _check(self, where, if_match, if_none_match):
        now = self.objects.get(where)
        if if_match and now is None:
            raise self.error("NoSuchKey", 404)
        if (if_none_match and now) or (if_match and now and now.etag != if_match):
            raise self.error("PreconditionFailed", 412)

    def _new(self, body, metadata):
        modified = self.clock().replace(microsecond=0)
        return Stored(body, f'"{hashlib.md5(body).hexdigest()}"', modified, metadata)

    def _store(self, where, stored):
        self.objects[where] = stored
        self.markers.discard(where)
        return {"ETag": stored.etag}

    def _started(self, name, where):
        if name not in self.uploads or self.uploads[name].key != where:
            raise self.error("NoSuchUpload", 404)
        return self.uploads[name]

    def _stored(self, bucket, key, code):
        if (bucket, key) not in self.objects:
            marker = {"x-amz-delete-marker": "true", "x-amz-version-id": "marker"}
            raise self.error(code, 404, **marker if (bucket, key) in self.markers else {})
        return self.objects[bucket, key]

    def _head(self, stored):
        date = format_datetime(self.clock(), usegmt=True)
        return {
            "ETag": stored.etag,
            "LastModified": stored.modified,
            "ContentLength": len(stored.body),
            "Metadata": stored.metadata,
            "ResponseMetadata": {"HTTPHeaders": {"date": date}},
        }


def error(code: str, status: int, **headers: str) -> ClientError:
    facts = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": facts}
    return ClientError(answer, "call")

# ruff: noqa: N803 - S3's own names
"""S3 in memory, for tests that need thousands of calls in an order that a seed decides.

It answers as S3 does, conditional writes included; test_fake_s3.py holds it against moto.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError


@dataclass
class Stored:
    body: bytes
    etag: str
    modified: datetime
    metadata: dict[str, str]


@dataclass
class FakeS3:
    clock: Any = lambda: datetime.now(UTC)
    page: int = 1000
    objects: dict[tuple[str, str], Stored] = field(default_factory=dict)

    def put_object(self, Bucket, Key, Body, IfMatch=None, IfNoneMatch=None, **more):
        now = self.objects.get((Bucket, Key))
        if IfNoneMatch and now:
            raise error("PreconditionFailed", 412)
        if IfMatch:
            if now is None:
                raise error("NoSuchKey", 404)
            if now.etag != IfMatch:
                raise error("PreconditionFailed", 412)
        body = Body if isinstance(Body, bytes) else Body.read()
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        stored = Stored(body, etag, self.clock().replace(microsecond=0), more.get("Metadata", {}))
        self.objects[Bucket, Key] = stored
        return {"ETag": etag}

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
        contents = [
            {
                "Key": key,
                "Size": len(self.objects[Bucket, key].body),
                "LastModified": self.objects[Bucket, key].modified,
                "ETag": self.objects[Bucket, key].etag,
            }
            for key in keys[: self.page]
        ]
        cut = len(keys) > self.page
        more = {"NextContinuationToken": keys[self.page - 1]} if cut else {}
        return {"Contents": contents, "IsTruncated": cut, **more}

    def delete_objects(self, Bucket, Delete):
        for item in Delete["Objects"]:
            self.objects.pop((Bucket, item["Key"]), None)
        return {}

    def _stored(self, bucket, key, code):
        if (bucket, key) not in self.objects:
            raise error(code, 404)
        return self.objects[bucket, key]

    @staticmethod
    def _head(stored):
        return {
            "ETag": stored.etag,
            "LastModified": stored.modified,
            "ContentLength": len(stored.body),
            "Metadata": stored.metadata,
        }


def error(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "call")

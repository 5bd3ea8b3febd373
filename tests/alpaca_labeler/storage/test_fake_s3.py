"""The S3 of the fault test answers as moto's does."""

import io
from typing import Any

from botocore.exceptions import ClientError

from tests.support.fake_s3 import FakeS3

STEPS: list[tuple[str, dict[str, Any]]] = [
    ("get_object", {"Key": "a"}),
    ("head_object", {"Key": "a"}),
    ("put_object", {"Key": "a", "Body": b"1", "IfMatch": '"0"'}),
    ("put_object", {"Key": "a", "Body": b"1", "IfNoneMatch": "*", "Metadata": {"mark": "m"}}),
    ("put_object", {"Key": "a", "Body": b"2", "IfNoneMatch": "*"}),
    ("head_object", {"Key": "a"}),
    ("put_object", {"Key": "a", "Body": b"2", "IfMatch": '"0"'}),
    ("get_object", {"Key": "a"}),
    ("put_object", {"Key": "a", "Body": "file", "IfMatch": '"c4ca4238a0b923820dcc509a6f75849b"'}),
    ("get_object", {"Key": "a"}),
    ("put_object", {"Key": "b/c ü+%2F", "Body": b"3"}),
    ("put_object", {"Key": "b/d", "Body": b"4"}),
    ("list_objects_v2", {"Prefix": ""}),
    ("list_objects_v2", {"Prefix": "b/"}),
    ("delete_objects", {"Delete": {"Objects": [{"Key": "a"}, {"Key": "none"}], "Quiet": True}}),
    ("list_objects_v2", {"Prefix": ""}),
    ("list_objects_v2", {"Prefix": "zz"}),
    ("get_object", {"Key": "a"}),
    ("create_multipart_upload", {"Key": "big", "Metadata": {"mark": "m"}}),
    ("upload_part", {"Key": "big", "PartNumber": 1, "Body": bytes(5 * 2**20)}),
    ("upload_part", {"Key": "big", "PartNumber": 2, "Body": b"end"}),
    # moto does not check conditions here; test_seaweedfs.py does, on a server.
    ("complete_multipart_upload", {"Key": "big"}),
    ("get_object", {"Key": "big"}),
    ("create_multipart_upload", {"Key": "b/d"}),
    ("abort_multipart_upload", {"Key": "b/d"}),
    ("abort_multipart_upload", {"Key": "b/d"}),
    ("get_object", {"Key": "b/d"}),
]


def told(client):
    """Make every step; return what each said that storage listens to."""
    upload, parts = "", list[dict[str, Any]]()
    for operation, arguments in STEPS:
        more = dict(arguments)
        if operation.startswith(("upload_part", "complete_", "abort_")):
            more["UploadId"] = upload
        if operation.startswith("complete_"):
            more["MultipartUpload"] = {"Parts": parts[:2]}
        if more.get("Body") == "file":
            more["Body"] = io.BytesIO(b"from a file")
        try:
            answer = getattr(client, operation)(Bucket="photos", **more)
        except ClientError as error:
            answer = error.response
            yield answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]
            continue
        upload = answer.get("UploadId", upload)
        if operation == "upload_part":
            parts.append({"PartNumber": more["PartNumber"], "ETag": answer["ETag"]})
        body = answer["Body"].read() if operation == "get_object" else None
        listed = [
            (item["Key"], item["Size"], item["ETag"], type(item["LastModified"]))
            for item in answer.get("Contents", ())
        ]
        facts = [answer.get(name) for name in ("ETag", "ContentLength", "Metadata")]
        yield body, listed, facts if operation in {"get_object", "head_object"} else None


def test_the_fake_answers_as_moto_does(aws):
    aws.create_bucket(Bucket="photos")
    assert [*told(FakeS3())] == [*told(aws)]

"""The job on one machine: moto's S3 and SQS on the loopback, the real handler between them.

Buckets, queue and notification are wired as in template.yaml. Only the Lambda service itself is
simulated: a loop receives messages and calls the handler, as the event source mapping would.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.request import Request, urlopen
from uuid import uuid4

from moto.server import ThreadedMotoServer

from alpaca_labeler import storage
from alpaca_labeler.model import bundle
from alpaca_labeler.table.row import Row

HOST: Final = "127.0.0.1"
INPUT_BUCKET: Final = "photos"
RESULTS_BUCKET: Final = "results"
QUEUE: Final = "photos-to-label"
RESULTS_URI: Final = f"s3://{RESULTS_BUCKET}/labels/"
MANIFEST_URI: Final = f"{RESULTS_URI}manifest.jsonl"

FUNCTION_SECONDS: Final = 60.0
COMPACT_SECONDS: Final = 5.0
"""Seconds without arrivals after which labels are merged into the manifest."""


@dataclass(frozen=True, slots=True)
class Context:
    """What Lambda tells a function about its call, as far as the handler asks."""

    function_name: str = "sandbox"
    memory_limit_in_mb: int = 1769
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:sandbox"
    aws_request_id: str = field(default_factory=lambda: str(uuid4()))
    _ends: float = field(default_factory=lambda: time.monotonic() + FUNCTION_SECONDS)

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until the function would be stopped."""
        return max(0, int((self._ends - time.monotonic()) * 1000))


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox."""

    endpoint: str
    queue_url: str
    sqs: Any
    app: Any
    """The module `handler.app`."""
    seen: set[str] = field(default_factory=set)
    """Parts whose rows were shown."""

    def upload(self, path: str, key: str) -> None:
        """Put a file into the input bucket, as any S3 client would."""
        storage.client().upload_file(path, INPUT_BUCKET, key)

    def step(self, wait_seconds: int = 1) -> Iterator[Row]:
        """Call the function with the waiting messages, and yield the rows it has written.

        A message is deleted only when the function did not report it, as the event source mapping
        does.
        """
        answer = self.sqs.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=wait_seconds,
            AttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        if not messages:
            return
        event = {
            "Records": [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": message.get("Attributes", {}),
                    "eventSource": "aws:sqs",
                    "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{QUEUE}",
                }
                for message in messages
            ]
        }
        report = self.app.label(event, Context())
        failed = {item["itemIdentifier"] for item in report["batchItemFailures"]}
        for message in messages:
            if message["MessageId"] not in failed:
                receipt = message["ReceiptHandle"]
                self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=receipt)
        yield from self._new_rows()

    def _new_rows(self) -> Iterator[Row]:
        for part in storage.list_objects(f"{RESULTS_URI}parts/"):
            if part.source_ref not in self.seen:
                self.seen.add(part.source_ref)
                for line in storage.read(part.source_ref, 2**24).splitlines():
                    yield Row.from_line(line)

    def compact(self) -> None:
        """Merge what was written into the manifest."""
        self.app.compact({}, Context())
        self.seen.clear()

    def run(self, show: Callable[[Row], None], *, until_idle: bool) -> None:
        """Label what arrives until interrupted, or until nothing more is waiting."""
        merge_at = math.inf
        while True:
            is_idle = True
            for row in self.step():
                show(row)
                is_idle, merge_at = False, time.monotonic() + COMPACT_SECONDS
            if is_idle and (until_idle or time.monotonic() > merge_at):
                self.compact()
                merge_at = math.inf
                if until_idle:
                    return


@contextmanager
def start(model: str = "") -> Iterator[Sandbox]:
    """Start the sandbox on a free port of 127.0.0.1.

    Leaving the context stops it and deletes its content. Meanwhile the AWS variables of this
    process let nothing in it reach a real account. Raises `BundleError`.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    server = ThreadedMotoServer(HOST, 0, verbose=False)
    server.start()
    endpoint = f"http://{HOST}:{server.get_host_and_port()[1]}"
    before = dict(os.environ)
    try:
        os.environ.update(
            AWS_ENDPOINT_URL=endpoint,
            AWS_ACCESS_KEY_ID="sandbox",
            AWS_SECRET_ACCESS_KEY="sandbox",  # noqa: S106 - moto takes any
            AWS_DEFAULT_REGION="us-east-1",
            INPUT_URI=f"s3://{INPUT_BUCKET}/",
            RESULTS_URI=RESULTS_URI,
            MODEL_URI=model,
            COMPACT_AFTER_SECONDS="0",  # nobody waits a day for a table that costs nothing
            POWERTOOLS_SERVICE_NAME="sandbox",
            POWERTOOLS_METRICS_NAMESPACE="AlpacaLabeler",
            POWERTOOLS_METRICS_DISABLED="true",
            LOG_LEVEL="WARNING",
        )
        os.environ.pop("AWS_PROFILE", None)
        if model:
            bundle.load(bundle.resolve(model))
        yield _wire(endpoint)
    finally:
        # moto keeps what it holds for the life of the process, whatever server it came through.
        urlopen(Request(f"{endpoint}/moto-api/reset", method="POST")).close()  # noqa: S310
        server.stop()
        os.environ.clear()
        os.environ.update(before)


def _wire(endpoint: str) -> Sandbox:
    import boto3

    from alpaca_labeler.handler import app  # reads the environment that was just set

    s3, sqs = storage.client(), boto3.client("sqs")
    for bucket in (INPUT_BUCKET, RESULTS_BUCKET):
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    queue_url = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
    os.environ["QUEUE_URL"] = queue_url
    arn = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    s3.put_bucket_notification_configuration(
        Bucket=INPUT_BUCKET,
        NotificationConfiguration={
            "QueueConfigurations": [
                {"QueueArn": arn["Attributes"]["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
            ]
        },
    )
    return Sandbox(endpoint, queue_url, sqs, app)

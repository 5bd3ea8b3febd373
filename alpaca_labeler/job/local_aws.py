"""The job on one machine: moto's S3 and SQS on the loopback, the real handler between them.

Buckets, queue and notification are wired as in template.yaml. Only the Lambda service itself is
simulated: a loop receives messages and calls the handler, as the event source mapping would.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from types import SimpleNamespace
from typing import Any, Final
from urllib.request import Request, urlopen

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.exceptions import Forbidden
from werkzeug.serving import make_server

from alpaca_labeler import storage
from alpaca_labeler.model import bundle
from alpaca_labeler.table.row import Row

INPUT_BUCKET: Final = "photos"
RESULTS_BUCKET: Final = "results"
RESULTS_URI: Final = f"s3://{RESULTS_BUCKET}/labels/"
MANIFEST_URI: Final = f"{RESULTS_URI}manifest.jsonl"

CONTEXT: Final = SimpleNamespace(
    function_name="sandbox",
    memory_limit_in_mb=1769,
    invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:sandbox",
    aws_request_id="sandbox",
    get_remaining_time_in_millis=lambda: 60_000,
)
"""What Lambda tells a function about its call, as far as the handler asks."""


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

    def run(self, show: Callable[[Row], None], *, until_idle: bool) -> None:
        """Label what arrives until interrupted, or until nothing more is waiting.

        Labels are merged into the manifest whenever nothing is waiting.
        """
        while True:
            messages = self.sqs.receive_message(
                QueueUrl=self.queue_url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
                AttributeNames=["All"],
            ).get("Messages")
            if messages:
                self._call(messages)
                for row in self._new_rows():
                    show(row)
                continue
            if self.seen or until_idle:
                self.app.compact({}, CONTEXT)
                self.seen.clear()
            if until_idle:
                return

    def _call(self, messages: list[dict[str, Any]]) -> None:
        """Call the function as the event source mapping does, and delete what it did not report."""
        names = ("messageId", "MessageId"), ("receiptHandle", "ReceiptHandle"), ("body", "Body")
        records = [
            {"attributes": message["Attributes"], **{ours: message[sqs] for ours, sqs in names}}
            for message in messages
        ]
        report = self.app.label({"Records": records}, CONTEXT)
        failed = {item["itemIdentifier"] for item in report["batchItemFailures"]}
        for message in messages:
            if message["MessageId"] not in failed:
                receipt = message["ReceiptHandle"]
                self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=receipt)

    def _new_rows(self) -> Iterator[Row]:
        for part in storage.list_objects(f"{RESULTS_URI}parts/"):
            if part.source_ref not in self.seen:
                self.seen.add(part.source_ref)
                for line in storage.read(part.source_ref, 2**24).splitlines():
                    yield Row.from_line(line)


@contextmanager
def start(model: str = "") -> Iterator[Sandbox]:
    """Start the sandbox on a free port of 127.0.0.1.

    Leaving the context stops it and deletes its content. Meanwhile the AWS variables of this
    process let nothing in it reach a real account. Raises `BundleError`.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    server = make_server("127.0.0.1", 0, _web(), threaded=True, request_handler=MotoRequestHandler)
    Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
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
        server.shutdown()
        os.environ.clear()
        os.environ.update(before)


def _web() -> Callable[..., Any]:
    """Return moto as a WSGI application that refuses requests from web pages."""
    moto = DomainDispatcherApplication(create_backend_app)

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        from_page = environ.keys() & {"HTTP_ORIGIN", "HTTP_SEC_FETCH_SITE"}
        return (Forbidden() if from_page else moto)(environ, start_response)

    return answer


def _wire(endpoint: str) -> Sandbox:
    import boto3

    from alpaca_labeler.handler import app  # reads the environment that was just set

    s3, sqs = storage.client(), boto3.client("sqs")
    for bucket in (INPUT_BUCKET, RESULTS_BUCKET):
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    queue_url = sqs.create_queue(QueueName="photos-to-label")["QueueUrl"]
    os.environ["QUEUE_URL"] = queue_url
    about = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]
    told = {"QueueArn": about["QueueArn"], "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=INPUT_BUCKET, NotificationConfiguration={"QueueConfigurations": [told]}
    )
    return Sandbox(endpoint, queue_url, sqs, app)

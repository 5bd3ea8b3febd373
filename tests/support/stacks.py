"""A stack's resources and outputs on moto's server, for the commands that read them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
from moto.server import ThreadedMotoServer

MACHINE = Path(__file__).parents[2] / "infra/backfill.asl.json"
NAME = "farm"


@contextmanager
def server():
    """Run moto's server; yield its URL."""
    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    _, port = running.get_host_and_port()
    url = f"http://127.0.0.1:{port}"
    try:
        yield url
    finally:
        urlopen(Request(f"{url}/moto-api/reset", method="POST")).close()
        running.stop()


@dataclass
class Stack:
    """What a deployed stack has, by the names of its outputs, and clients to look at it."""

    outputs: dict[str, str]
    s3: Any
    sqs: Any
    steps: Any

    def waiting(self):
        """Return the bodies that wait in the queue."""
        found = self.sqs.receive_message(
            QueueUrl=self.outputs["QueueUrl"], MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [message["Body"] for message in found.get("Messages", ())]


def deploy(prefix=""):
    """Make buckets, queues, state machine and a stack with template.yaml's outputs."""
    s3, sqs, steps = (boto3.client(name) for name in ("s3", "sqs", "stepfunctions"))
    for bucket in ("photos", "results"):
        s3.create_bucket(Bucket=bucket)
    for name in ("label", "compact"):
        boto3.client("logs").create_log_group(logGroupName=f"/{NAME}/{name}")
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]
    policy = {"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": "1"}
    queue = sqs.create_queue(QueueName="q", Attributes={"RedrivePolicy": json.dumps(policy)})
    definition = MACHINE.read_text(encoding="utf-8")
    for name, value in {
        "Partition": "aws",
        "InputBucket": "photos",
        "InputPrefix": prefix,
        "ResultsBucket": "results",
        "LabelFunction": "arn:aws:lambda:us-east-1:123456789012:function:label",
    }.items():
        definition = definition.replace(f"${{{name}}}", value)
    machine = steps.create_state_machine(
        name="backfill", definition=definition, roleArn="arn:aws:iam::123456789012:role/r"
    )
    outputs = {
        "InputUri": f"s3://photos/{prefix}",
        "ResultsUri": "s3://results/labels/",
        "QueueUrl": queue["QueueUrl"],
        "DeadLetterQueueUrl": dead,
        "BackfillArn": machine["stateMachineArn"],
        "CompactFunctionName": "compact",
        "DashboardUrl": "https://console/",
    }
    template = {
        "Resources": {"Anything": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }
    boto3.client("cloudformation").create_stack(StackName=NAME, TemplateBody=json.dumps(template))
    return Stack(outputs, s3, sqs, steps)

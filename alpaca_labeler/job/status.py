"""`alpaca status`: the state of a deployed job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import click

from alpaca_labeler import storage
from alpaca_labeler.console import printable
from alpaca_labeler.console.stack import Outputs, client, describe
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.model import bundle
from alpaca_labeler.table import bucket


@click.command()
@click.argument("stack", metavar="STACK")
def status(*, stack: str) -> None:
    """Say how a deployed job is doing.

    \b
        alpaca status alpaca
    """
    described = describe(stack)
    known = Outputs(described)
    click.echo(f"{'stack':<14}{stack}, {described['StackStatus']}")
    for name, value in _facts(described, known):
        click.echo(f"{name:<14}{printable(value)}")


def _facts(described: dict[str, Any], known: Outputs) -> Iterator[tuple[str, str]]:
    yield "photos", known["InputUri"]
    yield "labels", known["ResultsUri"]
    sqs = client("sqs")
    waiting, working = _messages(sqs, known["QueueUrl"])
    yield "queue", f"{waiting:,} waiting, {working:,} in work"
    dead = sum(_messages(sqs, known["DeadLetterQueueUrl"]))
    yield "dead letters", f"{dead:,}"
    yield "parts", _parts(known["ResultsUri"])
    yield "model", _model(described)
    runs = client("stepfunctions").list_executions(
        stateMachineArn=known["BackfillArn"], statusFilter="RUNNING"
    )["executions"]
    yield "backfills", ", ".join(run["name"] for run in runs) or "none running"
    alarms = list(_alarms(described["StackName"]))
    yield "alarms", f"{len(alarms)} in alarm" if alarms else "none in alarm"
    for alarm in alarms:
        yield "", f"{alarm['AlarmName']}: {alarm.get('AlarmDescription', '')}"
    yield "dashboard", known["DashboardUrl"]


def _messages(sqs: Any, url: str) -> tuple[int, int]:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return int(found[names[0]]), int(found[names[1]])


def _parts(results: str) -> str:
    manifest = next(storage.list_objects(results + bucket.MANIFEST), None)
    merged = f"the last merge of {manifest.last_modified}" if manifest else "no merge yet"
    return f"{bucket.waiting(results):,} to be merged, {merged}"


def _model(described: dict[str, Any]) -> str:
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in described.get("Parameters", ())}
    uri = parameters.get("ModelUri")
    if not uri:
        return "the one in the package"
    try:
        return bundle.resolve(uri)
    except LabelerError as error:
        return f"{uri} cannot be followed: {error}"


def _alarms(stack: str) -> Iterator[dict[str, Any]]:
    # As CloudFormation names them; farm-2 is another stack than farm.
    ours = re.compile(rf"{re.escape(stack)}-[A-Za-z]+Alarm-\w+")
    pages = client("cloudwatch").get_paginator("describe_alarms")
    for page in pages.paginate(AlarmNamePrefix=f"{stack}-", StateValue="ALARM"):
        for alarm in page["MetricAlarms"]:
            if alarm["StateValue"] == "ALARM" and ours.fullmatch(alarm["AlarmName"]):
                yield alarm

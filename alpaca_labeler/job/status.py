"""`alpaca status`: how a deployed job is doing, and what its alarms are about."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import click

from alpaca_labeler import storage
from alpaca_labeler.console import printable
from alpaca_labeler.console.stack import Outputs, client, describe
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.model import bundle
from alpaca_labeler.table import bucket

PERIOD: Final = 86_400
"""How far back, in seconds, errors and runs are looked for."""

LAST_ERROR: Final = r"""
filter @message like /\[ERROR\]|"level":"ERROR"|Task timed out|Runtime exited|signal: killed/
| fields @timestamp, @message | sort @timestamp desc | limit 1"""
"""For CloudWatch Logs Insights: raised by the code, logged by it, or said of it by Lambda."""


@click.command()
@click.argument("stack", metavar="STACK")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
def status(*, stack: str, as_json: bool) -> None:
    """Say how a deployed job is doing.

    \b
        alpaca status alpaca
        alpaca status alpaca --json | jq .alarms
    """
    found = _facts(describe(stack))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for name, value in found.items():
        for number, each in enumerate((value or [None]) if isinstance(value, list) else [value]):
            click.echo(f"{'' if number else name:<14}{printable(_words(each))}")


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items())
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else str(value)


def _facts(described: dict[str, Any]) -> dict[str, Any]:
    stack, known = described["StackName"], Outputs(described)
    queue, results = known["QueueUrl"], known["ResultsUri"]
    waiting, working = _messages(queue)
    _, oldest = _latest("SQS", "ApproximateAgeOfOldestMessage", "QueueName", queue.split("/")[-1])
    ran, _ = _latest("Lambda", "Invocations", "FunctionName", known["CompactFunctionName"])
    manifest = next(storage.list_objects(results + bucket.MANIFEST), None)
    runs = client("stepfunctions").list_executions(
        stateMachineArn=known["BackfillArn"], statusFilter="RUNNING"
    )["executions"]
    alarms = sorted(_alarms(stack))
    return {
        "stack": stack,
        "state": described["StackStatus"],
        "photos": known["InputUri"],
        "labels": results,
        "queue": {
            "waiting": waiting,
            "in-work": working,
            "oldest-seconds": oldest if waiting + working else None,
        },
        "dead-letters": sum(_messages(known["DeadLetterQueueUrl"])),
        "parts": {
            "waiting": bucket.waiting(results),
            "last-merge": manifest.last_modified if manifest else None,
        },
        "compaction": {"last-run": ran, "schedule": _schedule(f"{stack}-compact")},
        "model": _model(described),
        "label-error": _last_error(f"/{stack}/label"),
        "compact-error": _last_error(f"/{stack}/compact"),
        "backfills": [run["name"] for run in runs],
        "alarms": Counter(state for state, _ in alarms) or None,
        "not-ok": [f"{state} {about}" for state, about in alarms if state != "OK"],
        "dashboard": known["DashboardUrl"],
    }


def _messages(url: str) -> tuple[int, int]:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return int(answer["Attributes"][names[0]]), int(answer["Attributes"][names[1]])


def _latest(service: str, metric: str, name: str, value: str) -> tuple[str | None, int | None]:
    """Return (moment, value) of a metric's last datapoint, of which `PERIOD` may have none."""
    now = int(time.time())
    points = client("cloudwatch").get_metric_statistics(
        Namespace=f"AWS/{service}",
        MetricName=metric,
        Dimensions=[{"Name": name, "Value": value}],
        StartTime=now - PERIOD,
        EndTime=now,
        Period=300,
        Statistics=["Maximum"],
    )["Datapoints"]
    last = max(points, key=lambda point: point["Timestamp"], default=None)
    return (f"{last['Timestamp']:%Y-%m-%dT%H:%MZ}", int(last["Maximum"])) if last else (None, None)


def _schedule(name: str) -> str | None:
    scheduler = client("scheduler")
    try:
        found = scheduler.get_schedule(Name=name)
    except scheduler.exceptions.ResourceNotFoundException:
        return None
    return f"{found['ScheduleExpression']} {found['State']}"


def _model(described: dict[str, Any]) -> str:
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in described.get("Parameters", ())}
    uri = parameters.get("ModelUri")
    if not uri:
        return "the one in the package"
    try:  # reads all of it, as the function does
        return f"{bundle.load(uri).card.version} of {uri}"
    except LabelerError as error:
        return f"cannot be used: {error}"


def _last_error(group: str) -> str | None:
    logs, now = client("logs"), int(time.time())
    query = logs.start_query(
        logGroupName=group, queryString=LAST_ERROR, startTime=now - PERIOD, endTime=now + 1
    )["queryId"]
    for _ in range(30):  # seconds; one or two are usual
        found = logs.get_query_results(queryId=query)
        if found["status"] == "Complete":
            return _sentence(found["results"][0]) if found["results"] else None
        if found["status"] not in {"Scheduled", "Running"}:
            break
        time.sleep(1)
    return f"not known: the query of {group} is {found['status']}"


def _sentence(row: list[dict[str, str]]) -> str:
    """Return time and message of a line of the log, which is JSON if the function wrote it."""
    facts = {fact["field"]: fact["value"] for fact in row}
    line = facts["@message"]
    try:
        said = json.loads(line)
        line = ": ".join(filter(None, (said["message"], said.get("problem"))))
    except (ValueError, KeyError, TypeError):
        line = line.strip().partition("\n")[0]
    return f"{facts['@timestamp']} {line}"


def _alarms(stack: str) -> Iterator[tuple[str, str]]:
    """Yield (state, name and description) of each alarm."""
    # As CloudFormation names them; farm-2 is another stack than farm.
    ours = re.compile(rf"{re.escape(stack)}-[A-Za-z]+Alarm-\w+")
    pages = client("cloudwatch").get_paginator("describe_alarms")
    for page in pages.paginate(AlarmNamePrefix=f"{stack}-", AlarmTypes=["MetricAlarm"]):
        for found in page["MetricAlarms"]:
            if ours.fullmatch(found["AlarmName"]):
                about = found.get("AlarmDescription", "")
                yield found["StateValue"], f"{found['AlarmName']}: {about}"

"""`alpaca backfill`: label what is in a bucket already, and watch or stop such runs."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import click

from alpaca_labeler.console import dry_run_option, printable, say
from alpaca_labeler.console.arguments import BUCKET
from alpaca_labeler.console.stack import StackError, client, from_stack
from alpaca_labeler.handler import storage
from alpaca_labeler.job.operate import hand_over, objects, queue_option

RUNS_SHOWN: Final = 10


@click.command()
@click.argument("input_uri", metavar="[INPUT]", required=False, type=BUCKET)
@queue_option
@click.option("--state-machine", metavar="ARN", help="The job's Distributed Map.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Batches labelled at a time.  [default: the stack's]",
)
@click.option("--list", "show", is_flag=True, help="Show the latest runs instead.")
@click.option("--stop", metavar="RUN", help="Stop this run instead; what it labelled stays.")
@from_stack(state_machine=("--state-machine", "BackfillArn"))
@dry_run_option
def backfill(
    *,
    input_uri: str | None,
    queue: str | None,
    state_machine: str | None,
    concurrency: int | None,
    show: bool,
    stop: str | None,
    dry_run: bool,
) -> None:
    """Label what is in a bucket already.

    \b
        alpaca backfill --stack alpaca
        alpaca backfill --stack alpaca s3://photos/farm/ --concurrency 200
        alpaca backfill --stack alpaca --list
        alpaca backfill s3://photos/farm/ --queue URL

    Step Functions labels up to 10,000 batches at a time; the queue goes at the pace of new uploads.
    """
    if queue is not None:
        if state_machine is not None or input_uri is None or show or stop or concurrency:
            raise click.UsageError("--queue URL goes with INPUT alone")
        total = hand_over(objects(input_uri), None if dry_run else queue)
        say(f"{'would queue' if dry_run else 'queued'} {total:,}")
        return
    if state_machine is None:
        raise click.UsageError("give --stack NAME, --state-machine ARN or --queue URL")
    if show:
        _show_runs(state_machine)
    elif stop is not None:
        run = stop if stop.startswith("arn:") else _run_arn(state_machine, stop)
        if not dry_run:
            client("stepfunctions").stop_execution(executionArn=run)
        say(f"{'would stop' if dry_run else 'stopped'} {printable(run)}")
    else:
        _start(state_machine, input_uri, concurrency, dry_run=dry_run)


def _start(machine: str, input_uri: str | None, concurrency: int | None, *, dry_run: bool) -> None:
    steps = client("stepfunctions")
    definition = steps.describe_state_machine(stateMachineArn=machine)["definition"]
    allowed = _input_of(json.loads(definition))
    given = input_uri or allowed
    if not given.startswith(allowed):
        raise StackError(
            f"{given}: this job works on {allowed} alone; give a prefix of that, or deploy another "
            "stack with ExistingInputBucket"
        )
    request: dict[str, Any] = {"prefix": storage.split_s3(given)[1]}
    if concurrency is not None:
        request["concurrency"] = concurrency
    text = json.dumps(request)
    if dry_run:
        say(f"would start {machine} with {text}")
        return
    answer = steps.start_execution(stateMachineArn=machine, input=text)
    click.echo(answer["executionArn"])


def _input_of(definition: dict[str, Any]) -> str:
    """Return the URI that a state machine's photos lie below (infra/backfill.asl.json)."""
    try:
        [state] = definition["States"].values()
        reader = state["ItemReader"]["Arguments"]
        [prefix] = re.findall(r"'([^']*)' %}$", reader["Prefix"])
        return f"{storage.S3_SCHEME}{reader['Bucket']}/{prefix}"
    except (KeyError, TypeError, ValueError) as error:
        raise StackError("this is not the state machine of a backfill") from error


def _run_arn(machine: str, name: str) -> str:
    return f"{machine.replace(':stateMachine:', ':execution:')}:{name}"


def _show_runs(machine: str) -> None:
    steps = client("stepfunctions")
    for run in steps.list_executions(stateMachineArn=machine, maxResults=RUNS_SHOWN)["executions"]:
        line = f"{run['status']:<9}  {run['startDate']:%Y-%m-%d %H:%M}  {run['name']}"
        for found in steps.list_map_runs(executionArn=run["executionArn"]).get("mapRuns", ()):
            items = steps.describe_map_run(mapRunArn=found["mapRunArn"])["itemCounts"]
            line += f"  {items['succeeded']:,} of {items['total']:,} photos"
            line += f", {items['failed']:,} failed" * bool(items["failed"])
        click.echo(line)

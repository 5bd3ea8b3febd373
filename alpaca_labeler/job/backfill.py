"""`alpaca backfill`: label what is in a bucket already, and watch such runs."""

from __future__ import annotations

import json

import click

from alpaca_labeler import storage
from alpaca_labeler.console import dry_run_option, printable, say
from alpaca_labeler.console.arguments import BUCKET
from alpaca_labeler.console.stack import Outputs, StackError, client, describe


@click.command()
@click.argument("input_uri", metavar="[INPUT]", required=False, type=BUCKET)
@click.option("--stack", metavar="NAME", required=True, help="The job's stack.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    metavar="N",
    help="Batches labelled at a time.",
)
@click.option("--list", "show", is_flag=True, help="Show the latest runs instead.")
@dry_run_option
def backfill(
    *, input_uri: str | None, stack: str, concurrency: int, show: bool, dry_run: bool
) -> None:
    """Label what is in a bucket already.

    \b
        alpaca backfill --stack alpaca
        alpaca backfill --stack alpaca s3://photos/farm/ --concurrency 200
        alpaca backfill --stack alpaca --list

    Step Functions labels up to 10,000 batches at a time, beside the queue of new uploads.
    """
    outputs = Outputs(describe(stack))
    machine = outputs["BackfillArn"]
    if show:
        _show_runs(machine)
        return
    allowed = outputs["InputUri"]
    given = input_uri or allowed
    if not given.startswith(allowed):
        raise StackError(
            f"{given}: this job works on {allowed} alone; give a prefix of that, or deploy another "
            "stack with ExistingInputBucket"
        )
    request = {"prefix": storage.split_s3(given)[1], "concurrency": concurrency}
    if dry_run:
        say(f"would start {machine} with {json.dumps(request)}")
        return
    answer = client("stepfunctions").start_execution(
        stateMachineArn=machine, input=json.dumps(request)
    )
    click.echo(answer["executionArn"])


def _show_runs(machine: str) -> None:
    steps = client("stepfunctions")
    for run in steps.list_executions(stateMachineArn=machine, maxResults=10)["executions"]:
        arn = run["executionArn"]
        line = f"{run['status']:<9}  {run['startDate']:%Y-%m-%d %H:%M}  {arn}"
        for found in steps.list_map_runs(executionArn=arn).get("mapRuns", ()):
            items = steps.describe_map_run(mapRunArn=found["mapRunArn"])["itemCounts"]
            line += f"  {items['succeeded']:,} of {items['total']:,} photos"
            line += f", {items['failed']:,} failed" * bool(items["failed"])
        if run["status"] == "FAILED":
            cause = steps.describe_execution(executionArn=arn).get("cause", "no cause given")
            line += f"  {printable(cause)}"
        click.echo(line)

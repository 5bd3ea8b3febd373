"""`alpaca models`: publish bundles to object storage and choose the one in use.

Only the command line is here: the work is in `training.registry`.
"""

from __future__ import annotations

import json

import click

from alpaca_labeler.console import say
from alpaca_labeler.console.arguments import BUCKET, BUNDLE
from alpaca_labeler.console.help import Group


@click.group(cls=Group, name="models")
def models() -> None:
    """Publish models and choose the one in use.

    \b
    alpaca models publish runs/today s3://bucket/models/alpaca
    alpaca models list s3://bucket/models/alpaca
    alpaca models promote s3://bucket/models/alpaca 20260131T120000Z-0a1b2c3d4e5f
    """


@models.command(name="publish")
@click.argument("bundle", type=BUNDLE)
@click.argument("uri", type=BUCKET)
@click.option("--no-promote", is_flag=True, help="Upload only: latest.json stays as it is.")
def publish_command(bundle: str, uri: str, *, no_promote: bool) -> None:
    """Upload a bundle, and use it if it is the newest.

    \b
    alpaca models publish runs/today s3://bucket/models/alpaca
    alpaca models publish runs/today s3://bucket/models/alpaca --no-promote

    It goes to URI/<version>/, and URI/latest.json names the version in use.
    """
    from alpaca_labeler.training import registry

    click.echo(registry.publish(bundle, uri, promote=not no_promote, say=say))


@models.command(name="list")
@click.argument("uri", type=BUCKET)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_command(uri: str, *, as_json: bool) -> None:
    """List the versions, newest first, and mark the one in use.

    \b
    alpaca models list s3://bucket/models/alpaca
    alpaca models list s3://bucket/models/alpaca --json | jq length
    """
    from alpaca_labeler.training import registry

    found = registry.versions(uri)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        width = max(len(each["version"]) for each in found)
        click.echo(f"{'VERSION':{width}}  ACCURACY  STATE")
        for each in found:
            accuracy = "" if each["accuracy"] is None else f"{each['accuracy']:.3f}"
            state = ["current"] * each["current"] + [f"no {name}" for name in each["missing"]]
            click.echo(f"{each['version']:{width}}  {accuracy:8}  {', '.join(state)}".rstrip())
    else:
        say(f"{uri}: nothing is published there")


@models.command(name="promote")
@click.argument("uri", type=BUCKET)
@click.argument("version")
def promote_command(uri: str, version: str) -> None:
    """Use a version, newer or older than the one in use.

    \b
    alpaca models promote s3://bucket/models/alpaca 20260131T120000Z-0a1b2c3d4e5f

    Promote the version before to roll back; latest.json names it as `previous`.
    """
    from alpaca_labeler.training import registry

    registry.promote(uri, version, say=say)
    click.echo(version)

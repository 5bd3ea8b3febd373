"""`alpaca models`: publish bundles to object storage and choose the one in use.

Only the command line is here: the work is in `training.registry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from alpaca_labeler.console import say
from alpaca_labeler.console.arguments import BUCKET, BUNDLE
from alpaca_labeler.console.help import Group

if TYPE_CHECKING:
    from alpaca_labeler.training import registry


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

    published, move = registry.publish(bundle, uri, promote=not no_promote, say=say)
    _tell(move)
    click.echo(published)


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
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(version) for version in found], indent=2))
    elif found:
        width = max(len(each.version) for each in found)
        click.echo(f"{'VERSION':{width}}  ACCURACY  STATE")
        for each in found:
            accuracy = "" if each.accuracy is None else f"{each.accuracy:.3f}"
            state = ", ".join(["current"] * each.current + ([each.problem] if each.problem else []))
            click.echo(f"{each.version:{width}}  {accuracy:8}  {state}".rstrip())
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

    move = registry.promote(uri, version)
    _tell(move)
    click.echo(move.after)


def _tell(move: registry.Move) -> None:
    before = move.before or "nothing"
    if move.stays:
        say(f"{move.pointer}: stays at {before}; {move.stays}")
    else:
        say(f"{move.pointer}: moved from {before} to {move.after}")

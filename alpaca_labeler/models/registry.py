"""`alpaca models`: publish bundles to object storage and choose the one in use.

Only the command line is here: the work is in `training.registry`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import click

from alpaca_labeler.console import dry_run_option, say
from alpaca_labeler.console.arguments import BUCKET, BUNDLE, FOLDER
from alpaca_labeler.console.help import Group

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from alpaca_labeler.training import registry


@click.group(cls=Group, name="models")
def models() -> None:
    """Publish models and choose the one in use.

    \b
    alpaca models publish runs/today s3://bucket/models/alpaca
    alpaca models list s3://bucket/models/alpaca
    alpaca models rollback s3://bucket/models/alpaca
    """


@models.command(name="publish")
@click.argument("bundle", type=BUNDLE)
@click.argument("uri", type=BUCKET)
@click.option("--no-promote", is_flag=True, help="Upload only: latest.json stays as it is.")
@dry_run_option
def publish_command(bundle: str, uri: str, *, no_promote: bool, dry_run: bool) -> None:
    """Upload a bundle, and use it if it is the newest.

    \b
    alpaca models publish runs/today s3://bucket/models/alpaca
    alpaca models publish runs/today s3://bucket/models/alpaca --no-promote
    alpaca models publish runs/today s3://bucket/models/alpaca --dry-run

    It goes to URI/<version>/, and URI/latest.json names the version in use.

    To use it only if it is better: publish with --no-promote, then `alpaca models promote` with
    --require-better.
    """
    from alpaca_labeler.training import registry

    done = registry.publish(bundle, uri, promote=not no_promote, dry_run=dry_run, say=say)
    _tell(done.move, dry_run=dry_run)
    click.echo(done.uri)


@models.command(name="list")
@click.argument("uri", type=BUCKET)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_command(uri: str, *, as_json: bool) -> None:
    """List the versions, newest first, and mark the one in use.

    \b
    alpaca models list s3://bucket/models/alpaca
    alpaca models list s3://bucket/models/alpaca --json | jq '.[] | select(.current)'
    """
    from alpaca_labeler.training import registry

    found = registry.versions(uri)
    if as_json:
        import json
        from dataclasses import asdict

        click.echo(json.dumps([asdict(version) for version in found], indent=2))
    elif found:
        rows = [("VERSION", "CREATED", "ACCURACY", "STATE"), *(_row(version) for version in found)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())
    else:
        say(f"{uri}: nothing is published there")


@models.command(name="promote")
@click.argument("uri", type=BUCKET)
@click.argument("version")
@click.option(
    "--require-better",
    metavar="DATASET",
    type=FOLDER,
    help="Only if `alpaca compare` finds it better than the one in use on this folder of photos.",
)
@dry_run_option
def promote_command(uri: str, version: str, *, require_better: str | None, dry_run: bool) -> None:
    """Use a version, newer or older than the one in use.

    \b
    alpaca models promote s3://bucket/models/alpaca 20260131T120000Z-0a1b2c3d4e5f
    alpaca models promote s3://bucket/models/alpaca 20260131T120000Z-0a1b2c3d4e5f --dry-run
    alpaca models promote s3://bucket/models/alpaca 20260131T120000Z-0a1b2c3d4e5f \\
        --require-better photos/

    --require-better needs the verdict better; undecided is not enough, and photos that a model was
    trained on do not count. If no version is in use, there is nothing to compare with, so it is
    promoted.

    Exit code: 0 done or in use already, 1 refused or failed, 2 wrong usage.
    """
    approve = functools.partial(_require_better, require_better) if require_better else None
    _change(
        lambda registry: registry.promote(uri, version, approve=approve, dry_run=dry_run),
        dry_run=dry_run,
    )


def _require_better(dataset: str, current: str, candidate: str) -> None:
    """Raise unless one bundle labels a folder of photos better than another."""
    from alpaca_labeler.models import compare
    from alpaca_labeler.training.registry import PublishError

    found = compare.measure(current, candidate, dataset)
    for line in compare.describe(found):
        say(line)
    stays = f"{found.old.version} stays in use"
    if found.flattering:
        raise PublishError(
            f"{stays}: none of the {len(found.photos)} photos in {dataset} is new to both models, "
            "so nothing is proven; name photos that neither was trained on"
        )
    if found.verdict != "better":
        before, after = (side.figures["accuracy"].value for side in (found.old, found.new))
        raise PublishError(
            f"{stays}: {found.new.version} is not shown to be better (accuracy {after:.3f} against "
            f"{before:.3f} on {len(found.photos)} photos, p = {found.p_value:.3g}: "
            f"{found.verdict}). Compare on more photos, or promote without --require-better"
        )


@models.command(name="rollback")
@click.argument("uri", type=BUCKET)
@dry_run_option
def rollback_command(uri: str, *, dry_run: bool) -> None:
    """Use the version that was in use before.

    \b
    alpaca models rollback s3://bucket/models/alpaca
    alpaca models rollback s3://bucket/models/alpaca --dry-run
    """
    _change(lambda registry: registry.rollback(uri, dry_run=dry_run), dry_run=dry_run)


def _change(call: Callable[[Any], registry.Move], *, dry_run: bool) -> None:
    from alpaca_labeler.training import registry

    move = call(registry)
    _tell(move, dry_run=dry_run)
    click.echo(move.after)


def _tell(move: registry.Move, *, dry_run: bool) -> None:
    if move.moved:
        verb = "would move" if dry_run else "moved"
        say(f"{move.pointer}: {verb} from {move.before or 'nothing'} to {move.after}")
    else:
        say(f"{move.pointer}: stays at {move.before or 'nothing'}; {move.reason}")


def _row(version: registry.Version) -> tuple[str, str, str, str]:
    accuracy = ""
    if version.accuracy:
        accuracy = f"{version.accuracy.value:.3f}"
        if version.accuracy.low is not None and version.accuracy.high is not None:
            accuracy += f" ({version.accuracy.low:.3f} to {version.accuracy.high:.3f})"
    states = ["current"] * version.current + ["rolled back"] * version.withdrawn
    states += [version.problem] if version.problem else []
    return version.version, version.created or "", accuracy, ", ".join(states)

"""The argument [MANIFEST] of every command that reads one: a file, a bucket's, or a stack's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from alpaca_labeler.console.arguments import MANIFEST, NEW_MANIFEST, PHOTOS, photos_root_option
from alpaca_labeler.console.stack import from_stack
from alpaca_labeler.table.table import DEFAULT, open_table


def manifest_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command [MANIFEST] as `source`, and --stack, which fills it in."""

    @click.argument("source", metavar="[MANIFEST]", required=False, type=MANIFEST)
    @from_stack(source=("[manifest]", "ResultsUri"))
    @functools.wraps(command)
    def run(*, source: str | None, **given: Any) -> None:
        command(source=source or MANIFEST.convert(DEFAULT, None, None), **given)

    return run


def new_manifest_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the same as `table`, which need not be there yet."""

    @click.argument("source", metavar="[MANIFEST]", required=False, type=NEW_MANIFEST)
    @from_stack(source=("[manifest]", "ResultsUri"))
    @functools.wraps(command)
    def run(*, source: str | None, **given: Any) -> None:
        command(table=open_table(source or DEFAULT, missing_ok=True), **given)

    return run


def shown_manifest_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that shows photos [MANIFEST] as `table`, and say which it may show.

    With --stack, it may show those that the stack labels.
    """

    @click.argument("source", metavar="[MANIFEST]", required=False, type=MANIFEST)
    @photos_root_option
    @click.option(
        "--allow",
        "allowed",
        multiple=True,
        metavar="PLACE",
        type=PHOTOS,
        help="Also show photos from this folder or s3:// address. Those beside the manifest are "
        "shown anyway.",
    )
    @from_stack(source=("[manifest]", "ResultsUri"), labelled=("[photos]", "InputUri"))
    @functools.wraps(command)
    def run(
        *,
        source: str | None,
        photos_root: str | None,
        allowed: tuple[str, ...],
        labelled: str = "",
        **given: Any,
    ) -> None:
        manifest = source or MANIFEST.convert(DEFAULT, None, None)
        places = [place for place in (*allowed, labelled) if place]
        command(table=open_table(manifest, photos_root=photos_root, allowed=places), **given)

    return run

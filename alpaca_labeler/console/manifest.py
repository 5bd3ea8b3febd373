"""The argument [MANIFEST] of every command that reads one: a file, a bucket's, or a stack's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from alpaca_labeler.console import Refused, printable, settings
from alpaca_labeler.console.arguments import MANIFEST, PHOTOS, max_bytes_option, photos_root_option
from alpaca_labeler.console.stack import from_stack
from alpaca_labeler.table.table import DEFAULT, TableError, open_table

_argument = click.argument(
    "source",
    metavar="[MANIFEST]",
    required=False,
    type=MANIFEST,
    is_eager=True,
    callback=settings.beside,
)

_allow_option = click.option(
    "--allow",
    "allowed",
    multiple=True,
    metavar="PLACE",
    type=PHOTOS,
    help="Also show photos from this folder or s3:// address. Those beside the manifest are shown "
    "anyway.",
)


def manifest_argument(
    *, missing_ok: bool = False, shown: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command [MANIFEST] as `table`, and --stack, which fills it in.

    It need not be there yet if `missing_ok`. A command by which photos are `shown` has options that
    say which it may show; with --stack, also those that the stack labels.
    """
    labelled = {"labelled": ("[photos]", "InputUri")} if shown else {}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @from_stack(source=("[manifest]", "ResultsUri"), **labelled)
        @functools.wraps(command)
        def run(
            *,
            source: str | None,
            photos_root: str | None = None,
            allowed: tuple[str, ...] = (),
            labelled: str | None = None,
            **given: Any,
        ) -> None:
            allowed += (labelled,) if labelled else ()
            try:
                table = open_table(
                    source or DEFAULT,
                    photos_root=photos_root,
                    allowed=allowed,
                    missing_ok=missing_ok,
                )
            except TableError as error:  # a wrong use of the command
                raise Refused(printable(str(error))) from error
            command(table=table, **given)

        return _argument(photos_root_option(_allow_option(max_bytes_option(run))) if shown else run)

    return decorate


shown_manifest_argument = manifest_argument(shown=True)

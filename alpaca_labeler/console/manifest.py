"""The argument [MANIFEST] of every command that reads one: a file, a bucket's, or a stack's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from alpaca_labeler.console import Refused, printable, settings
from alpaca_labeler.console.arguments import FOLDER, MANIFEST, PHOTOS
from alpaca_labeler.console.stack import from_stack
from alpaca_labeler.table.table import DEFAULT, Table, TableError, open_table

_argument = click.argument(
    "source",
    metavar="[MANIFEST]",
    required=False,
    type=MANIFEST,
    is_eager=True,
    callback=settings.beside,
)


def manifest_argument(
    *, missing_ok: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command [MANIFEST] as `table`, and --stack, which fills it in.

    It need not be there yet if `missing_ok`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @_argument
        @from_stack(source=("[manifest]", "ResultsUri"))
        @functools.wraps(command)
        def run(*, source: str | None, **given: Any) -> None:
            command(table=_opened(source, missing_ok=missing_ok), **given)

        return run

    return decorate


def shown_manifest_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that shows photos [MANIFEST] as `table`, and say which it may show.

    With --stack, it may show those that the stack labels.
    """

    @_argument
    @click.option(
        "--photos-root",
        metavar="FOLDER",
        type=FOLDER,
        help="Folder that relative names start from.  [default: the manifest's folder]",
    )
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
        labelled: str | None = None,
        **given: Any,
    ) -> None:
        places = [*allowed, labelled] if labelled else allowed
        command(table=_opened(source, photos_root=photos_root, allowed=places), **given)

    return run


def _opened(source: str | None, **how: Any) -> Table:
    """Open a table; one that is not there is a wrong use of the command."""
    try:
        return open_table(source or DEFAULT, **how)
    except TableError as error:
        raise Refused(printable(str(error))) from error

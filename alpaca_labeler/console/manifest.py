"""The argument [MANIFEST] of every command that reads one: a file, a bucket's, or a stack's."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from alpaca_labeler.console.arguments import MANIFEST
from alpaca_labeler.console.stack import from_stack
from alpaca_labeler.table.table import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable


def manifest_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command [MANIFEST] as `source`, and --stack, which fills it in."""

    @click.argument("source", metavar="[MANIFEST]", required=False, type=MANIFEST)
    @from_stack(source=("[manifest]", "ResultsUri"))
    @functools.wraps(command)
    def run(*, source: str | None, **given: Any) -> None:
        command(source=source or MANIFEST.convert(DEFAULT, None, None), **given)

    return run

"""What commands are given: photos, manifests, bundles, labels. Checked and completed alike."""

from __future__ import annotations

import os
import shlex
from glob import escape, glob
from typing import Any, Final

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
)

from alpaca_labeler.console import Refused, printable
from alpaca_labeler.handler import storage


class Place(click.ParamType[str]):
    """A file or folder on this machine, or an address in S3 however people write it."""

    name = "path"

    def __init__(self, *, missing: str = "", in_s3: bool | None = None) -> None:
        """`missing` is said of a path that does not exist; if empty, it need not exist.

        `in_s3` allows addresses in S3 alone, or paths alone; None allows both.
        """
        self._missing, self._in_s3 = missing, in_s3

    def convert(
        self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None
    ) -> str:
        """Return a path or an `s3://` URI. Raises `Refused`."""
        try:
            place = storage.as_uri(value)
        except storage.StorageError as error:
            raise Refused(printable(str(error))) from error
        wrong = ""
        if storage.is_s3(place):
            wrong = "give a file or folder on this machine" if self._in_s3 is False else ""
        elif self._in_s3:
            wrong = "give an address in S3, as s3://bucket/prefix/"
        elif not os.path.lexists(place):
            wrong = self._missing
        if wrong:
            raise Refused(printable(f"{place}: {wrong}"))
        return place

    def shell_complete(
        self, _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete paths; buckets are not asked."""
        return [] if self._in_s3 else [CompletionItem(incomplete, type="file")]


class Bundle(Place):
    """A model bundle: `embedded`, a folder, or an address in S3."""

    name = "bundle"

    def shell_complete(
        self, _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete `embedded`, what `alpaca train` has made, and other folders."""
        found = glob(f"{escape(incomplete)}*/") + glob("runs/*/")
        names = ["embedded", *dict.fromkeys(path.removesuffix("/") for path in sorted(found))]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


PHOTOS: Final = Place(missing="there is no such file or folder")
MANIFEST: Final = Place(missing="there is no such manifest; run `alpaca label FOLDER` first")
BUCKET: Final = Place(in_s3=True)
BUNDLE: Final = Bundle()


@add_completion_class
class _Bash(BashComplete):
    """click's own, which splits names at their blanks."""

    def format_completion(self, item: CompletionItem) -> str:
        value = shlex.quote(item.value) if item.type == "plain" else item.value
        return f"{item.type},{value}"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands on Tab.

    \b
    alpaca completion bash >> ~/.bashrc
    alpaca completion zsh >> ~/.zshrc
    alpaca completion fish > ~/.config/fish/completions/alpaca.fish

    It completes commands, options, paths, model bundles, and the labels of a manifest.
    """
    root = ctx.find_root()
    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(root.command, {}, "alpaca", "_ALPACA_COMPLETE").source())

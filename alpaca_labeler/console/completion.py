"""`alpaca completion`: the script that makes a shell ask `alpaca` what may come next."""

from __future__ import annotations

import shlex

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
)


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

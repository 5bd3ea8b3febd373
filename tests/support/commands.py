"""Every command there is, found in the group itself, so that a new one is tested by itself."""

from __future__ import annotations

import click

from alpaca_labeler.main import main


def commands():
    """Yield (words, command) of each command and group, `alpaca` itself first: ((), main)."""
    yield from _below((), main)


def leaves():
    """Yield (words, command) of each command that is not a group."""
    return (found for found in commands() if not isinstance(found[1], click.Group))


def _below(words, command):
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _below((*words, name), command.get_command(context, name))

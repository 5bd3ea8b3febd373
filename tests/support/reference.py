"""Every command there is, and docs/commands.md from their own help.

`python -m tests.support.reference` writes the page.
"""

from __future__ import annotations

from pathlib import Path

import click

from alpaca_labeler.main import main

PAGE = Path(__file__).parents[2] / "docs/commands.md"

HEAD = """\
# Commands

What `alpaca COMMAND -h` prints. Do not edit it:
`python -m tests.support.reference` writes it.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""


def commands(words=(), command=main):
    """Yield (words, command) of each command and group, `alpaca` itself first: ((), main)."""
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands((*words, name), command.get_command(context, name))


def leaves():
    """Yield (words, command) of each command that is not a group."""
    return (found for found in commands() if not isinstance(found[1], click.Group))


def reference():
    """Return the page: every command's help as a terminal of 80 columns shows it."""
    parts = [HEAD]
    for words, command in commands():
        name = " ".join(("alpaca", *words))
        context = click.Context(
            command, info_name=name, terminal_width=78, help_option_names=["-h", "--help"]
        )
        text = command.get_help(context)
        level = "#" * min(len(words) + 2, 3)
        parts.append(f"{level} {name}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")

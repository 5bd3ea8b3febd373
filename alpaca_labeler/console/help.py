"""Help that fits its terminal, and groups of commands that list their commands whole."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EXAMPLE_INDENT: Final = "  "
_NUMBER: Final = re.compile(r"\b(INTEGER|FLOAT)( RANGE)?$")


class Formatter(click.HelpFormatter):
    """Lays help out for 50 columns and more: nothing is cut off, a long example is continued."""

    def write_heading(self, heading: str) -> None:
        """Write a heading, bold where it is shown on a terminal."""
        super().write_heading(click.style(heading, bold=True))

    def write_text(self, text: str) -> None:
        """Write paragraphs. One that begins with a line of `\\b` holds commands, one per line."""
        width = self.width - self.current_indent
        super().write_text("\n\n".join(_fitted(part, width) for part in text.split("\n\n")))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write terms beside their texts; a narrow terminal leaves the texts two thirds of it."""
        # click's own words for a number say less than the range that stands behind the text.
        plain = [(_NUMBER.sub("N", term), text) for term, text in rows]
        super().write_dl(plain, min(col_max, self.width // 3), col_spacing)


class Context(click.Context):
    """A command's context, with our help."""

    formatter_class = Formatter


class Group(click.Group):
    """Commands in the order of their declaration, under headings if `sections` are given."""

    context_class = Context
    sections: Mapping[str, Iterable[str]] | None = None

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order of their declaration."""
        return list(self.commands)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, whose help is laid out like the group's."""
        command = super().get_command(ctx, name)
        if command is not None:
            command.context_class = Context
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the first line of its help, which is never cut off."""
        widest = max(map(len, self.commands))
        for heading, names in (self.sections or {"Commands": self.commands}).items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(name.ljust(widest), summary(self.commands[name])) for name in names]
                )


def summary(command: click.Command) -> str:
    """Return the first line of a command's help."""
    return (command.help or "").strip().partition("\n")[0]


def _fitted(paragraph: str, width: int) -> str:
    first, _, block = paragraph.partition("\n")
    if first.strip() != "\b":
        return paragraph
    indented = textwrap.indent(textwrap.dedent(block), EXAMPLE_INDENT)
    return "\n".join(["\b", *(_continued(line, width) for line in indented.splitlines())])


def _continued(line: str, width: int) -> str:
    """Break a shell's command that is wider than `width`, as a shell allows it."""
    if len(line) <= width:
        return line
    # Blanks within quotes, and between an option and its value, are no places to break.
    whole = re.sub(
        r"\"[^\"]*\"|'[^']*'|-[-\w]+ (?=[^-])", lambda found: found[0].replace(" ", "\0"), line
    )
    parts = textwrap.wrap(
        whole,
        width - len(" \\"),
        subsequent_indent=EXAMPLE_INDENT * 3,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return " \\\n".join(parts).replace("\0", " ")

"""Groups that list their commands in the order of their declaration, under headings if given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click


class Group(click.Group):
    """A group of commands; `sections` has their names by heading."""

    sections: Mapping[str, Iterable[str]] | None = None

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order of their declaration."""
        return list(self.commands)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the first sentence of its help."""
        for heading, names in (self.sections or {"Commands": self.commands}).items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(name, self.commands[name].get_short_help_str(100)) for name in names]
                )

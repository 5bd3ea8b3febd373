"""Groups that list their commands as declared, under headings if given, and read `alpaca.toml`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import click


class Group(click.Group):
    """A group of commands; `sections` has their names by heading."""

    sections: Mapping[str, Iterable[str]] | None = None

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order of their declaration."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and its options in the current folder's `alpaca.toml`."""
        name, command, rest = super().resolve_command(ctx, args)
        asked = ctx.resilient_parsing or {*ctx.help_option_names} & {*rest}
        if name and not isinstance(command, click.Group) and not asked:
            from alpaca_labeler.console import settings  # 30 ms that `alpaca -h` need not wait for

            words = [*ctx.command_path.split()[1:], name]
            ctx.default_map = {name: settings.defaults(settings.NAME, ctx, words)}
        return name, command, rest

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the first sentence of its help."""
        for heading, names in (self.sections or {"Commands": self.commands}).items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(name, self.commands[name].get_short_help_str(100)) for name in names]
                )

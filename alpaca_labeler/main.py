"""The `alpaca` command. Sub-commands are imported when they run, so that help is instant."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any, Final

import click

from alpaca_labeler import console
from alpaca_labeler.console.help import Group

EXIT_INTERRUPTED: Final = 130

SECTIONS: Final = {
    "Photos": {
        "label": ("label.command", "Label photos: files, folders or buckets."),
        "review": ("review.command", "Correct labels in a browser, many at once."),
        "report": ("report.command", "Make one HTML page from a manifest."),
        "manifest": (
            "manifest.command",
            "Show, count, convert or correct the labels in a manifest.",
        ),
    },
    "Models": {
        "train": ("models.train", "Train a model on two folders of photos."),
        "evaluate": ("models.train", "Measure a model on photos whose classes are known."),
        "compare": ("models.compare", "Say which of two models is better."),
        "models": ("models.registry", "Publish models and choose the one in use."),
    },
    "The job on AWS": {
        "sandbox": ("job.sandbox", "Run the whole job on this machine, without AWS."),
        "status": ("job.status", "Say how a deployed job is doing."),
        "audit": ("job.operate", "Name every image in a bucket without a row."),
        "backfill": ("job.backfill", "Label what is in a bucket already."),
    },
}
"""Heading: {command: (the module that has it under that name, the first line of its help)}."""

COMMANDS: Final = {name: found for each in SECTIONS.values() for name, found in each.items()}


class _Main(Group):
    sections = SECTIONS

    def __init__(self, **settings: Any) -> None:
        # Stand-ins: enough to list and to suggest commands.
        names = {name: click.Command(name, help=text) for name, (_, text) in COMMANDS.items()}
        super().__init__(commands=names, **settings)

    def main(self, *args: Any, **extra: Any) -> Any:
        console.open_terminal()
        return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        if os.environ.get("NO_COLOR"):  # https://no-color.org
            extra["color"] = False
        return super().make_context(*args, **extra)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            module = importlib.import_module(f"alpaca_labeler.{COMMANDS[name][0]}")
            self.commands[name] = getattr(module, name)
        return super().get_command(ctx, name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.UsageError, click.exceptions.Exit, console.Failed):
            raise
        except (click.Abort, KeyboardInterrupt):
            click.echo("\nInterrupted. Run the same command again to go on.", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except click.ClickException as error:
            raise console.Failed(error.message) from error
        except Exception as error:
            if (said := console.sentence(error)) is None:
                raise
            raise console.Failed(said) from error


@click.command(
    cls=_Main,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "auto_envvar_prefix": "ALPACA",
    },
)
@click.version_option(None, "-V", "--version", package_name="alpaca-labeler")
def main() -> None:
    """Label photos in bulk with a model of your own.

    \b
    alpaca label holiday/
    alpaca review
    alpaca report --open
    alpaca train photos/
    alpaca label holiday/ --model runs/first --manifest cats.jsonl

    Two classes, such as alpaca and not alpaca. `alpaca COMMAND -h` explains a command.
    """
    _use_utf8()
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no ü still gets its line
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"  # as rows are
            stream.reconfigure(encoding=encoding, errors="backslashreplace")


def _use_utf8() -> None:
    """Start again in Python's UTF-8 mode if the locale would misread the names of files.

    A manifest is UTF-8, and a photo has the same name in every locale.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell

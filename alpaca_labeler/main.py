"""The `alpaca` command. Sub-commands are imported when they run, so that help is instant."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any, Final

import click

from alpaca_labeler import console

COMMANDS: Final = {
    "label": (
        "alpaca_labeler.label.command",
        "Label photos: files, folders or s3:// prefixes, into a manifest.",
    ),
    "manifest": (
        "alpaca_labeler.table.command",
        "Look into a manifest, correct it, or convert it.",
    ),
    "report": (
        "alpaca_labeler.report.command",
        "Make one HTML page of a manifest: counts, charts, and the photos to look at.",
    ),
    "review": (
        "alpaca_labeler.review.command",
        "Look at labels in a browser and correct them, with two keys.",
    ),
    "train": (
        "alpaca_labeler.models.train",
        "Train a model on DATASET, a folder with one sub-folder for each of two classes.",
    ),
    "evaluate": (
        "alpaca_labeler.models.train",
        "Measure BUNDLE, as it labels, on DATASET: a folder with a sub-folder for each class.",
    ),
    "compare": (
        "alpaca_labeler.models.compare",
        "Compare two bundles, OLD and NEW, on DATASET: a folder with a sub-folder for each class.",
    ),
    "sandbox": (
        "alpaca_labeler.job.sandbox",
        "Run bucket, queue, function and compaction on this machine, without AWS.",
    ),
    "audit": (
        "alpaca_labeler.job.operate",
        "Compare a bucket with its results, and name every image without a row.",
    ),
    "retry": (
        "alpaca_labeler.job.operate",
        "Send images that could not be labelled to the queue again.",
    ),
    "backfill": (
        "alpaca_labeler.job.operate",
        "Label what is in a bucket already: by Step Functions, or through the queue.",
    ),
    "redrive": (
        "alpaca_labeler.job.operate",
        "Move what is in the dead-letter queue back to the queue it came from.",
    ),
    "models": (
        "alpaca_labeler.models.registry",
        "Publish model bundles and choose the one in use.",
    ),
}
"""Name: (module that has the command under that name, what `alpaca --help` says of it)."""


class _Lazy(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if (said := console.sentence(error)) is None:
                raise
            raise click.ClickException(said) from error

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[name][0]), name)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_Lazy)
@click.version_option(package_name="alpaca-labeler")
def main() -> None:
    """Label photos in bulk with a model of your own.

    \b
        alpaca label holiday/               labels a folder into manifest.jsonl
        alpaca manifest stats               says what came out
        alpaca train photos/                trains on photos/CLASS-A and photos/CLASS-B
        alpaca label holiday/ --model runs/latest
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no ü still gets its line
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

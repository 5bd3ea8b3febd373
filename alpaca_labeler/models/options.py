"""Options that the commands of models share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from alpaca_labeler.console import Progress, printable, quiet_option, say
from alpaca_labeler.console.arguments import FILE, FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alpaca_labeler.training.dataset import Dataset, Extra

MAX_PIXELS = 100_000_000
"""`handler.images.MAX_PIXELS`, without the time that importing it takes."""


class _ExtraType(click.ParamType["Extra"]):
    name = "CLASS[/KIND]=FOLDER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Extra:
        from alpaca_labeler.training.dataset import Extra

        if isinstance(value, Extra):
            return value
        label, equals, folder = value.partition("=")
        label, _, kind = label.partition("/")
        if not (label and equals and folder):
            self.fail(f"{value!r} is not CLASS=FOLDER", param, ctx)
        return Extra(label, folder, kind)


extra_option = click.option(
    "--extra",
    "extras",
    multiple=True,
    type=_ExtraType(),
    help="One more folder of photos of a class. Its sub-folders are kinds of photos that the "
    "figures show apart, or all are of KIND. Repeatable.",
)
groups_option = click.option(
    "--groups",
    multiple=True,
    type=FILE,
    help="CSV of photos that belong together: columns file and group (or source). Repeatable.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=MAX_PIXELS,
    show_default=True,
    help="Largest width x height that is decoded.",
)


def measuring_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the argument and options that the commands which measure models share."""
    for option in (
        quiet_option,
        click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON."),
        max_pixels_option,
        click.argument("dataset", type=FOLDER),
    ):
        command = option(command)
    return command


def load_photos(
    dataset: str,
    size: int,
    *,
    extras: Sequence[Extra] = (),
    positive: str | None = None,
    validation: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """Read photos as `training.dataset.load` does; say how many, and which were skipped."""
    from alpaca_labeler.training.dataset import load

    with Progress("reading photos") as progress:
        data = load(
            dataset,
            size,
            positive=positive,
            extras=extras,
            validation=validation,
            max_pixels=max_pixels,
            at=progress.at,
        )
    say(f"{len(data.photos):,} photos of {data.labels[1]!r} and {data.labels[0]!r}")
    for line in data.skipped:
        say(f"skipped {printable(line)}")
    return data


def check_classes(dataset: str, bundle: str, labels: tuple[str, str]) -> None:
    """Refuse a folder whose classes are not those of a bundle."""
    from alpaca_labeler.training.dataset import class_names
    from alpaca_labeler.training.text_files import same

    found = class_names(dataset)
    if {*found} != {*map(same, labels)}:
        raise click.ClickException(
            f"{dataset}: its classes are {found[0]!r} and {found[1]!r}, those of {bundle} "
            f"{labels[0]!r} and {labels[1]!r}"
        )

"""Options that the commands of models share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from alpaca_labeler.console import Progress, printable, quiet_option, say
from alpaca_labeler.console.arguments import Local

if TYPE_CHECKING:
    from collections.abc import Callable

    from alpaca_labeler.training.dataset import Dataset

MAX_PIXELS = 100_000_000
"""`alpaca_labeler.photos.images.MAX_PIXELS`, without the time that importing it takes."""

dataset_argument = click.argument("dataset", type=Local(exists=True))
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    metavar="N",
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
        dataset_argument,
    ):
        command = option(command)
    return command


def load_photos(
    dataset: str,
    size: int,
    *,
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
            validation=validation,
            max_pixels=max_pixels,
            at=progress.at,
        )
    say(f"{len(data.photos):,} photos of {data.labels[1]!r} and {data.labels[0]!r}")
    for line in data.skipped:
        say(f"skipped {printable(line)}")
    return data


def check_classes(dataset: str, bundle: str, labels: tuple[str, str]) -> None:
    """Refuse a data set whose classes are not those of a bundle."""
    from alpaca_labeler.training.description import classes, same

    found = classes(dataset, labels[1])
    if {*found} != {*map(same, labels)}:
        raise click.ClickException(
            f"{dataset}: its classes are {' and '.join(map(repr, found))}, those of {bundle} "
            f"{labels[0]!r} and {labels[1]!r}"
        )

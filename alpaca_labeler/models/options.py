"""What the commands that train and measure models share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from alpaca_labeler.console import Progress, printable, quiet_option, say
from alpaca_labeler.console.arguments import Local, max_bytes_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from alpaca_labeler.model.bundle import Card
    from alpaca_labeler.training.dataset import Dataset


def dataset_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Add DATASET, and the limit on its files."""
    return click.argument("dataset", type=Local(exists=True))(max_bytes_option(command))


def measuring_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the argument and options that the commands which measure models share."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
    return dataset_argument(as_json(quiet_option(command)))


def load_photos(
    dataset: str, size: int, *, positive: str | None = None, validation: str | None = None
) -> Dataset:
    """Read photos as `training.dataset.load` does; say how many, and which were skipped."""
    from alpaca_labeler.training.dataset import load

    with Progress("reading photos") as progress:
        data = load(dataset, size, positive=positive, validation=validation, at=progress.at)
    say(f"{len(data.photos):,} photos of {data.labels[1]!r} and {data.labels[0]!r}")
    for line in data.skipped:
        say(f"skipped {printable(line)}")
    return data


def load_photos_for(card: Card, dataset: str) -> Dataset:
    """Read photos for a model; those of other classes than its own are refused before."""
    from alpaca_labeler.training import description

    found = description.read(dataset, card.labels[1]).labels
    if found != tuple(map(description.same, card.labels)):
        raise click.ClickException(
            f"{dataset}: its classes are {' and '.join(map(repr, found))}, those of "
            f"{card.version} {' and '.join(map(repr, card.labels))}"
        )
    return load_photos(dataset, card.input_size, positive=card.labels[1])

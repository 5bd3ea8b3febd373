"""What the commands that train and measure share: options that name photos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from alpaca_labeler.arguments import FILE
from alpaca_labeler.console import printable, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alpaca_labeler.training.dataset import Dataset


class _ExtraType(click.ParamType[tuple[str, str]]):
    name = "CLASS=FOLDER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        label, equals, folder = value.partition("=")
        if not (label and equals and folder):
            self.fail(f"{value!r} is not CLASS=FOLDER", param, ctx)
        return label, folder


extra_option = click.option(
    "--extra",
    "extras",
    multiple=True,
    type=_ExtraType(),
    help="One more folder of photos of a class, with its sub-folders. Repeatable.",
)
groups_option = click.option(
    "--groups",
    multiple=True,
    type=FILE,
    help="CSV of photos that belong together: columns file and group (or source). Repeatable.",
)


def load_photos(
    dataset: str, size: int, *, extras: Iterable[tuple[str, str]] = (), positive: str | None = None
) -> Dataset:
    """Read photos as `training.dataset.load` does, and say how many there are and what is none."""
    from alpaca_labeler.training import dataset as datasets

    data = datasets.load(
        dataset, size, positive=positive, extras=[datasets.Extra(*extra) for extra in extras]
    )
    say(f"{len(data.photos)} photos of {data.labels[1]!r} and {data.labels[0]!r}")
    for line in data.skipped:
        say(f"skipped {printable(line)}")
    return data


def check_classes(dataset: str, bundle: str, labels: tuple[str, str]) -> None:
    """Refuse a folder whose classes are not those of a bundle."""
    from alpaca_labeler.training import dataset as datasets

    found = datasets.class_names(dataset)
    if {*found} != {*labels}:
        raise click.ClickException(
            f"{dataset}: its classes are {found[0]!r} and {found[1]!r}, those of {bundle} "
            f"{labels[0]!r} and {labels[1]!r}"
        )

"""A model's figures as lines of text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from alpaca_labeler.training.metrics import Figure


def print_figures(name: str, figures: Mapping[str, Figure], labels: tuple[str, str]) -> None:
    """Print figures with their intervals and what they mean, for negative and positive labels."""
    from alpaca_labeler.training.metrics import MEANINGS

    click.echo(f"{name} (in brackets: the 95 % interval)")
    for key, figure in figures.items():
        if not math.isnan(figure.value):
            meaning = MEANINGS[key].format(*labels)
            click.echo(f"  {key.replace('_', ' '):18} {figure!s:23}  {meaning}")


def print_table(
    labels: tuple[str, str],
    confusion: list[list[int]],
    kinds: Mapping[str, Mapping[str, int]],
    review: Mapping[str, Any],
) -> None:
    """Print what photos of each class and kind were called, and what review is worth."""
    width = max(len(name) for name in [*labels, *kinds])
    for label, (negative, positive) in zip(labels, confusion, strict=True):
        click.echo(f"{label:{width}}  {negative:5} called {labels[0]}, {positive:5} {labels[1]}")
    for kind, found in kinds.items():
        photos, right = found["photos"], found["right"]
        click.echo(
            f"  {kind:{width}}  {right:4} of {photos:4} right {right / photos:6.1%}"
            f"  for review {found['needs_review'] / photos:4.0%}"
        )
    caught = review["errors_in_review"]
    errors = (
        "there are no errors"
        if caught is None or math.isnan(caught)
        else f"{caught:.0%} of the errors are in it"
    )
    click.echo(f"review      {review['needs_review']:.1%} of the photos; {errors}")

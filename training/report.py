"""The results of training as plain data for a page. Nothing here knows how a page looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .arrays import Floats, Indices, Pixels


@dataclass(frozen=True, slots=True)
class Epoch:
    """The progress of training. The validation figures are nan if nothing was held out."""

    phase: str
    """`frozen` or `fine-tuning`."""
    epoch: int
    """Number of the epoch within its phase, from 1."""
    epochs: int
    """Number of epochs in its phase."""
    loss: float
    """Mean log loss as trained on: with augmentation and label smoothing."""
    accuracy: float
    """Share of the training photos labelled right, 0..1, with augmentation."""
    val_loss: float
    val_accuracy: float
    seconds_left: float
    """Time until its phase ends, at the speed so far."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A photo that was labelled wrong."""

    name: str
    truth: int
    """Index of its true label."""
    probability: float
    """The model's probability of the positive label, 0..1."""
    pixels: Pixels
    """RGB, shape (side, side, 3): what the model saw."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that the page shows. The photos are those that the card's metrics were measured on."""

    title: str
    card: dict[str, Any]
    """`model.json`. Figures that are absent are left out of the page."""
    history: Sequence[Epoch]
    labels: tuple[str, str]
    """Negative and positive."""
    truth: Indices
    """Shape (n,): index of each photo's true label."""
    probabilities: Floats
    """Shape (n,), 0..1: the model's probability of the positive label."""
    kinds: Sequence[str]
    """What each photo shows, finer than its label (sheep, goat, …). May be empty."""
    mistakes: Sequence[Mistake]
    """Worst first."""

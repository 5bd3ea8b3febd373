"""The results of training as plain data for a page. Nothing here knows how a page looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt


class Epoch(Protocol):
    """One epoch of training. Validation figures are None or nan if nothing was held out."""

    @property
    def phase(self) -> str:
        """Name of the phase of training."""

    @property
    def epoch(self) -> int:
        """Number of the epoch in its phase, from 1."""

    @property
    def loss(self) -> float:
        """Loss on the training photos."""

    @property
    def accuracy(self) -> float:
        """Accuracy on the training photos, 0..1."""

    @property
    def val_loss(self) -> float | None:
        """Loss on the validation photos."""

    @property
    def val_accuracy(self) -> float | None:
        """Accuracy on the validation photos, 0..1."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A photo that was labelled wrong."""

    name: str
    truth: int
    """Index of its true label."""
    probability: float
    """The model's probability of the positive label, 0..1."""
    pixels: npt.NDArray[np.uint8]
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
    truth: npt.NDArray[np.integer[Any]]
    """Shape (n,): index of each photo's true label."""
    probabilities: npt.NDArray[np.floating[Any]]
    """Shape (n,), 0..1: the model's probability of the positive label."""
    names: Sequence[str]
    kinds: Sequence[str]
    """What each photo shows, finer than its label (sheep, goat, …). May be empty."""
    mistakes: Sequence[Mistake]
    """Worst first."""
    augmented: Sequence[Sequence[npt.NDArray[np.uint8]]] = ()
    """For each of a few photos: as it is labelled, then as training may draw it. uint8 RGB, shape
    (side, side, 3)."""

"""Model bundle in, probability and label out. One instance serves one thread at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from alpaca_labeler.model.bundle import Bundle, BundleError, Card

if TYPE_CHECKING:
    import numpy.typing as npt

PROBABILITY_DIGITS = 4
"""Probabilities are rounded before they are compared, so that a row explains its own label."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about one photo."""

    label: str
    """Name of the class."""
    index: int
    """Index of `label` in the card's order: 1 is the positive class."""
    probability: float
    """Probability of the positive class, 0..1."""
    confidence: float
    """Probability of `label`, 0..1."""
    needs_review: bool
    """Whether the probability lies in the card's review band."""


class Classifier:
    """Runs a bundle's model. Not for use by two threads at once: give each thread its own."""

    def __init__(self, bundle: Bundle) -> None:
        """Raise `BundleError` unless the model takes one uint8 RGB square and gives one logit."""
        self.card = bundle.card
        size = bundle.card.input_size
        try:
            # One thread: a photo is too small to divide, so each core takes whole photos.
            with _silenced():
                self._interpreter = Interpreter(model_content=bundle.model, num_threads=1)
                self._interpreter.allocate_tensors()
            [entry] = self._interpreter.get_input_details()
            [result] = self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{bundle.card.version}: not a LiteRT model ({error})") from error
        if entry["dtype"] != np.uint8 or [*entry["shape"]] != [1, size, size, 3]:
            raise BundleError(
                f"{bundle.card.version}: the model takes {entry['dtype'].__name__} "
                f"{[*entry['shape']]}, not uint8 {[1, size, size, 3]} as its card says"
            )
        if result["dtype"] != np.float32 or math.prod(result["shape"]) != 1:
            raise BundleError(f"{bundle.card.version}: the model must give one float32 logit")
        self._input, self._output = entry["index"], result["index"]

    def logit(self, pixels: npt.NDArray[np.uint8]) -> float:
        """Return the model's raw answer for RGB pixels (size, size, 3), dtype uint8, 0..255."""
        self._interpreter.set_tensor(self._input, pixels[np.newaxis])
        self._interpreter.invoke()
        return float(self._interpreter.get_tensor(self._output).item())

    def predict(self, pixels: npt.NDArray[np.uint8]) -> Prediction:
        """Label RGB pixels of shape (size, size, 3), dtype uint8, 0..255."""
        return decide(self.card, self.logit(pixels))


def decide(card: Card, logit: float) -> Prediction:
    """Turn a model's logit into a label by the card's calibration, threshold and review band."""
    scale, offset = card.calibration
    probability = round(sigmoid(scale * logit + offset), PROBABILITY_DIGITS)
    index = int(probability >= card.threshold)
    low, high = card.review_band
    return Prediction(
        label=card.labels[index],
        index=index,
        probability=probability,
        confidence=probability if index else round(1 - probability, PROBABILITY_DIGITS),
        needs_review=low <= probability <= high,
    )


def sigmoid(x: float) -> float:
    """Return 1 / (1 + e^-x) for any finite x, without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep LiteRT's start message off stderr: C++ code writes it, and no option stops it."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)

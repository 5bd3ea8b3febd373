"""How good a model is, and where its threshold lies: truth and logits in, figures out. Pure NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from handler.classifier import PROBABILITY_DIGITS
from training import logistic

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

BOOTSTRAP_DRAWS = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap: a 95 % interval."""
ECE_BINS = 10
REVIEW_ACCURACY = 0.99
"""Of the labels outside the review band, at least this share is right on validation data."""
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Decision:
    """How a logit becomes a label."""

    calibration: tuple[float, float]
    """(a, b): the probability is sigmoid(a * logit + b)."""
    threshold: float
    review_band: tuple[float, float]

    def probabilities(self, logits: Floats) -> Floats:
        """Return the positive class's probabilities, shape (n,), rounded as labelling rounds them."""
        scale, offset = self.calibration
        return np.round(logistic.sigmoid(scale * logits + offset), PROBABILITY_DIGITS)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def decide(truth: Indices, logits: Floats) -> Decision:
    """Choose calibration, threshold and review band on validation data.

    - Calibration: Platt's, the (a, b) of lowest log loss.
    - Threshold: the centre of the widest range of thresholds with the highest balanced accuracy (the mean
      of the shares of positives and of negatives that are right), so that a rare class counts like a common one.
    - Review band: the smallest range around the threshold outside which at least 99 of 100 labels are right,
      on either side of it.
    """
    calibration = platt(truth, logits)
    plain = Decision(calibration, 0.5, (0.5, 0.5))
    probabilities = plain.probabilities(logits)
    threshold = best_threshold(truth, probabilities)
    return Decision(calibration, threshold, review_band(truth, probabilities, threshold))


def platt(truth: Indices, logits: Floats) -> tuple[float, float]:
    """Return (a, b) with which sigmoid(a * logit + b) is a calibrated probability."""
    if not 0 < truth.mean() < 1:
        return (1.0, 0.0)
    # Platt's targets: never quite 0 or 1, so that separable data do not ask for infinite coefficients.
    positives = truth.sum()
    negatives = len(truth) - positives
    targets = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scale, offset = logistic.fit(logits[:, np.newaxis], targets, np.ones(len(truth)), _TINY)
    # A model that orders photos the wrong way round must not be hidden by a negative scale.
    return (round(max(float(scale[0]), 0.01), 6), round(offset, 6))


def best_threshold(truth: Indices, probabilities: Floats) -> float:
    """Return the centre of the widest range of thresholds with the highest balanced accuracy."""
    if not 0 < truth.mean() < 1:
        return 0.5
    edges = np.unique(np.concatenate([[0.0], probabilities, [1.0]]))
    # A threshold anywhere in (edges[i], edges[i + 1]] gives the same labels.
    positives = np.sort(probabilities[truth == 1])
    negatives = np.sort(probabilities[truth == 0])
    recall = 1 - np.searchsorted(positives, edges[1:]) / len(positives)
    specificity = np.searchsorted(negatives, edges[1:]) / len(negatives)
    score = recall + specificity
    plateaus: list[tuple[float, float]] = []
    for index in np.flatnonzero(score >= score.max() - 1e-12):
        low, high = float(edges[index]), float(edges[index + 1])
        if plateaus and plateaus[-1][1] == low:
            low = plateaus.pop()[0]
        plateaus.append((low, high))
    low, high = max(plateaus, key=lambda ends: ends[1] - ends[0])
    # Rounded up, so that the low end itself, whose photos are negative, stays below.
    centre = round((low + high) / 2, PROBABILITY_DIGITS)
    return centre if centre > low else high


def review_band(truth: Indices, probabilities: Floats, threshold: float) -> tuple[float, float]:
    """Return the smallest band around the threshold outside which 99 of 100 labels are right, on each side."""

    def side(values: Floats, right: npt.NDArray[np.bool_]) -> float | None:
        """Of values in order away from the threshold: the last one that must be reviewed."""
        order = np.argsort(values, kind="stable")
        values, right = values[order], right[order]
        if not len(values):
            return None
        from_here = np.cumsum(right[::-1])[::-1] / np.arange(len(right), 0, -1)
        good = from_here >= REVIEW_ACCURACY
        # Photos of equal probability cannot be parted: a tail may only begin where a value does.
        starts = np.concatenate([[True], values[1:] > values[:-1]])
        tails = np.flatnonzero(good & starts)
        first = int(tails[0]) if len(tails) else len(values)
        return float(values[first - 1]) if first else None

    above = probabilities >= threshold
    high = side(probabilities[above], truth[above] == 1)
    low = side(-probabilities[~above], truth[~above] == 0)
    return (threshold if low is None else -low, threshold if high is None else high)


def measure(truth: Indices, probabilities: Floats, predicted: Indices) -> dict[str, float]:
    """Return accuracy, precision, recall, f1, auc and ece of labels. nan where a figure has no meaning."""
    hit = int((predicted & truth).sum())
    precision = _ratio(hit, int(predicted.sum()))
    recall = _ratio(hit, int(truth.sum()))
    return {
        "accuracy": float((predicted == truth).mean()),
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * hit, int(predicted.sum() + truth.sum())),
        "auc": auc(truth, probabilities),
        "ece": calibration_error(truth, probabilities),
    }


def figures(
    truth: Indices, probabilities: Floats, predicted: Indices, *, seed: int
) -> dict[str, Figure]:
    """Return `measure`'s figures, each with a 95 % interval from drawing the photos again with replacement."""
    random = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(BOOTSTRAP_DRAWS):
        index = random.integers(0, len(truth), len(truth))
        for name, value in measure(truth[index], probabilities[index], predicted[index]).items():
            drawn.setdefault(name, []).append(value)
    result = {}
    for name, value in measure(truth, probabilities, predicted).items():
        sound = [draw for draw in drawn[name] if not np.isnan(draw)]
        low, high = np.percentile(sound, INTERVAL) if sound else (np.nan, np.nan)
        result[name] = Figure(value, float(low), float(high))
    return result


def auc(truth: Indices, scores: Floats) -> float:
    """Return the chance that a positive scores above a negative, equals counting half. nan for one class."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    return float(
        (rank[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    )


def calibration_error(truth: Indices, probabilities: Floats) -> float:
    """Return the expected calibration error: mean gap between probability and share of positives, over 10 bins."""
    bins = np.minimum((probabilities * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, probabilities - truth, ECE_BINS)
    return float(np.abs(gaps).sum() / len(truth))


def confusion(truth: Indices, predicted: Indices) -> list[list[int]]:
    """Return [[true negatives, false positives], [false negatives, true positives]]."""
    return [[int(((truth == t) & (predicted == p)).sum()) for p in (0, 1)] for t in (0, 1)]


def by_kind(kinds: Sequence[str], truth: Indices, predicted: Indices) -> dict[str, dict[str, Any]]:
    """Return for each kind how many photos it has, how many are right, and how many were called positive."""
    result = {}
    for kind in sorted(set(kinds)):
        of = np.array([value == kind for value in kinds])
        result[kind] = {
            "photos": int(of.sum()),
            "right": int((predicted == truth)[of].sum()),
            "called_positive": int(predicted[of].sum()),
        }
    return result


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")

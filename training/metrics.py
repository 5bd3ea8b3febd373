"""How good a model is, and where its threshold lies: truth and logits in, figures out, no I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..handler.classifier import PROBABILITY_DIGITS
from . import logistic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

BOOTSTRAP_DRAWS = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles of the bootstrap: a 95 % interval."""
ECE_BINS = 10
THRESHOLD = 0.5
REVIEW_ACCURACY = 0.99
"""Of the labels outside the review band, at least this share is right on validation data."""
_TINY = 1e-6
_LEAST_PROBABILITY = 10.0**-PROBABILITY_DIGITS / 2
"""What a probability that was rounded to 0 is taken for in the log loss."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How a logit becomes a label."""

    calibration: tuple[float, float]
    """(a, b): the probability is sigmoid(a * logit + b)."""
    threshold: float
    review_band: tuple[float, float]

    def probabilities(self, logits: Floats) -> Floats:
        """Return the positive class's probabilities, shape (n,), rounded as labelling does."""
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


def decide(truth: Indices, logits: Floats, weights: Floats) -> Decision:
    """Choose calibration, threshold and review band on validation data.

    - Calibration: Platt's, the (a, b) of lowest log loss; `weights` say how much each photo counts.
    - Threshold: a probability of 0.5. Calibrated, that is where both labels are equally likely, and
      so where the most labels are right; two parameters fitted to all photos find that place with
      less noise than counting errors does.
    - Review band: the smallest range around the threshold outside which at least 99 of 100 labels
      are right, on either side of it.
    """
    calibration = platt(truth, logits, weights)
    probabilities = Decision(calibration, THRESHOLD, (THRESHOLD, THRESHOLD)).probabilities(logits)
    return Decision(calibration, THRESHOLD, review_band(truth, probabilities, THRESHOLD))


def platt(truth: Indices, logits: Floats, weights: Floats) -> tuple[float, float]:
    """Return (a, b) with which sigmoid(a * logit + b) is a calibrated probability."""
    if not 0 < truth.mean() < 1:
        return (1.0, 0.0)
    # Platt's targets: never quite 0 or 1, lest separable data ask for infinite coefficients.
    positives = truth.sum()
    negatives = len(truth) - positives
    targets = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scale, offset = logistic.fit(logits[:, np.newaxis], targets, weights, _TINY)
    # A model that orders photos the wrong way round must not be hidden by a negative scale.
    return (round(max(float(scale[0]), 0.01), 6), round(offset, 6))


def review_band(truth: Indices, probabilities: Floats, threshold: float) -> tuple[float, float]:
    """Return the smallest band around the threshold beyond which 99 of 100 labels are right."""

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
    """Return accuracy, balanced accuracy, precision, recall, f1, auc, log loss and ece.

    Balanced accuracy is the mean of both classes' recalls. A figure that has no meaning on these
    photos is nan.
    """
    right = predicted == truth
    hit = int((predicted & truth).sum())
    recall = _ratio(hit, int(truth.sum()))
    specificity = _ratio(int(right[truth == 0].sum()), int((truth == 0).sum()))
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": _ratio(hit, int(predicted.sum())),
        "recall": recall,
        "f1": _ratio(2 * hit, int(predicted.sum() + truth.sum())),
        "auc": auc(truth, probabilities),
        "log_loss": log_loss(truth, probabilities),
        "ece": calibration_error(truth, probabilities),
    }


def figures(
    truth: Indices,
    probabilities: Floats,
    predicted: Indices,
    *,
    seed: int,
    groups: Indices | None = None,
) -> dict[str, Figure]:
    """Return `measure`'s figures, each with a 95 % bootstrap interval: see `bootstrap`."""
    return bootstrap(
        lambda index: measure(truth[index], probabilities[index], predicted[index]),
        len(truth),
        seed=seed,
        groups=groups,
    )


def bootstrap(
    statistic: Callable[[Indices], Mapping[str, float]],
    count: int,
    *,
    seed: int,
    groups: Indices | None = None,
) -> dict[str, Figure]:
    """Return what `statistic` says of photos 0..count-1, with 95 % percentile intervals.

    `statistic` gets the indices of photos, and a nan in a draw is passed over. Photos are drawn
    again with replacement; with `groups`, shape (count,), whole groups are, because photos of one
    scene or source are right or wrong together and promise too much when drawn alone (Field and
    Welsh, Bootstrapping clustered data, 2007).
    """
    drawn: dict[str, list[float]] = {}
    for index in _draws(np.arange(count) if groups is None else groups, seed):
        for name, value in statistic(index).items():
            drawn.setdefault(name, []).append(value)
    result = {}
    for name, value in statistic(np.arange(count)).items():
        sound = [draw for draw in drawn[name] if not np.isnan(draw)]
        low, high = np.percentile(sound, INTERVAL) if sound else (np.nan, np.nan)
        result[name] = Figure(value, float(low), float(high))
    return result


def _draws(groups: Indices, seed: int) -> Iterator[Indices]:
    """Yield the members of groups that were drawn with replacement, as many as there are groups."""
    random = np.random.default_rng(seed)
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    for _ in range(BOOTSTRAP_DRAWS):
        chosen = random.integers(0, len(sizes), len(sizes))
        length = sizes[chosen]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        yield order[np.repeat(starts[chosen], length) + within]


def numbers(figure: Figure) -> dict[str, float] | None:
    """Return a figure as JSON has it; None for one without meaning: JSON has no nan."""
    return None if np.isnan(figure.value) else asdict(figure)


def auc(truth: Indices, scores: Floats) -> float:
    """Return the chance that a positive scores above a negative; nan for one class.

    Equal scores count half.
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    return float(
        (rank[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives)
    )


def log_loss(truth: Indices, probabilities: Floats) -> float:
    """Return the mean log loss, in nats; a probability of 0 or 1 counts as it was before rounding.

    That is at most half of the last digit away, so that one sure mistake costs 9.9 nats, not all.
    """
    said = np.where(truth == 1, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(said, _LEAST_PROBABILITY)).mean())


def calibration_error(truth: Indices, probabilities: Floats) -> float:
    """Return the expected calibration error over 10 bins of probability.

    It is the mean gap between the probability and the share of positives.
    """
    bins = np.minimum((probabilities * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, probabilities - truth, ECE_BINS)
    return float(np.abs(gaps).sum() / len(truth))


def confusion(truth: Indices, predicted: Indices) -> list[list[int]]:
    """Return [[true negatives, false positives], [false negatives, true positives]]."""
    return [[int(((truth == t) & (predicted == p)).sum()) for p in (0, 1)] for t in (0, 1)]


def by_kind(kinds: Sequence[str], truth: Indices, predicted: Indices) -> dict[str, dict[str, Any]]:
    """Return for each kind how many photos it has, are right, and were called positive."""
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

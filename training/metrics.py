"""How good a model is, and where its threshold lies: truth and logits in, figures out, no I/O.

Arrays have the shape (photos,) unless said otherwise; `truth` and `predicted` are 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from alpaca_labeler.model.classifier import PROBABILITY_DIGITS
from alpaca_labeler.table.progress import wilson

from . import logistic
from .arrays import Flags, Floats, Indices

BOOTSTRAP_DRAWS = 1000
ECE_BINS = 10
THRESHOLD = 0.5
REVIEW_SHARE = 0.25
"""Share of the photos that people may be asked to review."""
REVIEW_DOUBT = (0.1, 0.2)
"""Lowest and highest probability of being wrong from which a label may need review."""
PRIOR_PHOTOS = 100
"""Number of photos that the prior of the calibration weighs as much as."""
SHARPEN_PHOTOS = 200
"""Held-out photos below which calibration makes no probability more certain."""
_TINY = 1e-6


MEANINGS: Final = {
    "accuracy": "of all photos are labelled right",
    "balanced_accuracy": "are right, if both classes count the same",
    "precision": "of those labelled “{1}” are that",
    "recall": "of those that are “{1}” are found",
    "auc": "how well the two are ordered, 1 at best",
    "ece": "stated against true share, 0 at best",
}
"""What each figure means; `{0}` and `{1}` are the negative and the positive label."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How a logit becomes a label."""

    calibration: tuple[float, float]
    """(a, b): the probability is sigmoid(a * logit + b)."""
    threshold: float
    """Lowest probability, 0..1, that is labelled positive."""
    review_band: tuple[float, float]
    """Lowest and highest probability that need human review."""

    def probabilities(self, logits: Floats) -> Floats:
        """Return the positive class's probabilities, shape (n,), rounded as labelling does."""
        scale, offset = self.calibration
        return np.round(logistic.sigmoid(scale * logits + offset), PROBABILITY_DIGITS)

    def judge(self, truth: Indices, probabilities: Floats) -> Judged:
        """Return what the decision makes of probabilities; both arrays have the shape (n,)."""
        low, high = self.review_band
        reviewed = (probabilities >= low) & (probabilities <= high)
        predicted = (probabilities >= self.threshold).astype(np.int64)
        return Judged(truth, probabilities, predicted, reviewed)


@dataclass(frozen=True, slots=True)
class Judged:
    """Photos of known classes, and what was said of them; each array has the shape (n,)."""

    truth: Indices
    probabilities: Floats
    """Probability of the positive class, 0..1."""
    predicted: Indices
    """Class indices."""
    reviewed: Flags
    """Whether the label needs human review."""

    @property
    def right(self) -> Flags:
        """Whether the label is right."""
        right: Flags = self.predicted == self.truth
        return right

    def __getitem__(self, which: Indices | Flags) -> Judged:
        return Judged(
            self.truth[which],
            self.probabilities[which],
            self.predicted[which],
            self.reviewed[which],
        )


def decide(truth: Indices, logits: Floats) -> Decision:
    """Return how a logit becomes a label.

    The threshold is a probability of 0.5, at which both labels are equally likely in an even mix.
    Where the mistakes lay plays no part but in the calibration, of two numbers: a label needs
    review if it is wrong with a probability of at least 0.1, by the calibration; of up to 0.2, if
    else more than a quarter of the photos would need it. NOTES.md says what that was compared with.
    """
    found = Decision(calibration(truth, logits), THRESHOLD, (THRESHOLD, THRESHOLD))
    probabilities = found.probabilities(logits)
    doubt = np.quantile(np.minimum(probabilities, 1 - probabilities), 1 - REVIEW_SHARE)
    edge = round(float(np.clip(doubt, *REVIEW_DOUBT)), PROBABILITY_DIGITS)
    return replace(found, review_band=(edge, round(1 - edge, PROBABILITY_DIGITS)))


def calibration(truth: Indices, logits: Floats) -> tuple[float, float]:
    """Return (a, b) with which sigmoid(a * logit + b) is calibrated for an even mix of classes.

    Platt's calibration (Probabilistic outputs for support vector machines, 1999), with both classes
    weighing the same: the mix of classes in a user's folder is unknown, so the mix in training must
    not count. It is shrunk towards (1, 0), as if `PRIOR_PHOTOS` more had turned out as the network
    says, and below `SHARPEN_PHOTOS` photos no probability becomes more certain by it: few photos of
    the same sources say little of photos from elsewhere.
    """
    count, positives = len(truth), int(truth.sum())
    if not 0 < positives < count:
        return (1.0, 0.0)
    # Platt's targets: never quite 0 or 1, so that separable data have a finite optimum.
    found = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (count - positives + 2))
    believed = PRIOR_PHOTOS / (count + PRIOR_PHOTOS)
    targets = (1 - believed) * found + believed * logistic.sigmoid(logits)
    scales, offset = logistic.fit(logits[:, np.newaxis], targets, class_weights(truth), _TINY)
    # A negative scale would hide a model that ranks photos the wrong way round.
    scale = max(float(scales[0]), 0.01)
    if count < SHARPEN_PHOTOS and scale > 1:
        scale, offset = 1.0, offset / scale  # the logit of a probability of 0.5 stays
    return (round(scale, 6), round(offset, 6))


def class_weights(truth: Indices) -> Floats:
    """Return weights, shape (n,), with the sum 1, that make both classes count the same."""
    sizes = np.bincount(truth, minlength=2)
    weights: Floats = 1 / sizes[truth]
    weights /= weights.sum()
    return weights


def measured(judged: Judged, groups: Indices, kinds: Sequence[str], *, seed: int) -> dict[str, Any]:
    """Return what cards say of photos: `figures`, `review`, a confusion matrix and `by_kind`.

    `groups` and `kinds` are those of the photos, shape (n,). Numbers are rounded to 4 digits; None
    stands for what has no meaning.
    """
    truth, predicted = judged.truth, judged.predicted
    return {
        "metrics": {
            **figures(judged, groups, seed=seed),
            # [[true negatives, false positives], [false negatives, true positives]]
            "confusion": [
                [int(((truth == t) & (predicted == p)).sum()) for p in (0, 1)] for t in (0, 1)
            ],
            **{name: _number(value) for name, value in review(judged).items()},
        },
        "kinds": by_kind(judged, kinds),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def measure(judged: Judged) -> dict[str, float]:
    """Return accuracy, balanced accuracy, precision, recall, auc and ece.

    Balanced accuracy is the mean of both classes' recalls. A figure that has no meaning on these
    photos is nan.
    """
    truth, predicted, right = judged.truth, judged.predicted, judged.right
    hit = int((predicted & truth).sum())
    recall = _ratio(hit, int(truth.sum()))
    specificity = _ratio(int(right[truth == 0].sum()), int((truth == 0).sum()))
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": _ratio(hit, int(predicted.sum())),
        "recall": recall,
        "auc": auc(truth, judged.probabilities),
        "ece": calibration_error(truth, judged.probabilities),
    }


def figures(judged: Judged, groups: Indices, *, seed: int) -> dict[str, Any]:
    """Return the figures of `measure`, each as a value with a low and a high end, for JSON.

    Between the ends lie 95 % of the figures of photos that are drawn with replacement, in whole
    groups (cluster bootstrap): photos of one scene or source are right or wrong together, and drawn
    alone they would give too narrow an interval (Field and Welsh, Bootstrapping clustered data,
    2007). If every draw gives the same value, as when no photo is labelled wrong, a share has
    Wilson's interval, and another figure none.
    """
    draws = [measure(judged[index]) for index in _draws(groups, seed)]
    # Photos of one group count as one.
    truth, predicted = judged.truth, judged.predicted
    shares_of = {"accuracy": truth >= 0, "recall": truth == 1, "precision": predicted == 1}
    found: dict[str, Any] = {}
    for name, value in measure(judged).items():
        sound = [draw[name] for draw in draws if not math.isnan(draw[name])]
        low, high = np.percentile(sound, (2.5, 97.5)).tolist() if sound else (math.nan, math.nan)
        if high - low < _TINY:
            of = shares_of.get(name)
            none = math.nan, math.nan
            low, high = none if of is None else wilson(value, len(np.unique(groups[of])))
        ends = {"value": _number(value), "low": _number(low), "high": _number(high)}
        found[name] = None if math.isnan(value) else ends
    return found


def _draws(groups: Indices, seed: int) -> Iterator[Indices]:
    """Yield the members of as many groups as there are, drawn with replacement: shape (m,)."""
    random = np.random.default_rng(seed)
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    for _ in range(BOOTSTRAP_DRAWS):
        chosen = random.integers(0, len(sizes), len(sizes))
        length = sizes[chosen]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        yield order[np.repeat(starts[chosen], length) + within]


def auc(truth: Indices, scores: Floats) -> float:
    """Return the chance that a positive scores above a negative; nan if a class is missing.

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


def calibration_error(truth: Indices, probabilities: Floats) -> float:
    """Return the expected calibration error over 10 bins, with both classes weighing the same.

    It is the mean gap between the probability and the share of positives.
    """
    bins = np.minimum((probabilities * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = np.bincount(bins, class_weights(truth) * (probabilities - truth), ECE_BINS)
    return float(np.abs(gaps).sum())


def by_kind(judged: Judged, kinds: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count each kind's photos: all, those labelled right, and those for review."""
    names = np.array(kinds)
    return {
        str(kind): {
            "photos": int(of.sum()),
            "right": int(judged.right[of].sum()),
            "needs_review": int(judged.reviewed[of].sum()),
        }
        for kind in np.unique(names)
        for of in [names == kind]
    }


def review(judged: Judged) -> dict[str, float]:
    """Return what review is worth: the share of photos in it, and of the errors that it catches.

    `right_outside` is the share of the labels outside the band that are right; nan if there are no
    such labels.
    """
    right, reviewed = judged.right, judged.reviewed
    return {
        "needs_review": float(reviewed.mean()),
        "errors_in_review": _ratio(int((reviewed & ~right).sum()), int((~right).sum())),
        "right_outside": _ratio(int((~reviewed & right).sum()), int((~reviewed).sum())),
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")

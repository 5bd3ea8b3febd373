"""Is a model better than another? Both label the same photos, and the answers are counted in pairs.

Photos that a model was trained on prove nothing, so a model's own label counts only for photos that
it has not seen. For the others its out-of-fold label counts, if its record has one: that of a
cross-validation model trained without the photo and its group. Photos for which one of the two
models has neither are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.model.classifier import Classifier

from .arrays import Flags, Floats, Indices
from .dataset import Dataset
from .provenance import Model

SIGNIFICANCE: Final = 0.05
"""A difference counts if chance alone would make one this large with a lower probability."""


class CompareError(LabelerError):
    """Two models cannot be compared. The message says why."""


@dataclass(frozen=True, slots=True)
class Answers:
    """A model's labels for photos; each array has the shape (photos,)."""

    probabilities: Floats
    """Probability of the positive class, 0..1."""
    predicted: Indices
    """Class indices."""
    review: Flags
    """Whether the label needs human review."""
    seen: Flags
    """Whether the model was trained on the photo or its group, as far as its record tells."""
    folds: Flags
    """Whether the answer is out-of-fold: of a cross-validation model that saw neither."""

    @property
    def sound(self) -> Flags:
        """Whether each answer comes from a model that has not seen the photo."""
        return ~self.seen | self.folds


@dataclass(frozen=True, slots=True)
class Counts:
    """What two models make of the same photos."""

    photos: int
    old_right: int
    """Number of photos that the old model labels right."""
    new_right: int
    only_old: int
    """Number of photos that only the old model labels right."""
    only_new: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models, photo by photo."""

    old: str
    """Version of the old model."""
    new: str
    unrecorded: tuple[str, ...]
    """Those of the two versions that do not say what they were trained on."""
    left_out: int
    """Number of photos that do not count, because a model was trained on them."""
    flattering: bool
    """Every photo was in training. So all of them count, and the figures flatter the models."""
    total: Counts
    kinds: dict[str, Counts]
    """The same for each kind of photo."""

    @property
    def p_value(self) -> float:
        """Return the p value of `mcnemar` for the photos on which the two models differ."""
        return mcnemar(self.total.only_old, self.total.only_new)

    @property
    def verdict(self) -> Literal["better", "worse", "undecided"]:
        """Tell whether the new model is better; undecided if the difference may be chance."""
        if self.p_value >= SIGNIFICANCE:
            return "undecided"
        return "better" if self.total.only_new > self.total.only_old else "worse"


def answer(
    model: Model,
    data: Dataset,
    *,
    folds: bool = False,
    at: Callable[[int, int], None] = lambda _done, _total: None,
) -> Answers:
    """Label photos as the handler does; `data` has the model's input size.

    With `folds`, photos that the model has seen get their out-of-fold answer, if its record has
    one. `at` is called with how many photos of how many have been labelled.

    Raises `BundleError`.
    """
    classifier, card = Classifier(model.bundle), model.bundle.card
    probabilities = np.zeros(len(data.pixels))
    for done, pixels in enumerate(data.pixels):
        probabilities[done] = classifier.predict(pixels).probability
        at(done + 1, len(data.pixels))
    seen = by_folds = np.zeros(len(data.photos), dtype=np.bool_)
    if model.record:
        seen = np.array([photo.sha256 in model.record.seen for photo in data.photos])
        judged = model.record.judged
        if folds:
            by_folds = seen & np.array([photo.sha256 in judged for photo in data.photos])
            for place in np.flatnonzero(by_folds):
                probabilities[place] = judged[data.photos[place].sha256]
    low, high = card.review_band
    return Answers(
        probabilities,
        (probabilities >= card.threshold).astype(np.int64),
        (probabilities >= low) & (probabilities <= high),
        seen,
        by_folds,
    )


def compare(
    old: Model,
    new: Model,
    load: Callable[[int], Dataset],
    *,
    at: Callable[[int, int], None] = lambda _done, _total: None,
) -> Comparison:
    """Compare two models on the photos that `load` reads at a given input size.

    Raises `CompareError`, `BundleError` or `DatasetError`.
    """
    cards = old.bundle.card, new.bundle.card
    if cards[0].labels != cards[1].labels:
        raise CompareError(
            f"{cards[0].version} tells {_classes(cards[0].labels)}, {cards[1].version} tells "
            f"{_classes(cards[1].labels)}: only models of the same classes, in the same order, "
            "can be compared"
        )
    data = load(cards[0].input_size)
    photos, truth = data.photos, data.truth()
    before = answer(old, data, folds=True, at=at)
    if cards[1].input_size != cards[0].input_size:
        del data  # one set of pixels at a time
        data = load(cards[1].input_size)
        if data.photos != photos:
            raise CompareError("the photos changed while they were read; compare again")
    after = answer(new, data, folds=True, at=at)

    sound = before.sound & after.sound
    flattering = not sound.any()
    counted = sound | flattering
    right = before.predicted == truth, after.predicted == truth
    kinds = np.array([photo.kind for photo in photos])
    return Comparison(
        cards[0].version,
        cards[1].version,
        tuple(model.bundle.card.version for model in (old, new) if model.record is None),
        int((~counted).sum()),
        flattering,
        _count(*right, counted),
        {
            str(kind): _count(*right, counted & (kinds == kind))
            for kind in np.unique(kinds[counted])
        },
    )


def _count(old: Flags, new: Flags, of: Flags) -> Counts:
    """Count some of the photos; `old` and `new` tell which each model labels right."""
    return Counts(*(int(x[of].sum()) for x in (of, old, new, old & ~new, new & ~old)))


def mcnemar(only_old: int, only_new: int) -> float:
    """Return the two-sided p value of McNemar's exact test.

    It is the probability that the photos on which two models differ are divided at least this
    unevenly, if both models are equally likely to be right: a binomial test of one half (McNemar,
    Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12, 1947; exact, while the original approximates by chi-squared).
    """
    count, fewer = only_old + only_new, min(only_old, only_new)
    term = ways = 1
    for taken in range(fewer):
        term = term * (count - taken) // (taken + 1)
        ways += term
    share: float = 2 * ways / 2**count  # only this step rounds: the integers are exact
    return min(1.0, share)


def _classes(labels: tuple[str, str]) -> str:
    return f"{labels[0]!r} from {labels[1]!r}"

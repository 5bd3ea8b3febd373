"""Is a model better than another? Both label the same photos, and the answers are counted in pairs.

Photos that a model was trained on prove nothing, so a model's own label counts only for photos that
it has not seen. For the others its out-of-fold label counts, if its record has one: that of a
cross-validation model trained without the photo and its group. Photos for which one of the two
models has neither are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ..handler.classifier import Classifier
from ..handler.errors import LabelerError
from . import metrics, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from .dataset import Dataset, Photo
    from .metrics import Figure
    from .provenance import Model

    Indices = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

Verdict = Literal["better", "worse", "undecided"]

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
class Side:
    """One of the two models."""

    version: str
    recorded: bool
    """Whether it is known what the model was trained on."""
    answers: Answers
    """Its answers for the photos that count."""
    figures: dict[str, Figure]
    """Those of `metrics.measure`, and `needs_review`: the share of labels that need review."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models, photo by photo."""

    labels: tuple[str, str]
    photos: tuple[Photo, ...]
    """The photos that count."""
    truth: Indices
    """Class index of each photo, shape (photos,)."""
    left_out: int
    """Number of photos that do not count, because a model was trained on them."""
    flattering: bool
    """Every photo was in training. So all of them count, and the figures flatter the models."""
    old: Side
    new: Side
    difference: Figure
    """The new model's accuracy minus the old one's, with the interval of the paired bootstrap."""

    @property
    def only_old(self) -> Indices:
        """Indices in `photos` of those that only the old model labels right."""
        return np.flatnonzero(self._right(self.old) & ~self._right(self.new))

    @property
    def only_new(self) -> Indices:
        """Indices in `photos` of those that only the new model labels right."""
        return np.flatnonzero(self._right(self.new) & ~self._right(self.old))

    @property
    def both_right(self) -> int:
        """Count the photos that both label right."""
        return int((self._right(self.old) & self._right(self.new)).sum())

    @property
    def both_wrong(self) -> int:
        """Count the photos that both label wrong."""
        return int((~self._right(self.old) & ~self._right(self.new)).sum())

    @property
    def p_value(self) -> float:
        """Return the p value of `mcnemar` for the photos on which the two models differ."""
        return mcnemar(len(self.only_old), len(self.only_new))

    @property
    def verdict(self) -> Verdict:
        """Tell whether the new model is better; undecided if the difference may be chance."""
        if self.p_value >= SIGNIFICANCE:
            return "undecided"
        return "better" if len(self.only_new) > len(self.only_old) else "worse"

    def kinds(self) -> dict[str, dict[str, int]]:
        """Count each kind's photos: all, those each model labels right, those only one does."""
        old, new = self._right(self.old), self._right(self.new)
        names = np.array([photo.kind for photo in self.photos])
        return {
            str(kind): {
                "photos": int(of.sum()),
                "old_right": int(old[of].sum()),
                "new_right": int(new[of].sum()),
                "only_old": int((old & ~new)[of].sum()),
                "only_new": int((new & ~old)[of].sum()),
            }
            for kind in np.unique(names)
            for of in [names == kind]
        }

    def _right(self, side: Side) -> Flags:
        right: Flags = side.answers.predicted == self.truth
        return right


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
    groups: Iterable[str] = (),
    seed: int,
    at: Callable[[int, int], None] = lambda _done, _total: None,
) -> Comparison:
    """Compare two models on the photos that `load` reads at a given input size.

    Near-duplicates, and photos that the files `groups` put into one group (see `split.groups`), are
    drawn together in the bootstrap of all intervals. McNemar's test counts each photo by itself.

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
    photos, truth, labels = data.photos, data.truth(), data.labels
    group = split.groups(photos, data.pixels, groups)
    answers = [answer(old, data, folds=True, at=at)]
    if cards[1].input_size != cards[0].input_size:
        del data  # one set of pixels at a time
        data = load(cards[1].input_size)
        if data.photos != photos:
            raise CompareError("the photos changed while they were read; compare again")
    answers.append(answer(new, data, folds=True, at=at))

    sound = answers[0].sound & answers[1].sound
    flattering = not sound.any()
    counted = np.flatnonzero(sound | flattering)
    truth, group = truth[counted], group[counted]
    before, after = (
        _side(model, _taken(found, counted), truth, group, seed)
        for model, found in zip((old, new), answers, strict=True)
    )
    gain = (after.answers.predicted == truth) - (before.answers.predicted == truth).astype(float)
    difference = metrics.bootstrap(
        lambda index: {"accuracy": float(gain[index].mean())},
        len(truth),
        seed=seed,
        groups=group,
    )
    return Comparison(
        labels,
        tuple(photos[place] for place in counted),
        truth,
        len(photos) - len(counted),
        flattering,
        before,
        after,
        difference["accuracy"],
    )


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


def document(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as a JSON document."""
    return {
        "verdict": comparison.verdict,
        "photos": len(comparison.photos),
        "left_out": comparison.left_out,
        "flattering": comparison.flattering,
        "old": _side_document(comparison.old),
        "new": _side_document(comparison.new),
        "difference": metrics.numbers(comparison.difference),
        "mcnemar": {
            "both_right": comparison.both_right,
            "only_old": len(comparison.only_old),
            "only_new": len(comparison.only_new),
            "both_wrong": comparison.both_wrong,
            "p": comparison.p_value,
        },
        "kinds": comparison.kinds(),
        "differ": [
            {
                "file": comparison.photos[place].name,
                "kind": comparison.photos[place].kind,
                "truth": comparison.labels[comparison.truth[place]],
                "old": float(comparison.old.answers.probabilities[place]),
                "new": float(comparison.new.answers.probabilities[place]),
                "right": who,
            }
            for who, places in (("old", comparison.only_old), ("new", comparison.only_new))
            for place in places
        ],
    }


def _side_document(side: Side) -> dict[str, Any]:
    return {
        "version": side.version,
        "recorded": side.recorded,
        "by_cross_validation": int(side.answers.folds.sum()),
        "seen": int((~side.answers.sound).sum()),
        "metrics": {name: metrics.numbers(figure) for name, figure in side.figures.items()},
    }


def _side(model: Model, found: Answers, truth: Indices, group: Indices, seed: int) -> Side:
    figures = metrics.figures(
        truth,
        found.probabilities,
        found.predicted,
        seed=seed,
        groups=group,
        reviewed=found.review,
    )
    return Side(model.bundle.card.version, model.record is not None, found, figures)


def _taken(found: Answers, places: Indices) -> Answers:
    return Answers(
        found.probabilities[places],
        found.predicted[places],
        found.review[places],
        found.seen[places],
        found.folds[places],
    )


def _classes(labels: tuple[str, str]) -> str:
    return f"{labels[0]!r} from {labels[1]!r}"

"""Is a model better than another? Both label the same photos, and the answers are counted in pairs.

Photos that a model was trained on prove nothing, so a model's own label counts only for photos that
it has not seen. For the others its out-of-fold label counts, if its record has one: that of a
cross-validation model trained without the photo and its group. Photos for which one of the two
models has neither are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from alpaca_labeler.model.classifier import Classifier

from .arrays import Flags
from .dataset import Dataset, at_size
from .metrics import Decision, Judged
from .provenance import Model, Record

SIGNIFICANCE: Final = 0.05
"""A difference counts if chance alone would make one this large with a lower probability."""


def answer(
    model: Model, data: Dataset, *, at: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[Judged, Flags]:
    """Label photos as the handler does; `data` has the model's input size.

    Also returns, with the shape (photos,), whether each answer comes from a model that has seen
    neither the photo nor its group, as far as the record tells: a photo that the model has seen
    gets its out-of-fold answer, if there is one. `at` is called with how many photos of how many
    have been labelled.

    Raises `BundleError`.
    """
    classifier, card = Classifier(model.bundle), model.bundle.card
    record = model.record or Record(frozenset(), {})
    probabilities, sound = np.zeros(len(data.photos)), np.ones(len(data.photos), dtype=np.bool_)
    for place, (photo, pixels) in enumerate(zip(data.photos, data.pixels, strict=True)):
        if photo.sha256 in record.seen and photo.sha256 in record.judged:
            probabilities[place] = record.judged[photo.sha256]
        else:
            probabilities[place] = classifier.predict(pixels).probability
            sound[place] = photo.sha256 not in record.seen
        at(place + 1, len(data.photos))
    decision = Decision(card.calibration, card.threshold, card.review_band)
    return decision.judge(data.truth(), probabilities), sound


def compare(
    old: Model,
    new: Model,
    data: Dataset,
    *,
    at: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, Any]:
    """Compare two models of the same classes, for JSON; `data` has the old model's input size.

    verdict: `better` or `worse`; `undecided` if the difference may be chance
    p: `mcnemar` of the photos on which the models differ
    left_out: number of photos that do not count, because a model was trained on them
    flattering: every photo was in training, so all of them count, and the figures flatter
    total: number of photos, of those that each model labels right, and that it alone labels right
    kinds: the same for each kind of photo

    Raises `BundleError`, and `DatasetError` if the new model needs the photos at another size and
    they have changed.
    """
    before, sound_before = answer(old, data, at=at)
    size = new.bundle.card.input_size
    if size != old.bundle.card.input_size:
        data = replace(data, pixels=at_size(data, size))
    after, sound_after = answer(new, data, at=at)

    kinds = np.array([photo.kind for photo in data.photos])
    sound = sound_before & sound_after
    flattering = not sound.any()
    counted = sound | flattering
    total = _count(before.right, after.right, counted)
    p = mcnemar(total["only_old"], total["only_new"])
    better = "better" if total["only_new"] > total["only_old"] else "worse"
    return {
        "verdict": better if p < SIGNIFICANCE else "undecided",
        "p": p,
        "left_out": int((~counted).sum()),
        "flattering": flattering,
        "total": total,
        "kinds": {
            str(kind): _count(before.right, after.right, counted & (kinds == kind))
            for kind in np.unique(kinds[counted])
        },
    }


def _count(old: Flags, new: Flags, of: Flags) -> dict[str, int]:
    """Count some of the photos; `old` and `new` tell which each model labels right."""
    parts = {
        "photos": of,
        "old_right": old,
        "new_right": new,
        "only_old": old & ~new,
        "only_new": new & ~old,
    }
    return {name: int(part[of].sum()) for name, part in parts.items()}


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

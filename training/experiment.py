"""From a data set to a trained, judged model: one split, or folds and then one of all photos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from . import metrics, split
from .arrays import Floats, Indices
from .dataset import Dataset
from .description import DatasetError
from .keras import fit
from .metrics import Decision, Judged
from .recipe import Recipe
from .report import Epoch

JUDGES = 5
"""Parts of the held-out photos: each is judged with a calibration of the others."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train, beyond the recipe."""

    recipe: Recipe
    weights: str | None
    seed: int
    folds: int = 0
    """0: one split. K: K-fold cross-validation, then one model of all photos, which is kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained network, how it decides, and how good that is."""

    settings: Settings
    fit: fit.Fit
    """With folds, its seconds are those of all trainings."""
    decision: Decision
    judged_on: Indices
    """Indices of the photos that were judged by a model that was not trained on them."""
    judged: Judged
    """What it said of them, each calibrated on others of them: see `judged_by_others`."""
    trained_on: Indices
    """Indices of the photos to train on, excluded ones included; shape (n,)."""

    @property
    def kept(self) -> str:
        """Say which weights are kept, and what was thrown away."""
        tried, kept = sum(epoch.phase == fit.TUNING for epoch in self.fit.history), self.fit.epochs
        early = "interrupted: " if self.fit.interrupted else ""
        if kept == tried:
            return f"{early}kept: the weights after all {tried} epochs of fine-tuning"
        if kept:
            return f"{early}kept: epoch {kept} of {tried} of fine-tuning, as later ones were worse"
        return f"{early}all {tried} epochs of fine-tuning were worse than the start, which is kept"


def train(
    data: Dataset,
    group: Indices,
    settings: Settings,
    *,
    progress: Callable[[Epoch], None],
    say: Callable[[str], None],
) -> Outcome:
    """Train a network and judge it.

    `group` is `split.groups`, shape (photos,); `say` is called with each step as text, `progress`
    with each epoch.

    Raises `NetworkError`, `DatasetError`.
    """
    job = _Job(data, group, settings, progress, say)
    return job.cross_validated() if settings.folds else job.single()


@dataclass(frozen=True)
class _Job:
    data: Dataset
    group: Indices
    settings: Settings
    progress: Callable[[Epoch], None]
    say: Callable[[str], None]

    @cached_property
    def start(self) -> fit.Start:
        settings = self.settings
        self.say(f"computing the features of {len(self.data.photos)} photos")
        return fit.start(
            self.data, self.group, settings.recipe, settings.weights, seed=settings.seed
        )

    def trained(self, train: Indices, validation: Indices | None) -> fit.Fit:
        kept = np.array([index for index in train if not self.data.photos[index].excluded])
        seed = self.settings.seed
        result = fit.fit(self.start, kept, validation, seed=seed, progress=self.progress)
        if result.interrupted and validation is None:
            raise KeyboardInterrupt  # figures of whole trainings would not be those of half of one
        return result

    def single(self) -> Outcome:
        held_out = np.array([photo.held_out for photo in self.data.photos])
        if held_out.any():
            # A group with photos on both sides, such as copies of one photo, is not trained on.
            seen = np.isin(self.group, self.group[held_out])
            train, validation = np.flatnonzero(~seen), np.flatnonzero(held_out)
            if len(np.unique(self.data.truth()[train])) < 2:
                raise DatasetError(
                    "of one class, every photo to train on is of a scene or source that "
                    "--validation has too; add photos of others to train on"
                )
        else:
            split.check_enough(self.data, self.group, split.VALIDATION_FOLDS)
            train, validation = split.holdout(self.data.strata(), self.group, self.settings.seed)
        self.say(f"{len(train)} photos to train on, {len(validation)} to validate")
        result = self.trained(train, validation)
        logits = fit.logits(result.network, self.data, validation)
        strata = np.array(self.data.strata())[validation].tolist()
        fold = split.folds(strata, self.group[validation], JUDGES, self.settings.seed)
        decision = metrics.decide(self.data.truth()[validation], logits)
        judged = judged_by_others(self.data.truth()[validation], logits, fold)
        return Outcome(self.settings, result, decision, validation, judged, train)

    def cross_validated(self) -> Outcome:
        settings, count, truth = self.settings, self.settings.folds, self.data.truth()
        split.check_enough(self.data, self.group, count)
        fold = split.folds(self.data.strata(), self.group, count, settings.seed)
        logits, seconds = np.full(len(fold), np.nan), 0.0
        for number in range(count):
            test, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            name = f"fold {number + 1} of {count}"
            self.say(f"{name}: {len(rest)} photos to train on, {len(test)} to judge")
            # No photos are held out for early stopping: the few dozen that could be spared tell
            # less about when to stop than the recipe's own number of epochs does.
            result = self.trained(rest, None)
            logits[test] = fit.logits(result.network, self.data, test)
            seconds += result.seconds
            right = (logits[test] > 0) == truth[test]
            self.say(f"{name}: {right.mean():.3f} right at a logit of 0, {result.seconds:.0f} s")
        self.say(f"all {len(fold)} photos")
        everything = np.arange(len(fold))
        result = self.trained(everything, None)
        whole = replace(result, seconds=result.seconds + seconds)
        judged = judged_by_others(truth, logits, fold)
        decision = metrics.decide(truth, logits)
        return Outcome(settings, whole, decision, everything, judged, everything)


def judged_by_others(truth: Indices, logits: Floats, fold: Indices) -> Judged:
    """Judge each fold by the decision of the other folds: no photo has a say in its own.

    All arrays have the shape (n,).
    """
    probabilities, predicted = np.empty(len(fold)), np.empty(len(fold), np.int64)
    reviewed = np.empty(len(fold), np.bool_)
    for number in np.unique(fold):
        mine = fold == number
        decision = metrics.decide(truth[~mine], logits[~mine])
        found = decision.judge(truth[mine], decision.probabilities(logits[mine]))
        probabilities[mine], predicted[mine] = found.probabilities, found.predicted
        reviewed[mine] = found.reviewed
    return Judged(truth, probabilities, predicted, reviewed)

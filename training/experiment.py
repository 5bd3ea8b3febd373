"""From a data set to a trained, judged model: one split, or folds and then one of all photos."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import fit, metrics, split

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from .dataset import Dataset
    from .metrics import Decision, Figure
    from .recipe import Recipe

    Indices = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train, beyond the recipe."""

    recipe: Recipe
    weights: str | None
    seed: int
    folds: int = 0
    """0: one split of 80/20. K: K models judge photos new to them; one of all photos ships."""
    excluded: frozenset[int] = frozenset()
    """Indices of photos that nothing is trained on (wrong labels); they count in every figure."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Photos that a model judged without having been trained on them."""

    indices: Indices
    logits: Floats
    probabilities: Floats
    """Of the positive class, calibrated on other photos where there are folds."""
    predicted: Indices
    """Class indices, by thresholds chosen on other photos where there are folds."""
    groups: Indices
    """Photos of one scene or source share a number: see `split.groups`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained network, how it decides, and how good that is."""

    network: Any
    settings: Settings
    decision: Decision
    judged: Judged
    trained_on: Indices
    history: tuple[fit.Epoch, ...]
    epochs: int
    """Of fine-tuning, in the network that ships."""
    seconds: float
    interrupted: bool


def train(
    data: Dataset,
    group: Indices,
    settings: Settings,
    *,
    progress: Callable[[fit.Epoch], None],
    say: Callable[[str], None],
) -> Outcome:
    """Train and judge.

    `group` is `split.groups`; `say` is told what happens, `progress` every epoch.

    Raises `NetworkError`, `DatasetError`.
    """
    started = time.monotonic()
    job = _Job(data, group, settings, progress, say)
    outcome = job.cross_validated() if settings.folds else job.single()
    return replace(outcome, seconds=time.monotonic() - started)


def figures(data: Dataset, judged: Judged, *, seed: int) -> dict[str, dict[str, Figure]]:
    """Return the figures of the data set's own photos, of those of extra folders, and of all."""
    truth, extra = data.truth()[judged.indices], data.extra()[judged.indices]
    parts = {"data set": ~extra, "extra": extra}
    if extra.any():
        parts["all"] = np.ones(len(truth), dtype=np.bool_)
    return {
        name: metrics.figures(
            truth[of],
            judged.probabilities[of],
            judged.predicted[of],
            seed=seed,
            groups=judged.groups[of],
        )
        for name, of in parts.items()
        if of.any()
    }


class _Job:
    def __init__(
        self,
        data: Dataset,
        group: Indices,
        settings: Settings,
        progress: Callable[[fit.Epoch], None],
        say: Callable[[str], None],
    ) -> None:
        self.data, self.group, self.settings, self.progress, self.say = (
            data,
            group,
            settings,
            progress,
            say,
        )
        # Dealt evenly: classes, and the data set's own photos among those of extra folders.
        self.strata = [(photo.label, photo.extra) for photo in data.photos]
        self.truth = data.truth()
        self.begin: fit.Start | None = None

    def fit(self, train: Indices, validation: Indices | None) -> fit.Fit:
        settings = self.settings
        if self.begin is None:
            self.say("what the frozen layers make of every photo, once for all")
            self.begin = fit.start(
                self.data, settings.recipe, settings.weights, seed=settings.seed, say=self.say
            )
        kept = np.array([index for index in train if index not in settings.excluded])
        return fit.fit(self.begin, kept, validation, seed=settings.seed, progress=self.progress)

    def single(self) -> Outcome:
        settings = self.settings
        if settings.recipe.split == "reference":
            train, validation = split.reference(self.data.photos, settings.seed)
        else:
            train, validation = split.holdout(self.strata, self.group, settings.seed)
        self.say(f"{len(train)} photos to train on, {len(validation)} to validate")
        result = self.fit(train, validation)
        logits = fit.logits(result.network, self.data, validation)
        decision = self._decide(validation, logits)
        judged = self._judge(decision, validation, logits)
        return Outcome(
            result.network,
            settings,
            decision,
            judged,
            train,
            tuple(_mean_history([result.history])),
            result.best_epochs,
            0.0,
            result.interrupted,
        )

    def cross_validated(self) -> Outcome:
        settings = self.settings
        fold = split.folds(self.strata, self.group, settings.folds, settings.seed)
        results: list[fit.Fit] = []
        logits = np.full(len(fold), np.nan)
        for number in range(settings.folds):
            test, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            self.say(
                f"fold {number + 1} of {settings.folds}: {len(rest)} photos to train on, "
                f"{len(test)} to judge"
            )
            # Nothing is held out to stop by: the few dozen photos that could be spared say less of
            # when to stop than the recipe's own number of epochs does.
            results.append(self.fit(rest, None))
            logits[test] = fit.logits(results[-1].network, self.data, test)
            right = (logits[test] > 0) == self.truth[test]
            self.say(f"fold {number + 1}: {right.mean():.3f} of its photos right at a logit of 0")
            if results[-1].interrupted:
                break
        history = tuple(_mean_history([result.history for result in results]))
        seen = np.flatnonzero(~np.isnan(logits))
        decision = self._decide(seen, logits[seen])
        judged = self._judge_by_others(fold, seen, logits)
        if results[-1].interrupted:  # no time for another model: the last one ships
            last, trained_on = results[-1], rest
        else:
            self.say(f"all {len(fold)} photos")
            last, trained_on = self.fit(np.arange(len(fold)), None), np.arange(len(fold))
        return Outcome(
            last.network,
            settings,
            decision,
            judged,
            trained_on,
            history,
            last.best_epochs,
            0.0,
            last.interrupted,
        )

    def _decide(self, indices: Indices, logits: Floats) -> Decision:
        """Decide with the data set's own photos counting as much as all of the extra folders'."""
        extra = self.data.extra()[indices]
        weights = np.ones(len(indices))
        if 0 < (share := extra.mean()) < 1:
            weights = np.where(extra, 0.5 / share, 0.5 / (1 - share))
        return metrics.decide(self.truth[indices], logits, weights)

    def _judge_by_others(self, fold: Indices, seen: Indices, logits: Floats) -> Judged:
        """Label each fold by what the other folds' photos say about calibration and threshold."""
        parts = []
        for number in np.unique(fold[seen]):
            mine, others = seen[fold[seen] == number], seen[fold[seen] != number]
            source = others if len(others) else mine  # interrupted in the first fold
            decision = self._decide(source, logits[source])
            parts.append(self._judge(decision, mine, logits[mine]))
        order = np.argsort(np.concatenate([part.indices for part in parts]))
        return Judged(
            *(
                np.concatenate([getattr(part, name) for part in parts])[order]
                for name in ("indices", "logits", "probabilities", "predicted", "groups")
            )
        )

    def _judge(self, decision: Decision, indices: Indices, logits: Floats) -> Judged:
        probabilities = decision.probabilities(logits)
        predicted = (probabilities >= decision.threshold).astype(np.int64)
        return Judged(indices, logits, probabilities, predicted, self.group[indices])


def _mean_history(histories: list[tuple[fit.Epoch, ...]]) -> list[fit.Epoch]:
    found: dict[tuple[str, int], list[fit.Epoch]] = {}
    for history in histories:
        for entry in history:
            found.setdefault((entry.phase, entry.epoch), []).append(entry)
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return [
        fit.Epoch(
            phase, epoch, *(math.fsum(getattr(e, name) for e in same) / len(same) for name in names)
        )
        for (phase, epoch), same in found.items()
    ]

"""From a data set to a trained, judged model: one split, or folds and then one of all photos."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from . import metrics, split
from .arrays import Flags, Floats, Indices
from .dataset import Dataset
from .description import DatasetError
from .keras import fit, reader
from .metrics import Decision, Figure
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
    folder: str = ""
    """The data set's folder, for recipes that let Keras read it."""
    done: str = ""
    """Folder in which the results of finished folds are kept; empty: nowhere."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Photos judged by a model that was not trained on them; each array has the shape (n,)."""

    indices: Indices
    """Their indices in the data set."""
    probabilities: Floats
    """Probability of the positive class, 0..1, calibrated on other photos than these."""
    predicted: Indices
    """Class indices, by the same decision."""
    reviewed: Flags
    """Whether the photo lies inside the review band of the same decision."""
    groups: Indices
    """Photos of one scene or source share a number: see `split.groups`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trained network, how it decides, and how good that is."""

    settings: Settings
    fit: fit.Fit
    """With folds, its seconds are those of all trainings."""
    decision: Decision
    judged: Judged
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
            return (
                f"{early}kept: epoch {kept} of {tried} of fine-tuning, the best on held-out photos"
            )
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
    with each epoch. Cross-validation continues where an earlier one of the same photos and settings
    stopped, if `settings.done` is the same folder.

    Raises `NetworkError`, `DatasetError`.
    """
    job = _Job(data, group, settings, progress, say)
    if settings.recipe.reader == "keras":
        return job.by_keras()
    return job.cross_validated() if settings.folds else job.single()


def figures(data: Dataset, judged: Judged, *, seed: int) -> dict[str, Figure]:
    """Return the figures of the judged photos, each with its interval."""
    return metrics.figures(
        data.truth()[judged.indices],
        judged.probabilities,
        judged.predicted,
        seed=seed,
        groups=judged.groups,
    )


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

    @property
    def strata(self) -> list[str]:
        """What folds are stratified by: class, and kind within a class."""
        return [f"{photo.label} {photo.kind}" for photo in self.data.photos]

    def trained(self, train: Indices, validation: Indices | None) -> fit.Fit:
        kept = np.array([index for index in train if not self.data.photos[index].excluded])
        seed = self.settings.seed
        return fit.fit(self.start, kept, validation, seed=seed, progress=self.progress)

    def by_keras(self) -> Outcome:
        settings = self.settings
        photos, train, validation = reader.from_directory(
            settings.folder, self.data, settings.recipe, seed=settings.seed
        )
        self._say_split(train, validation)
        result = fit.fit_directory(self.start, photos, seed=settings.seed, progress=self.progress)
        return self._judged_by_split(result, train, validation)

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
            split.check_enough(self.data, self.group, round(1 / split.VALIDATION_SHARE))
            train, validation = split.holdout(self.strata, self.group, self.settings.seed)
        self._say_split(train, validation)
        return self._judged_by_split(self.trained(train, validation), train, validation)

    def _say_split(self, train: Indices, validation: Indices) -> None:
        self.say(f"{len(train)} photos to train on, {len(validation)} to validate")

    def _judged_by_split(self, result: fit.Fit, train: Indices, validation: Indices) -> Outcome:
        logits = fit.logits(result.network, self.data, validation)
        strata = [self.strata[index] for index in validation]
        fold = split.folds(strata, self.group[validation], JUDGES, self.settings.seed)
        judged = self._judge_by_others(validation, fold, logits)
        decision = metrics.decide(self.data.truth()[validation], logits)
        return Outcome(self.settings, result, decision, judged, train)

    def cross_validated(self) -> Outcome:
        settings, count, truth = self.settings, self.settings.folds, self.data.truth()
        split.check_enough(self.data, self.group, count)
        fold = split.folds(self.strata, self.group, count, settings.seed)
        kept = _Kept(settings, self.data, self.group)
        logits = np.full(len(fold), np.nan)
        done = []
        for number in range(count):
            test, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            name = f"fold {number + 1} of {count}"
            if (found := kept.read(number)) is None:
                self.say(f"{name}: {len(rest)} photos to train on, {len(test)} to judge")
                found = self._fold(rest, test)
                kept.write(number, found)
            logits[test] = found.logits
            done.append(found)
            right = (logits[test] > 0) == truth[test]
            self.say(f"{name}: {right.mean():.3f} right at a logit of 0, {found.seconds:.0f} s")
        self.say(f"all {len(fold)} photos")
        everything = np.arange(len(fold))
        result = self.trained(everything, None)
        whole = replace(result, seconds=result.seconds + sum(each.seconds for each in done))
        judged = self._judge_by_others(everything, fold, logits)
        return Outcome(settings, whole, metrics.decide(truth, logits), judged, everything)

    def _fold(self, rest: Indices, test: Indices) -> _Fold:
        # No photos are held out for early stopping: the few dozen that could be spared tell less
        # about when to stop than the recipe's own number of epochs does.
        result = self.trained(rest, None)
        if result.interrupted:
            raise KeyboardInterrupt
        logits = fit.logits(result.network, self.data, test)
        return _Fold(logits.tolist(), result.seconds)

    def _judge_by_others(self, indices: Indices, fold: Indices, logits: Floats) -> Judged:
        """Choose each fold's decision on the other folds: no photo is judged by its own."""
        parts, truth = [], self.data.truth()[indices]
        for number in np.unique(fold):
            mine = fold == number
            decision = metrics.decide(truth[~mine], logits[~mine])
            parts.append(self._judge(decision, indices[mine], logits[mine]))
        order = np.argsort(np.concatenate([part.indices for part in parts]))
        names = ("indices", "probabilities", "predicted", "reviewed", "groups")
        return Judged(
            *(np.concatenate([getattr(part, name) for part in parts])[order] for name in names)
        )

    def _judge(self, decision: Decision, indices: Indices, logits: Floats) -> Judged:
        probabilities = decision.probabilities(logits)
        predicted = (probabilities >= decision.threshold).astype(np.int64)
        low, high = decision.review_band
        reviewed = (probabilities >= low) & (probabilities <= high)
        return Judged(indices, probabilities, predicted, reviewed, self.group[indices])


# --- finished folds, kept for a run that continues -----------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fold:
    """The result of one fold: what its model says about its photos."""

    logits: Sequence[float]
    seconds: float


def forget_folds(settings: Settings, data: Dataset, group: Indices) -> None:
    """Remove the folds that were kept for this run, now that its bundle is written."""
    _Kept(settings, data, group).remove()


@dataclass(frozen=True)
class _Kept:
    """Finished folds, one file each, so that the same command continues after an interruption."""

    settings: Settings
    data: Dataset = field(repr=False)
    group: Indices = field(repr=False)

    @cached_property
    def key(self) -> str:
        """What the folds of the same photos and settings have in common."""
        weights = self.settings.weights
        if weights and weights != "imagenet":
            weights = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
        same = {
            **asdict(replace(self.settings, weights=weights, folder="", done="")),
            "photos": self.data.fingerprint(),
            "used": [(photo.kind, photo.excluded) for photo in self.data.photos],
            "group": self.group.tolist(),
        }
        return hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:12]

    def read(self, number: int) -> _Fold | None:
        """Return a fold that an earlier run of the same photos and settings has finished."""
        if not self.settings.done or not (file := self._file(number)).exists():
            return None
        return _Fold(**json.loads(file.read_text("utf-8")))

    def write(self, number: int, fold: _Fold) -> None:
        """Keep a fold, if there is a place for it."""
        if not self.settings.done:
            return
        file = self._file(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(fold)), "utf-8")
        partial.replace(file)  # atomic: the file is whole, or does not exist

    def remove(self) -> None:
        """Remove what `write` has kept, and the folder if no other run has folds in it."""
        folder = Path(self.settings.done)
        if not self.settings.done or not folder.is_dir():
            return
        for file in folder.glob(f"{self.key}-fold-*"):
            file.unlink()
        with suppress(OSError):
            folder.rmdir()

    def _file(self, number: int) -> Path:
        return Path(self.settings.done, f"{self.key}-fold-{number + 1}.json")

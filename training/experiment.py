"""From a data set to a trained, judged model: one split, or folds and then one of all photos."""

from __future__ import annotations

import hashlib
import json
import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import metrics, split
from .description import DatasetError
from .keras import fit, reader

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
    logits: Floats
    probabilities: Floats
    """Probability of the positive class, 0..1; with folds, calibrated on the other folds."""
    predicted: Indices
    """Class indices, by the same decision."""
    reviewed: npt.NDArray[np.bool_]
    """Whether the photo lies inside the review band of the same decision."""
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
    """Indices of the photos to train on, excluded ones included; shape (n,)."""
    history: tuple[fit.Epoch, ...]
    epochs: int
    """Epochs of fine-tuning behind the network."""
    seconds: float
    """Time that training took, folds of earlier runs included."""
    interrupted: bool
    """Whether Ctrl-C was pressed: the network is the best until then."""


def train(
    data: Dataset,
    group: Indices,
    settings: Settings,
    *,
    progress: Callable[[fit.Epoch], None],
    say: Callable[[str], None],
) -> Outcome:
    """Train a network and judge it.

    `group` is `split.groups`, shape (photos,); `say` is called with each step as text, `progress`
    with each epoch. Cross-validation continues where an earlier one of the same photos and settings
    stopped, if `settings.done` is the same folder.

    Raises `NetworkError`, `DatasetError`.
    """
    began = time.monotonic()
    job = _Job(data, group, settings, progress, say)
    if settings.recipe.reader == "keras":
        outcome = job.by_keras()
    elif settings.folds:
        outcome = job.cross_validated()
    else:
        outcome = job.single()
    return replace(outcome, seconds=outcome.seconds + time.monotonic() - began)


def figures(data: Dataset, judged: Judged, *, seed: int) -> dict[str, Figure]:
    """Return the figures of the judged photos, each with its interval."""
    return metrics.figures(
        data.truth()[judged.indices],
        judged.probabilities,
        judged.predicted,
        seed=seed,
        groups=judged.groups,
    )


class _Job:
    def __init__(
        self,
        data: Dataset,
        group: Indices,
        settings: Settings,
        progress: Callable[[fit.Epoch], None],
        say: Callable[[str], None],
    ) -> None:
        self.data, self.group, self.settings = data, group, settings
        self.progress, self.say = progress, say
        self.truth = data.truth()
        # Folds are stratified by class, and by kind within a class.
        self.strata = [f"{photo.label} {photo.kind}" for photo in data.photos]
        self.begin: fit.Start | None = None

    def start(self) -> fit.Start:
        if self.begin is None:
            settings = self.settings
            self.begin = fit.start(
                self.data, self.group, settings.recipe, settings.weights, seed=settings.seed
            )
        return self.begin

    def trained(self, train: Indices, validation: Indices | None) -> fit.Fit:
        kept = np.array([index for index in train if not self.data.photos[index].excluded])
        return fit.fit(
            self.start(), kept, validation, seed=self.settings.seed, progress=self.progress
        )

    def by_keras(self) -> Outcome:
        settings = self.settings
        parts = reader.from_directory(
            settings.folder, self.data, settings.recipe, seed=settings.seed
        )
        self._say_split(parts.train_indices, parts.validation_indices)
        result = fit.fit_directory(self.start(), parts, seed=settings.seed, progress=self.progress)
        return self._judged_by_split(result, parts.train_indices, parts.validation_indices)

    def single(self) -> Outcome:
        held_out = np.array([photo.held_out for photo in self.data.photos])
        if held_out.any():
            # A group with photos on both sides, such as copies of one photo, is not trained on.
            seen = np.isin(self.group, self.group[held_out])
            train, validation = np.flatnonzero(~seen), np.flatnonzero(held_out)
            if len(np.unique(self.truth[train])) < 2:
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
        decision = metrics.decide(self.truth[validation], logits)
        judged = self._judge(decision, validation, logits)
        return Outcome(
            result.network,
            self.settings,
            decision,
            judged,
            train,
            result.history,
            result.epochs,
            0.0,
            result.interrupted,
        )

    def cross_validated(self) -> Outcome:
        settings, count = self.settings, self.settings.folds
        split.check_enough(self.data, self.group, count)
        fold = split.folds(self.strata, self.group, count, settings.seed)
        everything = np.arange(len(fold))
        logits = np.full(len(fold), np.nan)
        kept = _Kept(settings, self.data, self.group)
        histories, seconds = [], 0.0
        for number in range(count):
            test, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            name = f"fold {number + 1} of {count}"
            if (found := kept.read(number)) is None:
                self.say(f"{name}: {len(rest)} photos to train on, {len(test)} to judge")
                # No photos are held out for early stopping: the few dozen that could be spared tell
                # less about when to stop than the recipe's own number of epochs does.
                began = time.monotonic()
                result = self.trained(rest, None)
                if result.interrupted:
                    raise KeyboardInterrupt
                found = kept.write(
                    number, result, fit.logits(result.network, self.data, test), began
                )
            logits[test] = found.logits
            histories.append(found.history)
            right = (logits[test] > 0) == self.truth[test]
            minutes = f"{found.seconds / 60:.0f} min"
            self.say(f"{name}: {right.mean():.3f} right at a logit of 0, {minutes}")
            seconds += found.seconds if found.earlier else 0.0
        decision = metrics.decide(self.truth, logits)
        self.say(f"all {len(fold)} photos")
        result = self.trained(everything, None)
        return Outcome(
            result.network,
            settings,
            decision,
            self._judge_by_others(fold, logits),
            everything,
            tuple(_mean_history(histories)),
            result.epochs,
            seconds,
            result.interrupted,
        )

    def _judge_by_others(self, fold: Indices, logits: Floats) -> Judged:
        """Choose each fold's decision on the other folds, so that it is out-of-fold as well."""
        parts = []
        for number in np.unique(fold):
            mine, others = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
            decision = metrics.decide(self.truth[others], logits[others])
            parts.append(self._judge(decision, mine, logits[mine]))
        order = np.argsort(np.concatenate([part.indices for part in parts]))
        names = ("indices", "logits", "probabilities", "predicted", "reviewed", "groups")
        return Judged(
            *(np.concatenate([getattr(part, name) for part in parts])[order] for name in names)
        )

    def _judge(self, decision: Decision, indices: Indices, logits: Floats) -> Judged:
        probabilities = decision.probabilities(logits)
        predicted = (probabilities >= decision.threshold).astype(np.int64)
        low, high = decision.review_band
        reviewed = (probabilities >= low) & (probabilities <= high)
        return Judged(indices, logits, probabilities, predicted, reviewed, self.group[indices])


@dataclass(frozen=True, slots=True)
class _Fold:
    """The result of one fold: what its model says about its photos."""

    logits: Floats
    history: tuple[fit.Epoch, ...]
    seconds: float
    earlier: bool
    """Whether an earlier run trained it."""


def forget_folds(settings: Settings, data: Dataset, group: Indices) -> None:
    """Remove the folds that were kept for this run, now that its bundle is written."""
    _Kept(settings, data, group).remove()


class _Kept:
    """Finished folds, one file each, so that the same command continues after an interruption."""

    def __init__(self, settings: Settings, data: Dataset, group: Indices) -> None:
        self.folder = Path(settings.done) if settings.done else None
        weights = settings.weights
        if weights and weights != "imagenet":
            weights = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
        same = {
            "photos": data.fingerprint(),
            "kinds": [photo.kind for photo in data.photos],
            "group": group.tolist(),
            "recipe": asdict(settings.recipe),
            "weights": weights,
            "seed": settings.seed,
            "folds": settings.folds,
            "excluded": [photo.excluded for photo in data.photos],
        }
        self.key = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:12]

    def read(self, number: int) -> _Fold | None:
        """Return a fold that an earlier run of the same photos and settings has finished."""
        if self.folder is None or not (file := self._file(number)).exists():
            return None
        content = json.loads(file.read_text("utf-8"))
        history = tuple(fit.Epoch(**entry) for entry in content["history"])
        return _Fold(np.array(content["logits"]), history, content["seconds"], earlier=True)

    def write(self, number: int, result: fit.Fit, logits: Floats, began: float) -> _Fold:
        """Keep a fold's predictions."""
        done = _Fold(logits, result.history, time.monotonic() - began, earlier=False)
        if self.folder is not None:
            content = {
                "seconds": done.seconds,
                "history": [asdict(entry) for entry in done.history],
                "logits": logits.tolist(),
            }
            file = self._file(number)
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps(content), "utf-8")
            partial.replace(file)  # atomic: the file is whole, or does not exist
        return done

    def remove(self) -> None:
        """Remove what `write` has kept, and the folder if no other run has folds in it."""
        if self.folder is None or not self.folder.is_dir():
            return
        for file in self.folder.glob(f"{self.key}-fold-*"):
            file.unlink()
        with suppress(OSError):
            self.folder.rmdir()

    def _file(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{self.key}-fold-{number + 1}.json"


def _mean_history(histories: list[tuple[fit.Epoch, ...]]) -> list[fit.Epoch]:
    found: dict[tuple[str, int], list[fit.Epoch]] = {}
    for history in histories:
        for entry in history:
            found.setdefault((entry.phase, entry.epoch), []).append(entry)

    def mean(same: list[fit.Epoch], name: str) -> float:
        return math.fsum(getattr(entry, name) for entry in same) / len(same)

    return [
        replace(
            same[0],
            loss=mean(same, "loss"),
            accuracy=mean(same, "accuracy"),
            val_loss=mean(same, "val_loss"),
            val_accuracy=mean(same, "val_accuracy"),
        )
        for same in found.values()
    ]

"""Training itself: a frozen base first, then its last layers with care. Keeps the best model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from . import logistic, views
from . import network as networks

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from .dataset import Dataset
    from .recipe import FineTuning, Recipe

    Indices = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

PREDICT_BATCH = 32


@dataclass(frozen=True, slots=True)
class Start:
    """What every training of one recipe on a data set begins with, whichever photos it is of."""

    data: Dataset
    recipe: Recipe
    weights: str | None
    views: npt.NDArray[np.float16]
    """`views.make`: activations where the layers that learn begin."""
    features: npt.NDArray[np.float32] | None
    """Pooled features of every photo and its mirror image, (2, photos, channels), where the head
    is solved on them."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """How far training has come. The validation figures are nan where nothing was held out."""

    phase: str
    """`frozen` or `fine-tuning`."""
    epoch: int
    """From 1, within its phase."""
    loss: float
    """Mean log loss as trained on: augmented, smoothed."""
    accuracy: float
    val_loss: float
    """Mean log loss, every class weighing the same."""
    val_accuracy: float


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained network and how it came about."""

    network: Any
    history: tuple[Epoch, ...]
    best_epochs: int
    """Epochs of fine-tuning that the kept weights have seen."""
    interrupted: bool
    """Ctrl-C was pressed: the network is the best until then."""


def deterministic(seed: int) -> None:
    """Make everything that follows in this process the same for the same seed."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def start(
    data: Dataset,
    recipe: Recipe,
    weights: str | None,
    *,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> Start:
    """Return where `fit` starts. Raises `NetworkError`, `DatasetError`."""
    deterministic(seed)
    stem, rest = networks.cut(networks.build(recipe, weights), recipe.fine_tuning.from_layer)
    made = views.make(stem, data, recipe.augmentation, seed=seed, say=say)
    if recipe.head.method != "logistic":
        return Start(data, recipe, weights, made, None)
    features = [_predict(rest, made[:, which]) for which in (views.PLAIN, views.MIRRORED)]
    return Start(data, recipe, weights, made, np.stack(features))


def fit(
    begin: Start,
    train: Indices,
    validation: Indices | None,
    *,
    seed: int,
    progress: Callable[[Epoch], None],
) -> Fit:
    """Train on some of the photos.

    `validation` decides which epoch is kept; without it the last is.

    Raises `NetworkError`.
    """
    deterministic(seed)
    recipe = begin.recipe
    network = networks.build(recipe, begin.weights)
    network.get_layer(networks.BASE).trainable = False
    run = _Run(begin, train, validation, network, seed=seed, progress=progress)
    tuning = recipe.fine_tuning
    tuned: list[list[Any]] = []
    try:
        if begin.features is not None:
            run.solve_head(begin.features)
        else:
            rate = recipe.head.learning_rate
            run.epochs("frozen", keras.optimizers.Adam(rate), recipe.head.epochs)
        networks.unfreeze(network, tuning.from_layer)
        before = run.state()
        for _ in range(tuning.averaged):
            run.reset(before)
            run.epochs(
                "fine-tuning",
                _optimizer(tuning, run.steps()),
                tuning.epochs,
                ema=tuning.ema,
                smoothing=tuning.label_smoothing,
                kinds=tuning.kinds,
                patience=tuning.patience,
            )
            tuned.append(run.best)
    except KeyboardInterrupt:
        run.interrupted = True
    # What an interrupt left unfinished counts only where there is nothing else.
    kept = zip(*(tuned or [run.best]), strict=True)
    network.set_weights([np.mean(same, axis=0) for same in kept])
    return Fit(network, tuple(run.history), run.best_epochs, run.interrupted)


def logits(network: Any, data: Dataset, indices: Indices) -> Floats:
    """Return the network's logits of some photos, shape (n,)."""
    return _predict(network, data.pixels[indices])[:, 0].astype(np.float64)


def _predict(
    model: Any, inputs: npt.NDArray[np.uint8] | npt.NDArray[np.float16]
) -> npt.NDArray[np.float32]:
    return np.concatenate(
        [
            model.predict_on_batch(inputs[start : start + PREDICT_BATCH].astype(np.float32))
            for start in range(0, len(inputs), PREDICT_BATCH)
        ]
    )


def _optimizer(tuning: FineTuning, steps: int) -> Any:
    """`steps` are those of one epoch."""
    rate: Any = tuning.learning_rate
    if tuning.cosine:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if tuning.warmup else rate,
            max((tuning.epochs - tuning.warmup) * steps, 1),
            alpha=0.02,
            warmup_target=rate if tuning.warmup else None,
            warmup_steps=tuning.warmup * steps,
        )
    average = {"use_ema": True, "ema_momentum": tuning.ema} if tuning.ema else {}
    if tuning.weight_decay:
        return keras.optimizers.AdamW(rate, weight_decay=tuning.weight_decay, **average)
    return keras.optimizers.Adam(rate, **average)


def log_loss(truth: Indices, logit: Floats, *, balanced: bool = True) -> float:
    """Return the mean log loss of logits; balanced, both classes weigh the same."""
    losses = np.logaddexp(0, logit) - truth * logit
    if balanced and 0 < truth.mean() < 1:
        return float((losses[truth == 0].mean() + losses[truth == 1].mean()) / 2)
    return float(losses.mean())


def kinds(data: Dataset) -> Indices:
    """Number the kinds of photos from 0: a class's own, and each sub-folder of an extra folder."""
    named = [(photo.label, photo.extra, photo.kind) for photo in data.photos]
    numbers = {name: number for number, name in enumerate(sorted(set(named)))}
    return np.array([numbers[name] for name in named])


def sample_weights(data: Dataset, indices: Indices, own_share: float) -> Floats:
    """Return each photo's chance of being drawn, shape (n,), sum 1: see `recipe.Sampling`."""
    chances = np.zeros(len(indices))
    for label in (0, 1):
        pools: dict[bool, dict[str, list[int]]] = {False: {}, True: {}}
        for place, index in enumerate(indices):
            photo = data.photos[index]
            if photo.label == label:
                pools[photo.extra].setdefault(photo.kind if photo.extra else "", []).append(place)
        shares = {False: own_share, True: 1 - own_share}
        total = sum(shares[extra] for extra, pool in pools.items() if pool)
        for extra, pool in pools.items():
            roots = sum(math.sqrt(len(places)) for places in pool.values())
            for places in pool.values():
                share = shares[extra] / total if total else 1.0
                chances[places] = share * math.sqrt(len(places)) / roots / len(places)
    chances /= chances.sum()
    return chances


class _Run:
    """One network in training, and the best of it so far."""

    def __init__(
        self,
        begin: Start,
        train: Indices,
        validation: Indices | None,
        network: Any,
        *,
        seed: int,
        progress: Callable[[Epoch], None],
    ) -> None:
        self.data, self.recipe, self.views = begin.data, begin.recipe, begin.views
        self.train, self.validation = train, validation
        self.network, self.progress = network, progress
        _, self.learning = networks.cut(network, self.recipe.fine_tuning.from_layer)
        self.truth, self.kinds = self.data.truth(), kinds(self.data)
        self.random = np.random.default_rng(seed)
        self.history: list[Epoch] = []
        self.best: list[Any] = network.get_weights()
        self.best_loss = math.inf
        self.best_epochs = 0
        self.interrupted = False

    def state(self) -> tuple[list[Any], list[Any], float]:
        """Return where the network stands and the best of it so far, for `reset`."""
        return self.network.get_weights(), self.best, self.best_loss

    def reset(self, state: tuple[list[Any], list[Any], float]) -> None:
        """Go back there; what is drawn next is drawn anew."""
        weights, self.best, self.best_loss = state
        self.best_epochs = 0
        self.network.set_weights(weights)

    def steps(self) -> int:
        return math.ceil(len(self._epoch_photos(np.random.default_rng(0))) / self.recipe.batch_size)

    def solve_head(self, features: npt.NDArray[np.float32]) -> None:
        """Phase one in one step: the optimum of the last layer on photos and mirror images."""
        x = features[:, self.train].reshape(-1, features.shape[-1]).astype(np.float64)
        y = np.tile(self.truth[self.train], 2)
        chances = sample_weights(self.data, self.train, self.recipe.sampling.own_share)
        smooth = self.recipe.fine_tuning.label_smoothing
        targets = (y * (1 - smooth) + smooth / 2).astype(np.float64)
        kernel, bias = logistic.fit(x, targets, np.tile(chances, 2), self.recipe.head.strength)
        self.network.get_layer(networks.HEAD).set_weights(
            [kernel[:, np.newaxis].astype(np.float32), np.array([bias], np.float32)]
        )
        z = x @ kernel + bias
        self._note("frozen", 1, log_loss(y, z), float(((z > 0) == y).mean()))

    def epochs(
        self,
        phase: str,
        optimizer: Any,
        count: int,
        *,
        ema: float = 0.0,
        smoothing: float = 0.0,
        kinds: float = 0.0,
        patience: int = 0,
    ) -> None:
        trainer = self._trainer(optimizer, smoothing, kinds)
        for epoch in range(1, count + 1):
            chosen = self._epoch_photos(self.random)
            sums = np.zeros(2)
            for start in range(0, len(chosen), self.recipe.batch_size):
                batch = chosen[start : start + self.recipe.batch_size]
                shown = self.random.integers(self.views.shape[1], size=len(batch))
                trainer.reset_metrics()
                figures = trainer.train_on_batch(
                    self.views[batch, shown].astype(np.float32),
                    [self.truth[batch, np.newaxis].astype(np.float32), self.kinds[batch]],
                    return_dict=True,
                )
                seen = [float(figures[name]) for name in ("logit_loss", "logit_accuracy")]
                sums += len(batch) * np.array(seen)
            raw = self.network.get_weights()
            if ema:
                optimizer.finalize_variable_values(trainer.trainable_variables)
            loss_seen, accuracy = sums / len(chosen)
            self._note(phase, epoch, float(loss_seen), float(accuracy))
            if patience and epoch - self.best_epochs >= patience and phase == "fine-tuning":
                return
            if ema:
                self.network.set_weights(raw)

    def _trainer(self, optimizer: Any, smoothing: float, kinds: float) -> Any:
        """Return the layers that may learn, with a second head beside the one that stays."""
        losses = keras.losses
        kind = keras.layers.Dense(int(self.kinds.max()) + 1, name="kind")
        head = self.network.get_layer(networks.HEAD)
        features = self.learning.output
        trainer = keras.Model(self.learning.input, [head(features), kind(features)])
        trainer.compile(
            optimizer,
            loss=[
                losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing),
                losses.SparseCategoricalCrossentropy(from_logits=True),
            ],
            loss_weights=[1.0, kinds],
            metrics=[[keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)], []],
        )
        return trainer

    def _epoch_photos(self, random: np.random.Generator) -> Indices:
        size = self.recipe.sampling.photos
        if not size:
            return random.permutation(self.train)
        chances = sample_weights(self.data, self.train, self.recipe.sampling.own_share)
        # Systematic sampling: every photo comes as often as its chance says, to within one.
        places = np.searchsorted(np.cumsum(chances), (np.arange(size) + random.random()) / size)
        return random.permutation(self.train[np.minimum(places, len(self.train) - 1)])

    def _note(self, phase: str, epoch: int, loss: float, accuracy: float) -> None:
        val_loss = val_accuracy = math.nan
        if self.validation is not None:
            z = logits(self.network, self.data, self.validation)
            truth = self.truth[self.validation]
            val_loss = log_loss(truth, z)
            val_accuracy = float(((z > 0) == truth).mean())
        entry = Epoch(phase, epoch, loss, accuracy, val_loss, val_accuracy)
        self.history.append(entry)
        # Without validation photos the last is kept.
        tolerance = self.recipe.fine_tuning.tolerance
        if self.validation is None or val_loss <= self.best_loss + tolerance:
            self.best = self.network.get_weights()
            self.best_epochs = epoch if phase == "fine-tuning" else 0
        self.best_loss = min(self.best_loss, val_loss)  # a nan leaves it as it is
        self.progress(entry)

"""The training itself: photos, network, fit the head, unfreeze, fit again. Keeps the best model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .. import dataset, logistic, split
from ..arrays import Features, Floats, Indices, Pixels
from ..dataset import Dataset
from ..recipe import FineTuning, Recipe
from ..report import Epoch
from . import reader
from .network import BASE, FEATURES, KIND, LOGIT, build, unfreeze, with_kinds

PREDICT_BATCH = 32
FROZEN, TUNING = "frozen", "fine-tuning"
SPREAD = 0.5
"""Standard deviation of the loss over photos, about; of a mean of n photos it is SPREAD/sqrt(n)."""


@dataclass(frozen=True, slots=True)
class Start:
    """What every training of one recipe on a data set starts with, on any part of its photos."""

    data: Dataset
    group: Indices
    """`split.groups`, shape (photos,)."""
    recipe: Recipe
    weights: str | None
    source: Any
    """What crops are cut from: uint8 tensor (photos, side, side, 3)."""
    features: Features | None
    """Pooled features of every photo and its mirror image, (2, photos, channels), if the logistic
    regression is fitted on them; else None."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained network and how it was trained."""

    network: Any
    """Takes pixels of the recipe's input size."""
    history: tuple[Epoch, ...]
    epochs: int
    """Epochs of fine-tuning that the kept weights have seen."""
    seconds: float
    interrupted: bool
    """Whether Ctrl-C was pressed: the network is what was kept until then."""


def deterministic(seed: int) -> None:
    """Make all later results in this process the same for the same seed."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def start(
    data: Dataset, group: Indices, recipe: Recipe, weights: str | None, *, seed: int
) -> Start:
    """Return what `fit` starts with. Raises `NetworkError`, `DatasetError`."""
    deterministic(seed)
    network = build(recipe, weights)
    unfreeze(network, recipe.fine_tuning.from_layer)  # refuses a wrong layer before any work
    source = tf.constant(dataset.at_size(data, recipe.augmentation.source_size))
    features = None
    if recipe.head.method == "logistic":
        pooled = keras.Model(network.input, network.get_layer(FEATURES).output)
        mirrored = data.pixels[:, :, ::-1]
        features = np.stack([_predict(pooled, pixels) for pixels in (data.pixels, mirrored)])
    return Start(data, group, recipe, weights, source, features)


def fit(
    begin: Start,
    train: Indices,
    validation: Indices | None,
    *,
    seed: int,
    progress: Callable[[Epoch], None],
) -> Fit:
    """Train on some of the photos: `train` and `validation` are their indices.

    The last epoch is kept unless `validation` clearly says that it is worse than an earlier one: by
    more than one standard error, as in the rule of Breiman et al. (Classification and Regression
    Trees, 1984). Twenty photos of the same sources cannot tell more, and fine-tuning helps on
    photos from elsewhere. Raises `NetworkError`.
    """
    deterministic(seed)
    recipe, data = begin.recipe, begin.data
    tuning = recipe.fine_tuning
    chances = split.chances(data, begin.group, train, recipe.sampling.positive_share)
    network = build(recipe, begin.weights)
    trainer = with_kinds(network, int(split.kinds(data).max()) + 1)
    best = _Best(
        trainer, progress, 0 if validation is None else SPREAD / math.sqrt(len(validation))
    )
    interrupted, began = False, time.monotonic()
    draws = min(recipe.sampling.photos, recipe.sampling.repeats * len(train))
    size = min(recipe.batch_size, draws)
    steps, random = draws // size, np.random.default_rng(seed)
    held_out = None if validation is None else reader.held_out(data, validation)

    def learn(epochs: int, sizes: tuple[int, ...]) -> None:
        if not epochs:
            return
        chosen = random.choice(train, size=(epochs * steps, size), p=chances)
        average = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] * trainer.optimizer.use_ema
        trainer.fit(
            reader.drawn(
                begin.source, data, chosen, sizes=sizes, how=recipe.augmentation, seed=seed
            ),
            epochs=epochs,
            steps_per_epoch=steps,
            validation_data=held_out,
            callbacks=[*average, best],  # in this order: the average of weights is what is kept
            shuffle=False,
            verbose=0,
        )
        best.restore()

    try:
        network.get_layer(BASE).trainable = False
        if begin.features is None:
            _compile(trainer, keras.optimizers.Adam(recipe.head.learning_rate), tuning.kinds)
            best.phase = FROZEN
            learn(recipe.head.epochs, recipe.train_sizes[:1])
        else:
            best.note(_solve(network, begin, train, validation, chances))

        unfreeze(network, tuning.from_layer)
        _compile(trainer, _optimizer(tuning, steps), tuning.kinds, tuning.label_smoothing)
        best.phase = TUNING
        learn(tuning.epochs, recipe.train_sizes)
    except KeyboardInterrupt:
        if best.epoch is None:
            raise
        interrupted = True
        best.restore()

    final = build(recipe, None, recipe.input_size)
    final.set_weights(network.get_weights())
    epochs = best.epoch.epoch if best.epoch and best.epoch.phase == TUNING else 0
    return Fit(final, tuple(best.history), epochs, time.monotonic() - began, interrupted)


def _compile(trainer: Any, optimizer: Any, kinds: float, smoothing: float = 0.0) -> None:
    trainer.compile(
        optimizer,
        loss={
            LOGIT: keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing),
            KIND: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        },
        loss_weights={LOGIT: 1.0, KIND: kinds},
        metrics={LOGIT: keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)},
        jit_compile=False,  # XLA's convolutions are several times slower on a CPU
    )


def _optimizer(tuning: FineTuning, steps: int) -> Any:
    """Return the optimizer of fine-tuning; `steps` is the number per epoch."""
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


def _solve(
    network: Any, begin: Start, train: Indices, validation: Indices | None, chances: Floats
) -> Epoch:
    """Fit the head exactly, on photos and mirror images, and say how good it is."""
    assert begin.features is not None
    features, truth = begin.features, begin.data.truth()
    smooth = begin.recipe.fine_tuning.label_smoothing
    x = features[:, train].reshape(-1, features.shape[-1]).astype(np.float64)
    targets = truth * (1 - smooth) + smooth / 2
    kernel, bias = logistic.fit(
        x, np.tile(targets[train], 2), np.tile(chances, 2), begin.recipe.head.strength
    )
    network.get_layer(LOGIT).set_weights(
        [kernel[:, np.newaxis].astype(np.float32), np.array([bias], np.float32)]
    )

    def seen(of: Indices | None) -> tuple[float, float]:
        if of is None:
            return math.nan, math.nan
        found = features[0][of] @ kernel + bias
        losses = np.logaddexp(0, found) - targets[of] * found
        return float(losses.mean()), float(((found > 0) == truth[of]).mean())

    return Epoch(FROZEN, 1, 1, *seen(train), *seen(validation), 0.0)


class _Best(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Reports each epoch, and keeps the weights of the last that is not worse than the best.

    `margin` is how much higher its loss on held-out photos may be.
    """

    def __init__(self, trainer: Any, progress: Callable[[Epoch], None], margin: float) -> None:
        super().__init__()
        self.trainer, self.progress, self.margin = trainer, progress, margin
        self.history: list[Epoch] = []
        self.epoch: Epoch | None = None
        self.weights: Any = None
        self.phase = FROZEN
        self.began = 0.0

    def note(self, epoch: Epoch) -> None:
        """Record an epoch that has ended, and report it."""
        self.history.append(epoch)
        best = min(each.val_loss for each in self.history)
        if len(self.history) == 1 or math.isnan(best) or epoch.val_loss <= best + self.margin:
            self.epoch, self.weights = epoch, self.trainer.get_weights()
        self.progress(epoch)

    def restore(self) -> None:
        """Give the trainer the weights that are kept so far."""
        self.trainer.set_weights(self.weights)

    def on_train_begin(self, _logs: Any = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        epochs = self.params["epochs"]
        names = [f"{part}{LOGIT}_{name}" for part in ("", "val_") for name in ("loss", "accuracy")]
        loss, right, val_loss, val_right = (float(logs.get(name, math.nan)) for name in names)
        left = (time.monotonic() - self.began) / (epoch + 1) * (epochs - epoch - 1)
        self.note(Epoch(self.phase, epoch + 1, epochs, loss, right, val_loss, val_right, left))


def logits(network: Any, data: Dataset, indices: Indices) -> Floats:
    """Return the network's logits of some photos, shape (n,)."""
    return _predict(network, data.pixels[indices])[:, 0].astype(np.float64)


def _predict(model: Any, pixels: Pixels) -> Features:
    return np.concatenate(
        [
            model.predict_on_batch(pixels[start : start + PREDICT_BATCH].astype(np.float32))
            for start in range(0, len(pixels), PREDICT_BATCH)
        ]
    )

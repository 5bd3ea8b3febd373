"""The training itself: first with a frozen base, then its last layers too. Keeps the best model."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from .. import dataset, logistic, sampling
from . import reader
from .network import BASE, KIND, LOGIT, build, pooled_features, unfreeze, with_kinds

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ..dataset import Dataset
    from ..recipe import FineTuning, Recipe

    Indices = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

PREDICT_BATCH = 32
FROZEN, TUNING = "frozen", "fine-tuning"


@dataclass(frozen=True, slots=True)
class Start:
    """What every training of one recipe on a data set starts with, on any part of its photos."""

    data: Dataset
    group: Indices
    """`split.groups`, shape (photos,)."""
    recipe: Recipe
    weights: str | None
    drawn: reader.Drawn | None
    """None if Keras reads the photos."""
    features: npt.NDArray[np.float32] | None
    """Pooled features of every photo and its mirror image, (2, photos, channels), if the logistic
    regression is fitted on them; else None."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The progress of training. The validation figures are nan if nothing was held out."""

    phase: str
    """`frozen` or `fine-tuning`."""
    epoch: int
    """Number of the epoch within its phase, from 1."""
    epochs: int
    """Number of epochs in its phase."""
    loss: float
    """Mean log loss as trained on: with augmentation and label smoothing."""
    accuracy: float
    """Share of the training photos labelled right, 0..1, with augmentation."""
    val_loss: float
    val_accuracy: float
    seconds_left: float
    """Time until its phase ends, at the speed so far."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A trained network and how it was trained."""

    network: Any
    """Takes pixels of the recipe's input size."""
    history: tuple[Epoch, ...]
    epochs: int
    """Epochs of fine-tuning that the kept weights have seen."""
    interrupted: bool
    """Whether Ctrl-C was pressed: the network is the best until then."""


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
    drawn = features = None
    if recipe.reader == "own":
        source = dataset.enlarged(data, recipe.augmentation.source_size)
        drawn = reader.Drawn(tf.constant(source), data.truth(), sampling.kinds(data))
    if recipe.head.method == "logistic":
        pooled = pooled_features(network)
        mirrored = data.pixels[:, :, ::-1]
        features = np.stack([_predict(pooled, pixels) for pixels in (data.pixels, mirrored)])
    return Start(data, group, recipe, weights, drawn, features)


def fit(
    begin: Start,
    train: Indices,
    validation: Indices | None,
    *,
    seed: int,
    progress: Callable[[Epoch], None],
) -> Fit:
    """Train on some of the photos: `train` and `validation` are their indices.

    `validation` decides which epoch is kept; without it, the last one is. Raises `NetworkError`.
    """
    deterministic(seed)
    recipe, data = begin.recipe, begin.data
    if begin.drawn is None:
        raise ValueError("this recipe's photos are read by Keras: see `fit_directory`")
    chances = sampling.chances(data, begin.group, train, recipe.sampling.positive_share)
    draws = min(recipe.sampling.photos, recipe.sampling.repeats * len(train))
    batch = min(recipe.batch_size, draws)
    shape = (draws // batch, batch)
    random = np.random.default_rng(seed)
    drawn = begin.drawn

    def batches(epochs: int, sizes: tuple[int, ...]) -> Any:
        chosen = random.choice(train, size=(epochs * shape[0], shape[1]), p=chances)
        return drawn.batches(chosen, recipe, sizes, seed=seed)

    held = None
    if validation is not None:
        truth = data.truth()[validation].astype(np.float32)[:, np.newaxis]
        targets = {LOGIT: truth, KIND: drawn.kinds[validation]}
        held = tf.data.Dataset.from_tensor_slices((data.pixels[validation], targets)).batch(
            PREDICT_BATCH
        )
    run = _Run(begin, int(drawn.kinds.max()) + 1 if recipe.fine_tuning.kinds else 0, held, progress)
    head, tuning = recipe.head, recipe.fine_tuning
    if begin.features is not None:
        run.solve_head(begin.features, train, validation, chances)
    else:
        run.frozen(lambda: batches(head.epochs, recipe.train_sizes[:1]), shape[0])
    run.tune(lambda: batches(tuning.epochs, recipe.train_sizes), shape[0])
    return run.result()


def fit_directory(
    begin: Start, split: reader.FromDirectory, *, seed: int, progress: Callable[[Epoch], None]
) -> Fit:
    """Train as `fit` does, on photos that Keras has read and split. Raises `NetworkError`."""
    deterministic(seed)
    run = _Run(begin, 0, split.validation, progress)
    steps = len(split.train)
    run.frozen(split.train.repeat, steps)
    run.tune(split.train.repeat, steps)
    return run.result()


def logits(network: Any, data: Dataset, indices: Indices) -> Floats:
    """Return the network's logits of some photos, shape (n,)."""
    return _predict(network, data.pixels[indices])[:, 0].astype(np.float64)


def _predict(model: Any, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.concatenate(
        [
            model.predict_on_batch(pixels[start : start + PREDICT_BATCH].astype(np.float32))
            for start in range(0, len(pixels), PREDICT_BATCH)
        ]
    )


class _Run:
    """One network in training, and the best of it so far."""

    def __init__(
        self, begin: Start, kinds: int, held: Any, progress: Callable[[Epoch], None]
    ) -> None:
        self.recipe, self.truth = begin.recipe, begin.data.truth()
        self.network = build(begin.recipe, begin.weights)
        self.trainer = with_kinds(self.network, kinds)
        self.held, self.progress = held, progress
        self.history: list[Epoch] = []
        self.best_loss = math.inf
        self.interrupted = False

    def solve_head(
        self,
        features: npt.NDArray[np.float32],
        train: Indices,
        validation: Indices | None,
        chances: Floats,
    ) -> None:
        """Phase one in one step: fit the last layer exactly, on photos and mirror images."""
        x = features[:, train].reshape(-1, features.shape[-1]).astype(np.float64)
        smooth = self.recipe.fine_tuning.label_smoothing
        targets = np.tile(self.truth[train] * (1 - smooth) + smooth / 2, 2)
        kernel, bias = logistic.fit(x, targets, np.tile(chances, 2), self.recipe.head.strength)
        self.network.get_layer(LOGIT).set_weights(
            [kernel[:, np.newaxis].astype(np.float32), np.array([bias], np.float32)]
        )

        def seen(indices: Indices | None) -> tuple[float, float]:
            if indices is None:
                return math.nan, math.nan
            truth, logits = self.truth[indices], features[0][indices] @ kernel + bias
            losses = np.logaddexp(0, logits) - (truth * (1 - smooth) + smooth / 2) * logits
            return float(losses.mean()), float(((logits > 0) == truth).mean())

        self.note(Epoch(FROZEN, 1, 1, *seen(train), *seen(validation), 0.0))

    def note(self, epoch: Epoch) -> None:
        """Record an epoch that has ended, and report it."""
        self.history.append(epoch)
        self.best_loss = min(self.best_loss, epoch.val_loss)
        self.progress(epoch)

    def frozen(self, batches: Callable[[], Any], steps: int) -> None:
        """Phase one by gradient descent: the base stays as it is."""
        head = self.recipe.head
        self.network.get_layer(BASE).trainable = False
        self._phase(FROZEN, batches, steps, keras.optimizers.Adam(head.learning_rate), head.epochs)

    def tune(self, batches: Callable[[], Any], steps: int) -> None:
        """Phase two: the base learns from one layer on."""
        tuning = self.recipe.fine_tuning
        unfreeze(self.network, tuning.from_layer)
        self._phase(
            TUNING,
            batches,
            steps,
            _optimizer(tuning, steps),
            tuning.epochs,
            smoothing=tuning.label_smoothing,
            ema=bool(tuning.ema),
        )

    def _phase(
        self,
        phase: str,
        batches: Callable[[], Any],
        steps: int,
        optimizer: Any,
        epochs: int,
        *,
        smoothing: float = 0.0,
        ema: bool = False,
    ) -> None:
        if not epochs or self.interrupted:
            return
        kinds = KIND in self.trainer.output
        crossentropy = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
        losses, weights = {LOGIT: crossentropy}, {LOGIT: 1.0}
        if kinds:
            losses[KIND] = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            weights[KIND] = self.recipe.fine_tuning.kinds
        self.trainer.compile(
            optimizer,
            loss=losses,
            loss_weights=weights,
            metrics={LOGIT: keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)},
            jit_compile=False,  # XLA's convolutions are several times slower on a CPU
        )
        prefix = f"{LOGIT}_" if kinds else ""
        monitor = f"val_{prefix}loss" if self.held is not None else f"{prefix}loss"
        before = self.trainer.get_weights()
        with tempfile.TemporaryDirectory() as folder:
            best = Path(folder, "best.weights.h5")
            callbacks = [
                *([keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if ema else []),
                keras.callbacks.ModelCheckpoint(
                    best,
                    monitor=monitor,
                    mode="min",
                    save_best_only=self.held is not None,
                    save_weights_only=True,
                    initial_value_threshold=self.best_loss,
                ),
                _Watch(self, phase, prefix),
            ]
            if self.held is not None and phase == TUNING and self.recipe.fine_tuning.patience:
                patience = self.recipe.fine_tuning.patience
                callbacks.append(
                    keras.callbacks.EarlyStopping(monitor, mode="min", patience=patience)
                )
            try:
                self.trainer.fit(
                    batches(),
                    epochs=epochs,
                    steps_per_epoch=steps,
                    validation_data=self.held,
                    callbacks=callbacks,
                    shuffle=False,
                    verbose=0,
                )
            except KeyboardInterrupt:
                self.interrupted = True
            if best.exists():
                self.trainer.load_weights(best)
            else:  # no epoch was better
                self.trainer.set_weights(before)

    def result(self) -> Fit:
        """Return the network for pixels of the recipe's input size."""
        network = build(self.recipe, None, self.recipe.input_size)
        network.set_weights(self.network.get_weights())
        tuned = [epoch for epoch in self.history if epoch.phase == TUNING]
        if self.held is None:
            epochs = len(tuned)
        else:
            epochs = next((e.epoch for e in tuned if e.val_loss == self.best_loss), 0)
        return Fit(network, tuple(self.history), epochs, self.interrupted)


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]  # keras has no types
    """Reports progress after each epoch."""

    def __init__(self, run: _Run, phase: str, prefix: str) -> None:
        super().__init__()
        self.run, self.phase, self.prefix = run, phase, prefix

    def on_train_begin(self, _logs: Any = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        epochs = self.params["epochs"]

        def figure(name: str) -> float:
            return float(logs.get(name, math.nan))

        seen = Epoch(
            phase=self.phase,
            epoch=epoch + 1,
            epochs=epochs,
            loss=figure(f"{self.prefix}loss"),
            accuracy=figure(f"{self.prefix}accuracy"),
            val_loss=figure(f"val_{self.prefix}loss"),
            val_accuracy=figure(f"val_{self.prefix}accuracy"),
            seconds_left=(time.monotonic() - self.began) / (epoch + 1) * (epochs - epoch - 1),
        )
        self.run.note(seen)


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

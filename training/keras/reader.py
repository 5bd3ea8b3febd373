"""Photos as `tf.data` pipelines: our own, and the one of Keras' image_dataset_from_directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .. import sampling
from ..arrays import Floats, Indices
from ..dataset import Dataset
from ..description import DatasetError
from ..quiet import quiet
from ..recipe import Recipe
from . import augment
from .network import KIND, LOGIT

VALIDATION_SHARE = 0.2
VALIDATION_BATCH = 32


@dataclass(frozen=True, slots=True)
class Photos:
    """What a training sees: batches of images, float32 (n, size, size, 3), and targets by output.

    The targets are `LOGIT`, the label (n, 1), and `KIND`, the number of the photo's kind.
    """

    batches: Callable[[int, Sequence[int]], Any]
    """Augmented batches for a number of epochs, of which equal parts are shown at each of some
    sizes, in pixels."""
    steps: int
    """Batches per epoch."""
    held: Any
    """Batches to validate by, or None."""


def drawn(
    source: Any,
    data: Dataset,
    recipe: Recipe,
    *,
    train: Indices,
    validation: Indices | None,
    chances: Floats,
    seed: int,
) -> Photos:
    """Return photos drawn at random from those of `train`, by their `chances`, with replacement.

    `source` is what crops are cut from: uint8 tensor (photos, side, side, 3).
    """
    draws = min(recipe.sampling.photos, recipe.sampling.repeats * len(train))
    size = min(recipe.batch_size, draws)
    steps = draws // size
    random = np.random.default_rng(seed)
    truth = data.truth().astype(np.float32)[:, np.newaxis]
    kinds = sampling.kinds(data)

    def part(chosen: Indices, layers: Any) -> tf.data.Dataset:
        def batch(indices: Any, label: Any, kind: Any) -> tuple[Any, dict[str, Any]]:
            images = tf.cast(tf.gather(source, indices), tf.float32)
            return layers(images, training=True), {LOGIT: label, KIND: kind}

        # One thread augments faster than two cores train, and keeps the random numbers in order.
        told = (chosen, truth[chosen], kinds[chosen])
        return tf.data.Dataset.from_tensor_slices(told).map(batch)

    def batches(epochs: int, sizes: Sequence[int]) -> tf.data.Dataset:
        chosen = random.choice(train, size=(epochs * steps, size), p=chances)
        first, *rest = (
            part(some, augment.build(recipe.augmentation, pixels, seed=seed + 100 * place))
            for place, (some, pixels) in enumerate(
                zip(np.array_split(chosen, len(sizes)), sizes, strict=True)
            )
        )
        for more in rest:
            first = first.concatenate(more)
        return first.prefetch(3)

    held = None
    if validation is not None:
        targets = {LOGIT: truth[validation], KIND: kinds[validation]}
        held = tf.data.Dataset.from_tensor_slices((data.pixels[validation], targets))
        held = held.batch(VALIDATION_BATCH)
    return Photos(batches, steps, held)


def from_directory(
    folder: str, data: Dataset, recipe: Recipe, *, seed: int
) -> tuple[Photos, Indices, Indices]:
    """Read a data set as Keras does: 80/20, pixels squashed to a square, groups not kept whole.

    Also returns the indices in `data`, which is the same folder read by our own reader, of the
    photos to train on and of those to validate by. The kind of a photo is its class.

    Raises `DatasetError` for a photo that only Keras can read.
    """
    classes = {Path(photo.path).relative_to(folder).parts[0]: photo.label for photo in data.photos}
    names = sorted(classes)
    with quiet():
        train, validation = keras.utils.image_dataset_from_directory(
            folder,
            label_mode="binary",
            class_names=names,
            batch_size=recipe.batch_size,
            image_size=(recipe.input_size, recipe.input_size),
            seed=seed,
            validation_split=VALIDATION_SHARE,
            subset="both",
            verbose=False,
        )
    place = {os.path.normpath(photo.path): index for index, photo in enumerate(data.photos)}
    indices = []
    for part in (train, validation):
        paths = [os.path.normpath(path) for path in part.file_paths]
        for path in paths:
            if path not in place:
                raise DatasetError(f"{path}: Keras takes it for a photo, but it is not; delete it")
        indices.append(np.array([place[path] for path in paths]))
    layers = augment.build(recipe.augmentation, recipe.train_sizes[0], seed=seed)

    def target(label: Any) -> dict[str, Any]:
        label = label if classes[names[1]] else 1 - label
        return {LOGIT: label, KIND: tf.cast(label, tf.int32)}

    shown = train.map(lambda images, label: (layers(images, training=True), target(label)))
    shown = shown.prefetch(2)
    held = validation.map(lambda images, label: (images, target(label))).cache()
    return Photos(lambda _epochs, _sizes: shown.repeat(), len(shown), held), indices[0], indices[1]

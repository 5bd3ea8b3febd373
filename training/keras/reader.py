"""Photos as `tf.data` pipelines: our own, and the one of Keras' image_dataset_from_directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from ..description import DatasetError
from ..quiet import quiet
from . import augment
from .network import KIND, LOGIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ..dataset import Dataset
    from ..recipe import Recipe

    Indices = npt.NDArray[np.int64]

VALIDATION_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Drawn:
    """Photos in memory that batches are drawn from."""

    pixels: Any
    """uint8 tensor (photos, side, side, 3): what crops are cut from."""
    truth: Indices
    """Class index of each photo, shape (photos,)."""
    kinds: Indices
    """Number of each photo's kind, shape (photos,)."""

    def batches(
        self, draws: Indices, recipe: Recipe, sizes: Sequence[int], *, seed: int
    ) -> tf.data.Dataset:
        """Return augmented batches: images float32 (n, size, size, 3), and targets by output.

        `draws` are indices of photos in the order in which they are shown, shape (batches, n);
        equal parts of them are shown at each of the `sizes`, in pixels.
        """
        parts = [
            self._part(part, augment.build(recipe.augmentation, size, seed=seed + 100 * place))
            for place, (part, size) in enumerate(
                zip(np.array_split(draws, len(sizes)), sizes, strict=True)
            )
            if len(part)
        ]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.concatenate(part)
        return whole.prefetch(3)

    def _part(self, draws: Indices, layers: Any) -> tf.data.Dataset:
        def batch(indices: Any, label: Any, kind: Any) -> tuple[Any, dict[str, Any]]:
            images = tf.cast(tf.gather(self.pixels, indices), tf.float32)
            return layers(images, training=True), {LOGIT: label, KIND: kind}

        labels = self.truth[draws].astype(np.float32)[..., np.newaxis]
        # One thread augments faster than two cores train, and keeps the random numbers in order.
        return tf.data.Dataset.from_tensor_slices((draws, labels, self.kinds[draws])).map(batch)


@dataclass(frozen=True, slots=True)
class FromDirectory:
    """The split of `keras.utils.image_dataset_from_directory(…, validation_split=0.2)`."""

    train: Any
    """Batches of images, float32 (n, size, size, 3), augmented, and of labels (n, 1)."""
    validation: Any
    train_indices: Indices
    validation_indices: Indices


def from_directory(folder: str, data: Dataset, recipe: Recipe, *, seed: int) -> FromDirectory:
    """Read a data set as Keras does: 80/20, pixels squashed to a square, groups not kept whole.

    The indices are those of `data`, which is the same folder read by our own reader. Raises
    `DatasetError` for a photo that only Keras can read.
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
        return {LOGIT: label if classes[names[1]] else 1 - label}

    return FromDirectory(
        train.map(lambda images, label: (layers(images, training=True), target(label))).prefetch(2),
        validation.map(lambda images, label: (images, target(label))).cache(),
        *indices,
    )

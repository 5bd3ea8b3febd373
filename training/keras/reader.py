"""Photos as `tf.data` pipelines: images, and the targets of the network's two outputs.

Images are float32 (n, size, size, 3), RGB 0..255. The targets are `LOGIT`, the label (n, 1), and
`KIND`, the number of the photo's kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .. import split
from ..arrays import Indices
from ..dataset import Dataset
from ..recipe import Augmentation
from . import augment
from .network import KIND, LOGIT

VALIDATION_BATCH = 32


def drawn(
    source: Any,
    data: Dataset,
    chosen: Indices,
    *,
    sizes: Sequence[int],
    how: Augmentation,
    seed: int,
) -> tf.data.Dataset:
    """Return augmented batches of the photos that are `chosen`, shape (batches, n).

    `source` is what crops are cut from: uint8 tensor (photos, side, side, 3). Equal parts of the
    batches are shown at each of the sizes, in pixels.
    """

    def part(some: Indices, layers: Any) -> tf.data.Dataset:
        def batch(indices: Any, targets: Any) -> tuple[Any, Any]:
            images = tf.cast(tf.gather(source, indices), tf.float32)
            return layers(images, training=True), targets

        # One thread augments faster than two cores train, and keeps the random numbers in order.
        return tf.data.Dataset.from_tensor_slices((some, _targets(data, some))).map(batch)

    parts = zip(np.array_split(chosen, len(sizes)), sizes, strict=True)
    first, *rest = (
        part(some, augment.build(how, pixels, seed=seed + 100 * place))
        for place, (some, pixels) in enumerate(parts)
    )
    for more in rest:
        first = first.concatenate(more)
    return first.prefetch(3)


def held_out(data: Dataset, indices: Indices) -> tf.data.Dataset:
    """Return batches of the photos to validate by, as the model sees them in use."""
    photos = tf.data.Dataset.from_tensor_slices((data.pixels[indices], _targets(data, indices)))
    return photos.batch(VALIDATION_BATCH)


def _targets(data: Dataset, indices: Indices) -> dict[str, Any]:
    truth = data.truth().astype(np.float32)[:, np.newaxis]
    return {LOGIT: truth[indices], KIND: split.kinds(data)[indices]}

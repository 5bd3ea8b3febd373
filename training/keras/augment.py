"""Augmentation: one `keras.Sequential` of preprocessing layers, made from a recipe.

It runs in the input pipeline of training (`reader`), so the exported model does not contain it.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from ..recipe import Augmentation

_INSIDE = 0.9999
"""Keeps a crop just inside the edge, beyond which `crop_and_resize` fills with black."""


class RandomResizedCrop(layers.Layer):  # type: ignore[misc]  # keras has no types
    """Cut a random rectangle out of every image and resize it. Keras has no layer for this.

    float32 (n, height, width, 3) in, (n, size, size, 3) out. A rectangle covers a share from `area`
    to 1 of its image, and its aspect ratio changes by a factor of at most e^stretch.
    """

    def __init__(self, size: int, area: float, stretch: float, *, seed: int) -> None:
        super().__init__()
        self.size, self.area, self.stretch = size, area, stretch
        self.random = keras.random.SeedGenerator(seed)

    def call(self, images: Any) -> Any:
        """Return one crop of each image."""
        count = ops.shape(images)[0]

        def uniform(low: float, high: float) -> Any:
            return keras.random.uniform((count,), low, high, seed=self.random)

        side = ops.sqrt(uniform(self.area, 1.0))
        skew = ops.exp(uniform(-self.stretch, self.stretch) / 2)
        height, width = ops.minimum(side * skew, _INSIDE), ops.minimum(side / skew, _INSIDE)
        top, left = (uniform(0.0, _INSIDE) * (1 - length) for length in (height, width))
        boxes = ops.stack([top, left, top + height, left + width], axis=1)
        return tf.image.crop_and_resize(images, boxes, tf.range(count), (self.size, self.size))


def build(settings: Augmentation, size: int, *, seed: int) -> Any:
    """Return the layers: float32 (n, side, side, 3), RGB 0..255, in; (n, size, size, 3) out.

    Call it with `training=True`: otherwise the layers of Keras change nothing.
    """
    steps: list[Any] = [
        RandomResizedCrop(size, settings.crop, settings.stretch, seed=seed)
        if settings.crop < 1
        else layers.Resizing(size, size)
    ]
    changes = (
        (layers.RandomFlip, settings.flip and "horizontal"),
        (layers.RandomRotation, settings.rotation),
        (layers.RandomBrightness, settings.brightness),
        (layers.RandomContrast, settings.contrast),
        (layers.RandomColorDegeneration, settings.fade and (0.0, settings.fade)),
        (layers.RandomGrayscale, settings.grey),
    )
    steps += [layer(how, seed=seed + n) for n, (layer, how) in enumerate(changes, 1) if how]
    return keras.Sequential(steps, name="augmentation")

"""Turn a trained network into a fully quantised LiteRT model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ..arrays import Features, Pixels
from ..quiet import quiet
from ..recipe import Recipe
from .network import build

CALIBRATION_PHOTOS = 200
"""Photos that the ranges of all activations need to settle; each costs about 50 ms."""


def to_litert(network: Any, recipe: Recipe, pixels: Pixels) -> bytes:
    """Return a network as fully quantised LiteRT.

    Input: uint8 (1, size, size, 3), pixels 0..255. Output: float32 (1, 1), the logit.
    `pixels`, uint8 (n, size, size, 3), are training photos from which the ranges of the activations
    are read.
    """
    # Without its Rescaling layer: the input's quantisation scales the pixels at no cost.
    bare = build(recipe, None, recipe.input_size, rescale=False)
    bare.set_weights(network.get_weights())
    chosen = np.linspace(0, len(pixels) - 1, min(len(pixels), CALIBRATION_PHOTOS)).astype(int)

    def examples() -> Iterator[list[Features]]:
        # Black and white first: the whole range of pixels, whatever the photos hold.
        yield [
            np.where(np.arange(3) == 1, -1, 1).astype(np.float32)
            * np.ones_like(pixels[:1], np.float32)
        ]
        for index in chosen:
            yield [pixels[index : index + 1].astype(np.float32) / np.float32(127.5) - 1]

    with quiet():
        converter = tf.lite.TFLiteConverter.from_keras_model(bare)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = examples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.float32
        return bytes(converter.convert())

"""What tests paint to train on, and a recipe and a base that learn it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import numpy.typing as npt

    from alpaca_labeler.training.recipe import Recipe

CATS, DOGS = "cat photos", "dogs"
RED, GREEN, BLUE = range(3)

KERAS_SAVES = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
"""Keras 3.15 reads TensorFlow 2.21's variables in a way that NumPy 2 deprecates."""


def paint(path: Path, *, dog: bool, number: int, colour: int | None = None) -> None:
    """A noisy photo, reddish for a dog, bluish for a cat or as it is told; no two alike."""
    random = np.random.default_rng(number + 1000 * dog)
    coarse = random.integers(0, 120, (6, 6, 3), dtype=np.uint8)
    coarse[..., (RED if dog else BLUE) if colour is None else colour] += 120
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((64, 48), Image.Resampling.BICUBIC).save(path)


TINY = """
input_size = 32
train_sizes = [32]
width = 0.35
batch_size = 10
dropout = 0.1

[augmentation]
source_size = 48
crop = 0.5
stretch = 0.1
flip = true
rotation = 0.02
brightness = 0.1
contrast = 0.1
fade = 0.1
grey = 0.1

[sampling]
photos = 20
repeats = 5
positive_share = 0.5

[head]
method = "logistic"
strength = 0.05
epochs = 1
learning_rate = 1e-3

[fine_tuning]
from_layer = "block_16_project"
epochs = 2
learning_rate = 1e-4
weight_decay = 0.01
warmup = 1
cosine = true
ema = 0.5
label_smoothing = 0.05
kinds = 0.3
"""


SMALL = TINY.replace("block_16_project", "second")
"""The same for `small_base`."""


def small_base(*, input_shape: tuple[int | None, ...], **_: Any) -> Any:
    """Build a base of two layers, the same every time, in place of MobileNetV2's 154."""
    import keras

    from alpaca_labeler.training.keras import network

    x = pixels = keras.Input(input_shape)
    for filters, name in ((8, "first"), (16, "second")):
        x = keras.layers.Conv2D(filters, 3, strides=2, name=name)(x)
        x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
        x = keras.layers.ReLU(6.0)(x)
    base = keras.Model(pixels, x, name=network.BASE)
    random = np.random.default_rng(5)
    base.set_weights([abs(random.normal(0, 0.3, w.shape)) for w in base.get_weights()])
    return base


def save_base(pixels: npt.NDArray[np.uint8], recipe: Recipe, file: Path) -> str:
    """Save a base that answers to what it sees: Keras' own random start makes nothing of it.

    Batch normalisation takes its statistics from the photos, and puts them where ReLU6 is a line: a
    deep network of random bends would make noise of the difference that 8 bits make.
    """
    from alpaca_labeler.training.keras import fit, network

    fit.deterministic(0)
    base = network.build(recipe, None).get_layer(network.BASE)
    for layer in base.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
            if not layer.name.endswith("project_BN"):  # that one has no ReLU6 behind it
                layer.beta.assign(layer.beta + 3)
    base(pixels.astype("float32") / 127.5 - 1, training=True)
    base.save_weights(str(file))
    return str(file)

"""The network, by Keras' Functional API: MobileNetV2, its logit, and which layers learn."""

from __future__ import annotations

import warnings
from textwrap import shorten
from typing import Any

import keras

from alpaca_labeler.errors import LabelerError

from ..recipe import Recipe

WEIGHTS_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
)
BASE, FEATURES, LOGIT, KIND = "mobilenetv2", "features", "logit", "kind"
"""Names of layers."""


class NetworkError(LabelerError):
    """The network cannot be built. The message says what to do."""


def build(
    recipe: Recipe, weights: str | None, size: int | None = None, *, rescale: bool = True
) -> Any:
    """Return the network: (n, size, size, 3) pixels 0..255 in, (n, 1) logits out, both float32.

    Without `size` it takes pictures of any size. `weights` is `imagenet` (Keras downloads them
    once), a `.h5`/`.keras`/`.weights.h5` file of the base, or None for random ones. Without
    `rescale` the input must be in -1..1, as the input quantisation of an 8-bit model delivers it at
    no cost. Batch normalisation is always in inference mode.

    Raises `NetworkError`.
    """
    try:
        with warnings.catch_warnings():
            # Keras warns that it loads the weights for 224 px; without the top they fit any size.
            warnings.filterwarnings("ignore", "`input_shape` is undefined")
            base = keras.applications.MobileNetV2(
                input_shape=(size, size, 3),
                alpha=recipe.width,
                include_top=False,
                weights=weights,
                name=BASE,
            )
    except Exception as error:  # a bare one for a failed download, ValueError for a wrong file
        said = shorten(str(error), 200) or type(error).__name__
        if weights == "imagenet":
            raise NetworkError(
                f"the ImageNet weights could not be downloaded ({said}): download {WEIGHTS_URL} in "
                "some other way and give the file with --weights FILE"
            ) from error
        raise NetworkError(
            f"--weights {weights}: not weights of MobileNetV2 without its top, width "
            f"{recipe.width:g} ({said})"
        ) from error
    pixels = keras.Input((size, size, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels) if rescale else pixels
    features = keras.layers.GlobalAveragePooling2D(name=FEATURES)(base(scaled, training=False))
    features = keras.layers.Dropout(recipe.dropout)(features)
    return keras.Model(pixels, keras.layers.Dense(1, name=LOGIT)(features))


def with_kinds(network: Any, kinds: int) -> Any:
    """Return a model that shares the network's layers and has an auxiliary head for the kinds.

    Its outputs are `LOGIT`, the logits (n, 1), and `KIND`, one logit per kind (n, kinds).
    """
    features = network.get_layer(LOGIT).input
    kind = keras.layers.Dense(kinds, name=KIND)(features)
    return keras.Model(network.input, {LOGIT: network.output, KIND: kind})


def unfreeze(network: Any, from_layer: str) -> None:
    """Let the base learn from the layer with that name or index on, except batch normalisation.

    Raises `NetworkError` for a layer that does not exist.
    """
    base = network.get_layer(BASE)
    names = [layer.name for layer in base.layers]
    if from_layer.isdecimal() and int(from_layer) < len(names):
        first = int(from_layer)
    elif from_layer in names:
        first = names.index(from_layer)
    else:
        raise NetworkError(
            f"fine_tuning.from_layer = {from_layer!r}: MobileNetV2 has the layers 0 ({names[0]}) "
            f"to {len(names) - 1} ({names[-1]})"
        )
    base.trainable = True
    for index, layer in enumerate(base.layers):
        layer.trainable = index >= first and not isinstance(layer, keras.layers.BatchNormalization)

"""The network: MobileNetV2 with one logit as its top, and its parts that learn and do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from ..handler.errors import LabelerError

if TYPE_CHECKING:
    from .recipe import Recipe

WEIGHTS_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
)
BASE = "mobilenetv2"
"""Name of the base inside the network."""
HEAD = "logit"
"""Name of its last layer."""


class NetworkError(LabelerError):
    """The network cannot be built. The message says what to do."""


def build(recipe: Recipe, weights: str | None, *, rescale: bool = True) -> Any:
    """Return the network: (n, size, size, 3) pixels 0..255 in, (n, 1) logits out, both float32.

    `weights` is `imagenet` (Keras downloads them once), a `.h5`/`.keras`/`.weights.h5` file of the
    base, or None for random ones. Without `rescale` the input is in -1..1 already, which is what an
    8-bit model's input quantisation makes of pixels for nothing. Batch normalisation is always in
    inference mode.

    Raises `NetworkError`.
    """
    size = recipe.input_size
    base = _base(recipe, weights)
    pixels = keras.Input((size, size, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels) if rescale else pixels
    features = keras.layers.GlobalAveragePooling2D()(base(scaled, training=False))
    kept = keras.layers.Dropout(recipe.dropout)(features)
    return keras.Model(pixels, keras.layers.Dense(1, name=HEAD)(kept))


def _base(recipe: Recipe, weights: str | None) -> Any:
    try:
        return keras.applications.MobileNetV2(
            input_shape=(recipe.input_size, recipe.input_size, 3),
            alpha=recipe.width,
            include_top=False,
            weights=weights,
            name=BASE,
        )
    except Exception as error:
        # Keras raises a bare Exception for a failed download, ValueError for a misfit file.
        if weights == "imagenet":
            raise NetworkError(
                f"the ImageNet weights could not be downloaded ({_short(error)}): fetch "
                f"{WEIGHTS_URL} by any other way and give the file with --weights FILE"
            ) from error
        raise NetworkError(
            f"--weights {weights}: not weights of MobileNetV2 without its top, width "
            f"{recipe.width:g} ({_short(error)})"
        ) from error


def unfreeze(network: Any, from_layer: str) -> None:
    """Let the base learn from the layer of that name or index on, its batch normalisation excepted.

    Raises `NetworkError` for a layer that is not there.
    """
    base = network.get_layer(BASE)
    first = _index(base, from_layer)
    base.trainable = True
    for index, layer in enumerate(base.layers):
        frozen = index < first or isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not frozen


def cut(network: Any, from_layer: str) -> tuple[Any, Any]:
    """Return the network in two parts that share its layers, cut before `from_layer`.

    The first takes pixels 0..255 to activations, all of it frozen by `unfreeze(network,
    from_layer)`; the second takes those to the features that the head (`HEAD`) answers from. The
    cut is the last place before the layer that all there is to know passes through, so not within a
    block that is added to its own input.

    Raises `NetworkError` for a layer that is not there.
    """
    base = network.get_layer(BASE)
    first, layers = _index(base, from_layer), base.layers
    place = {id(layer.output): index for index, layer in enumerate(layers)}
    last_user = [0] * len(layers)
    for index, layer in enumerate(layers[1:], 1):
        for tensor in keras.tree.flatten(layer.input):
            last_user[place[id(tensor)]] = index
    cut = max(i for i in range(max(first, 1)) if max(last_user[:i], default=0) <= i)
    activations = layers[cut].output
    below = keras.Model(base.input, activations)
    above = keras.Model(activations, base.output)
    beside = network.layers.index(base)
    pixels = x = network.input
    for layer in network.layers[1:beside]:
        x = layer(x)
    inner = y = keras.Input(activations.shape[1:])
    for part in (above, *network.layers[beside + 1 : -1]):
        y = part(y, training=False) if part is above else part(y)
    return keras.Model(pixels, below(x, training=False)), keras.Model(inner, y)


def _index(base: Any, name: str) -> int:
    names = [layer.name for layer in base.layers]
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    if name in names:
        return names.index(name)
    raise NetworkError(
        f"fine_tuning.from_layer = {name!r}: MobileNetV2 has the layers 0 ({names[0]}) "
        f"to {len(names) - 1} ({names[-1]})"
    )


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

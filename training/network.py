"""The network: MobileNetV2 with one logit as its top, and the random changes of training photos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from training.recipe import Augmentation, Recipe

WEIGHTS_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
)
BASE = "mobilenetv2"
"""Name of the base inside the network."""


class NetworkError(ValueError):
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
    return keras.Model(pixels, keras.layers.Dense(1, name="logit")(kept))


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


def augmentation(settings: Augmentation, seed: int) -> Any:
    """Return random changes of pixels 0..255, as a model that changes nothing outside training."""
    layers = keras.layers
    steps: list[Any] = []
    if settings.mirror:
        steps.append(layers.RandomFlip("horizontal", seed=seed))
    if settings.rotation:
        steps.append(layers.RandomRotation(settings.rotation, seed=seed + 1))
    if settings.shift:
        steps.append(layers.RandomTranslation(settings.shift, settings.shift, seed=seed + 2))
    # After the shift, so that it crops away most of the border that a shift makes.
    if settings.zoom:
        steps.append(layers.RandomZoom((-settings.zoom, 0.0), seed=seed + 3))
    if settings.brightness:
        steps.append(layers.RandomBrightness(settings.brightness, seed=seed + 4))
    if settings.contrast:
        steps.append(layers.RandomContrast(settings.contrast, seed=seed + 5))
    return keras.Sequential([*steps, layers.Identity()], name="augmentation")


def unfreeze(network: Any, from_layer: str) -> None:
    """Let the base learn from the layer of that name or index on, its batch normalisation excepted.

    Raises `NetworkError` for a layer that is not there.
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
        frozen = index < first or isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not frozen


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__

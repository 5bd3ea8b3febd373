"""Every photo as training sees it, many times over, as far as the frozen layers take it.

Frozen layers answer the same whenever they are asked. So each photo is cropped, turned and lit in a
number of ways once, what the frozen layers make of these views is kept in a file, and every epoch
of every fold begins there.
"""

from __future__ import annotations

import math
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageEnhance

from . import dataset

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from .dataset import Dataset, Photo
    from .recipe import Augmentation

PLAIN, MIRRORED = 0, 1
"""The first two views: the photo as it is labelled, and its mirror image."""

_GREY = (124, 116, 104)
"""ImageNet's mean, where a turn leaves a corner empty."""

_BATCH = 4
"""Photos at a time through the frozen layers, each with all of its views."""


def make(
    stem: Any,
    data: Dataset,
    settings: Augmentation,
    *,
    seed: int,
    say: Callable[[str], None] = lambda _: None,
) -> npt.NDArray[np.float16]:
    """Return what the frozen layers make of every view of every photo: (photos, views, h, w, c).

    `stem` takes pixels 0..255, float32 (n, size, size, 3), to activations (n, h, w, c). The array
    lies in a temporary file, which goes with it: at 256 px up to block 6 of MobileNetV2, 32 KB a
    view. `say` is told how far it is.

    Raises `DatasetError` where a photo cannot be read again.
    """
    count, size = len(data.photos), data.pixels.shape[1]
    shape = (count, settings.views + 2, *stem.output.shape[1:])
    with tempfile.TemporaryFile(prefix="views-") as file:  # the mapping keeps it, nothing else
        made: npt.NDArray[np.float16] = np.memmap(file, np.float16, "w+", shape=shape)
    larger = partial(_views, size=size, settings=settings, seed=seed)
    with ThreadPoolExecutor() as pool:  # Pillow works outside Python's lock
        changed = pool.map(larger, range(count), data.photos)
        for start in range(0, count, _BATCH):
            seen = []
            for pixels in data.pixels[start : start + _BATCH]:
                seen += [pixels, pixels[:, ::-1], *next(changed)]
            activations = stem.predict_on_batch(np.stack(seen).astype(np.float32))
            made[start : start + _BATCH] = activations.reshape(-1, *shape[1:])
            if start // _BATCH % 100 == 99:
                say(f"views: {start + _BATCH} of {count} photos")
    return made


def _views(
    index: int, photo: Photo, *, size: int, settings: Augmentation, seed: int
) -> list[npt.NDArray[np.uint8]]:
    if not settings.views:
        return []
    picture = Image.fromarray(dataset.decode(photo, round(size * settings.oversize)))
    return [
        np.asarray(view(picture, size, settings, np.random.default_rng((seed, index, number))))
        for number in range(settings.views)
    ]


def view(
    picture: Image.Image, size: int, settings: Augmentation, random: np.random.Generator
) -> Image.Image:
    """Return one random view of a square RGB picture, `size` x `size` pixels."""
    area, ratio = (
        random.uniform(settings.crop, 1.0),
        math.exp(random.uniform(-settings.stretch, settings.stretch)),
    )
    width, height = (
        min(1.0, math.sqrt(area * share)) * picture.width for share in (ratio, 1 / ratio)
    )
    left = random.uniform(0.0, picture.width - width)
    top = random.uniform(0.0, picture.width - height)
    seen = picture.resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)
    )
    if random.random() < 0.5:
        seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if settings.rotation:
        turn = 360 * random.uniform(-settings.rotation, settings.rotation)
        seen = seen.rotate(turn, Image.Resampling.BILINEAR, fillcolor=_GREY)
    for enhance, most in (
        (ImageEnhance.Brightness, settings.brightness),
        (ImageEnhance.Contrast, settings.contrast),
        (ImageEnhance.Color, settings.colour),
    ):
        seen = enhance(seen).enhance(random.uniform(1 - most, 1 + most))
    return seen.convert("L").convert("RGB") if random.random() < settings.grey else seen

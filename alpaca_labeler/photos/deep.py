"""Pictures of more than 8 bits per channel, made into 8: the question is which value is white.

Cameras and instruments write 10, 12 or 14 bits into files of 16, which would be nearly black if 16
bits were taken to be full. A tag of the file decides, else the bits that its largest value needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, ImageFile

if TYPE_CHECKING:
    import numpy.typing as npt

_DEPTHS: Final = (8, 10, 12, 14, 16)
"""Bits that instruments give. What needs more than 14 has 16, so a photo of true 16 bits is never
made brighter unless all of it is darker than a quarter of white."""
_STRIP_PIXELS: Final = 2**20
"""Pixels converted at a time; an array of the whole picture would take ten times its memory."""
_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE = 258, 281
_SIGNIFICANT: Final = "significant bits"
"""Key in Pillow's `info` of what a PNG says in its chunk sBIT."""
_SWAPPED: Final = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
"""Byte orders: Pillow keeps the high byte of a colour of 16 bits, in the other order the low."""
_COLOURS: Final = ("RGB;16", "RGBA;16", "RGBX;16")


def grey(image: Image.Image) -> Image.Image:
    """Return a picture of one band of 16 or 32 bits as one of 8 (mode L)."""
    if not image.mode.startswith("I;16"):
        # 32 bits have no fixed white: the range that is there becomes 0..255.
        lows_highs = [(v.min(), v.max()) for v in map(_finite, _strips(image))]
        low = min(low for low, _ in lows_highs)
        span = max(high for _, high in lows_highs) - low or 1.0
        return _in_strips(image, lambda values: (_finite(values) - low) * (255.0 / span))
    lows_highs = [(int(v.min()), int(v.max())) for v in _strips(image)]
    low, high = min(low for low, _ in lows_highs), max(high for _, high in lows_highs)
    white = _white(high, _stated_white(image))
    if white == 2**16 - 1:
        return _in_strips(image, lambda values: values >> 8)
    # A photo has dark places. What has none is no light but, say, heat, with its own lowest value.
    black = low if 2 * low > high > low else 0
    white = high if black else white
    return _in_strips(image, lambda v: (v.astype(np.uint32) - black) * 255 // (white - black))


def is_coloured(image: ImageFile.ImageFile) -> bool:
    """Tell whether a picture that is open, and not loaded, has 16 bits per colour."""
    return _raw_mode(image).startswith(_COLOURS)


def brighten(image: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile]) -> None:
    """Make a coloured picture brighter, in place, if its file has fewer bits in its 16.

    `image` is open, and not loaded; `again` opens it once more.
    """
    raw_mode = _raw_mode(image)
    stated = _stated_white(image)
    image.load()
    highest = [high for _, high in image.getextrema()]  # type: ignore[misc] # of several bands
    whites = [_white(max(highest[:3]) << 8, stated)] * 3
    whites += [_white(high << 8, None) for high in highest[3:]]
    if min(whites) == 2**16 - 1:
        return
    low_bytes = again()
    other = raw_mode[:-1] + _SWAPPED[raw_mode[-1]]
    low_bytes.tile = [
        tile._replace(args=(other, *tile.args[1:]) if isinstance(tile.args, tuple) else other)
        for tile in low_bytes.tile
    ]
    for top, high, low in zip(_tops(image), _strips(image), _strips(low_bytes), strict=True):
        values = (high.astype(np.uint32) << 8 | low) * 255 // np.array(whites)
        image.paste(Image.fromarray(values.clip(0, 255).astype(np.uint8), image.mode), (0, top))


def remember_depth(image: Image.Image, data: bytes) -> None:
    """Keep what a PNG says of its depth, which Pillow does not read."""
    at = data.find(b"sBIT", 0, 1000)
    if image.format == "PNG" and at >= 0:
        image.info[_SIGNIFICANT] = max(data[at + 4 : at + 7])


def _stated_white(image: Image.Image) -> int | None:
    """Return the value that is white by the file's own tags; None if they say nothing."""
    tags: Any = getattr(image, "tag_v2", {})
    if isinstance(bits := image.info.get(_SIGNIFICANT), int):  # and no text of that name
        return int(2**bits - 1)
    if said := tags.get(_MAX_SAMPLE_VALUE):
        return int(max(said) if isinstance(said, tuple) else said)
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    return int(2**bits - 1) if bits < 16 else None


def _white(highest: int, stated: int | None) -> int:
    if stated and highest <= stated <= 2**16 - 1:
        return stated
    return 2 ** next(bits for bits in _DEPTHS if bits >= highest.bit_length()) - 1


def _raw_mode(image: ImageFile.ImageFile) -> str:
    arguments = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else str((arguments or ("",))[0])


def _tops(image: Image.Image) -> range:
    return range(0, image.height, max(1, _STRIP_PIXELS // image.width))


def _strips(image: Image.Image) -> Iterator[npt.NDArray[Any]]:
    tops = _tops(image)
    for top in tops:
        bottom = min(top + tops.step, image.height)
        yield np.asarray(image.crop((0, top, image.width, bottom)))


def _in_strips(
    image: Image.Image, convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> Image.Image:
    strips = [convert(values).clip(0, 255).astype(np.uint8) for values in _strips(image)]
    return Image.fromarray(np.concatenate(strips))


def _finite(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)

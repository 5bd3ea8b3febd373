"""Tell RAW photos (a camera's sensor data) from pictures, by their content."""

from __future__ import annotations

import io
from typing import Final

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from alpaca_labeler.photos import skip

_TIFF_MARKS: Final = (b"CR\2\0", b"IIII", b"MMMM")
"""What Canon and Phase One write after the 8 bytes with which a TIFF begins."""

# Tags of TIFF 6.0, its supplements, and DNG.
_SUBFILE_TYPE, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 254, 262, 271, 330, 50706
_SENSOR: Final = frozenset({32803, 34892})
"""Pixels as a sensor gives them: CFA and LinearRaw."""


def is_raw(data: bytes) -> bool:
    """Tell whether a file is a RAW photo.

    Most are TIFFs whose first picture, which is the one that opens, is a thumbnail of another.
    """
    if data.startswith(skip.RAW_STARTS) or data[6:14] == b"HEAPCCDR" or data[4:12] == b"ftypcrx ":
        return True
    if not data.startswith(skip.TIFF_STARTS):
        return False
    try:
        first = directory(data)
    except Exception:  # a broken TIFF may raise nearly anything; its decoder says what is wrong
        return False
    is_thumbnail = first.get(_SUBFILE_TYPE, 0) & 1
    return (
        data.startswith(_TIFF_MARKS, 8)
        or _DNG_VERSION in first
        or first.get(_PHOTOMETRIC) in _SENSOR
        or (_SUB_IFDS in first and (is_thumbnail or _MAKE in first))
        or bool(is_thumbnail and first.next)
    )


def directory(data: bytes) -> ImageFileDirectory_v2:
    """Return the first directory of a TIFF. May raise any error if it is broken."""
    first = ImageFileDirectory_v2(data[: 16 if b"+" in data[2:4] else 8])
    file = io.BytesIO(data)
    file.seek(first.next)
    first.load(file)
    return first

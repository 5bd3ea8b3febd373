"""Tell RAW photos (a camera's sensor data) from pictures, by their content and not by their name.

Most RAW files are TIFFs whose first picture, which is the one that opens, is a thumbnail.
"""

from __future__ import annotations

import io
from typing import Final, NamedTuple

from PIL.TiffImagePlugin import ImageFileDirectory_v2

_TIFF_STARTS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_MARKS: Final = (b"CR\2\0", b"IIII", b"MMMM")
"""What Canon and Phase One write after the 8 bytes with which a TIFF begins."""
_OTHER_STARTS: Final = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
"""RAW files that are not TIFF: of Fujifilm, Olympus, Panasonic, Sigma, Minolta."""
_CANON: Final = {b"HEAPCCDR": 6, b"ftypcrx ": 4}
"""Canon's two other formats: what marks them, and at which offset in bytes."""

_DIRECTORIES: Final = 8
"""Limit on a TIFF's directories that are read: those after the first, and those inside it."""

# Tags of TIFF 6.0, its supplements, and DNG.
_SUBFILE_TYPE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 259, 262
_MAKE, _SUB_IFDS, _DNG_VERSION = 271, 330, 50706
_COMPRESSIONS: Final = frozenset({32767, 32769, 32770, 34713, 65000, 65535})
"""Compressions of Sony, Epson, Samsung, Nikon, Kodak and Pentax."""
_PHOTOMETRICS: Final = frozenset({32803, 34892})
"""Pixels as a sensor gives them: CFA and LinearRaw."""


class _Directories(NamedTuple):
    first: ImageFileDirectory_v2
    following: list[ImageFileDirectory_v2]
    inside: list[ImageFileDirectory_v2]
    """The SubIFDs of the first."""


def maker(data: bytes) -> str | None:
    """Return the maker of a RAW photo's camera, empty if it does not say; None for other files."""
    if data.startswith(_OTHER_STARTS) or any(
        data.startswith(mark, place) for mark, place in _CANON.items()
    ):
        return ""
    if not data.startswith(_TIFF_STARTS):
        return None
    try:
        found = _directories(data)
        if data.startswith(_TIFF_MARKS, 8) or _is_raw(found):
            return str(found.first.get(_MAKE, "")).strip(" \0")
    except Exception:  # a broken TIFF may raise nearly anything; its decoder says what is wrong
        return None
    return None


def _is_raw(found: _Directories) -> bool:
    first, following, inside = found
    is_thumbnail = first.get(_SUBFILE_TYPE, 0) & 1
    return (
        _DNG_VERSION in first
        or any(some.get(_PHOTOMETRIC) in _PHOTOMETRICS for some in (first, *following, *inside))
        or any(some.get(_COMPRESSION) in _COMPRESSIONS for some in (first, *inside))
        or any(_area(some) > _area(first) for some in inside + following * is_thumbnail)
    )


def _directories(data: bytes) -> _Directories:
    file = io.BytesIO(data)
    header = data[:16] if b"+" in data[2:4] else data[:8]  # of a BigTIFF, or of a TIFF

    def read(place: int) -> ImageFileDirectory_v2:
        directory = ImageFileDirectory_v2(header)
        file.seek(place)
        directory.load(file)
        return directory

    first = read(ImageFileDirectory_v2(header).next)
    chain = [first]
    while chain[-1].next and len(chain) <= _DIRECTORIES:
        chain.append(read(chain[-1].next))
    inside = first.get(_SUB_IFDS, ())
    places = inside if isinstance(inside, tuple) else (inside,)
    return _Directories(first, chain[1:], [read(place) for place in places[:_DIRECTORIES]])


def _area(directory: ImageFileDirectory_v2) -> int:
    return int(directory.get(_WIDTH, 0)) * int(directory.get(_HEIGHT, 0))

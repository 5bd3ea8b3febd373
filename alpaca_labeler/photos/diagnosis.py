"""Why a file cannot be opened: a RAW photo or another kind, changed bytes, or no picture."""

from __future__ import annotations

import io
import re
from typing import Final

from PIL import UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from alpaca_labeler.photos import skip

_TIFF_MARKS: Final = (b"CR\2\0", b"IIII", b"MMMM")
"""What Canon and Phase One write after the 8 bytes with which a TIFF begins."""

# Tags of TIFF 6.0, its supplements, and DNG.
_SUBFILE_TYPE, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 254, 262, 271, 330, 50706
_SENSOR: Final = frozenset({32803, 34892})
"""Pixels as a sensor gives them: CFA and LinearRaw."""

_BITS, _COMPRESSION, _BANDS, _SAMPLE_FORMAT = 258, 259, 277, 339
_SAMPLES: Final = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}
_WITHIN: Final = 16
"""Stray bytes before a picture: line breaks and byte-order marks of scripts and editors. The head
of a form's part, which begins with two hyphens, is longer."""
_BEGINNINGS: Final = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]|\x89PNG\r\n\x1a\n|GIF8[79]a")
_AS_TEXT: Final = (
    # Line ends of a PNG converted, and its high bit cut off.
    *(b"\x89PNG\n", b"\x89PNG\r\r\n", b"\x89PNG\r\n\x1a\r\n", b"\tPNG"),
    # Read as Latin-1 and written as UTF-8; read as UTF-8 and its bytes replaced.
    *(b"\xc3\xbf\xc3\x98\xc3\xbf", b"\xc2\x89PNG", b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"),
    *(b"\xef\xbf\xbdPNG", b"\xe2\x80\xb0PNG", b"\0\x10JFIF\0", b"PNG\r\n\x1a\n"),
    # Base64, also with what a web page writes before it, and digits.
    *(b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR", b"data:image/", b"ffd8ff", b"89504e47"),
)
CHANGED: Final = "its bytes were changed as if it were text: upload the original in binary mode"


def is_raw(data: bytes) -> bool:
    """Tell whether a file is a RAW photo.

    Most are TIFFs whose first picture, which is the one that opens, is a thumbnail of another.
    """
    if data.startswith(skip.RAW_STARTS) or data[6:14] == b"HEAPCCDR" or data[4:12] == b"ftypcrx ":
        return True
    if not data.startswith(skip.TIFF_STARTS):
        return False
    try:
        first = _directory(data)
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


def has_line_ends_of_text(data: bytes) -> bool:
    """Tell whether a file was transferred as text, which made two bytes of each line end.

    Of pixels that are not compressed nothing can be told.
    """
    at = len(data) // 2 if not data.startswith((b"BM", *skip.TIFF_STARTS)) else len(data)
    for _ in range(16):  # so that an ordinary JPEG is not searched whole
        at = data.find(b"\n", at) + 1
        if at < 2 or data[at - 2] != ord("\r"):
            return False
    return data.count(b"\n") == data.count(b"\r\n")


def diagnose(data: bytes, error: Exception) -> tuple[str, str]:
    """Return the failure code and, for people, why a file that raised `error` cannot be opened."""
    if str(error).startswith("cannot handle"):  # Pillow, of a JPEG of 12 bits or of two bands
        return "unsupported", f"a JPEG of a rare kind ({error}): save it as an 8-bit RGB JPEG"
    if data.startswith(skip.TIFF_STARTS) and (kind := _tiff_kind(data)):
        return "unsupported", f"a TIFF of {kind} cannot be read: save it as 8- or 16-bit RGB"
    if data.lstrip(b"\"' \r\n").startswith(_AS_TEXT):
        return "corrupt", CHANGED
    if found := _BEGINNINGS.search(data, 1, 1024 if data.startswith(b"--") else _WITHIN + 10):
        return "corrupt", (
            f"a picture begins only behind its first {found.start()} bytes: cut them off, or "
            "upload the original again"
        )
    if skip.begins_like_a_photo(data[: skip.SNIFFED_BYTES]):
        said = "broken, or cut off" if isinstance(error, UnidentifiedImageError) else str(error)
        return "corrupt", f"the image header cannot be read: {said or type(error).__name__}"
    return "not-an-image", (
        "not a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC file, or cut off at its start"
    )


def _tiff_kind(data: bytes) -> str:
    """Return the bands, bits and compression of a TIFF; empty if its directory is broken."""
    try:
        tags = _directory(data)
        bits, samples = set(tags[_BITS]), set(tags.get(_SAMPLE_FORMAT, (1,)))
        bands = int(tags.get(_BANDS, 1))
    except Exception:  # a broken TIFF may raise nearly anything
        return ""
    words = [_SAMPLES[kind] for kind in sorted(samples) if kind in _SAMPLES]
    depth = " ".join([f"{'/'.join(map(str, sorted(bits)))} bits", *words])
    plural = "" if bands == 1 else "s"
    return f"{bands} band{plural} of {depth} (compression {tags.get(_COMPRESSION, 1)})"


def _directory(data: bytes) -> ImageFileDirectory_v2:
    """Return the first directory of a TIFF. May raise any error if it is broken."""
    first = ImageFileDirectory_v2(data[: 16 if b"+" in data[2:4] else 8])
    file = io.BytesIO(data)
    file.seek(first.next)
    first.load(file)
    return first

"""Why a file cannot be opened: a kind that no decoder here reads, changed bytes, or no picture."""

from __future__ import annotations

import re
from typing import Final

from alpaca_labeler.photos import raw, skip

_BITS, _COMPRESSION, _BANDS, _SAMPLE_FORMAT = 258, 259, 277, 339
_SAMPLES: Final = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}
_WITHIN: Final = 16
"""Stray bytes before a picture: line breaks and byte-order marks of scripts and editors."""
_LINE_ENDS: Final = 16
"""Line ends that are looked at first, so that an ordinary JPEG is not searched whole."""

_BEGINNINGS: Final = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]|\x89PNG\r\n\x1a\n|GIF8[79]a")
_AS_TEXT: Final = (
    # Line ends of a PNG converted, and its high bit cut off.
    *(b"\x89PNG\n", b"\x89PNG\r\r\n", b"\x89PNG\r\n\x1a\r\n", b"\tPNG"),
    # Read as Latin-1 and written as UTF-8; read as UTF-8 and its bytes replaced.
    *(b"\xc3\xbf\xc3\x98\xc3\xbf", b"\xc2\x89PNG", b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"),
    b"\xef\xbf\xbdPNG",
    # Base64, also with what a web page writes before it.
    *(b"/9j/", b"iVBORw0KGgo", b"R0lGOD", b"UklGR", b"data:image/"),
)

CHANGED: Final = "its bytes were changed as if it were text: upload the original in binary mode"


def has_line_ends_of_text(data: bytes) -> bool:
    """Tell whether a JPEG was transferred as text, which made two bytes of each line end."""
    at = len(data) // 2
    for _ in range(_LINE_ENDS):
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
    if data.startswith(_AS_TEXT):
        return "corrupt", CHANGED
    if found := _BEGINNINGS.search(data, 1, _WITHIN + 10):
        return "corrupt", (
            f"a picture begins only behind its first {found.start()} bytes: cut them off, or "
            "upload the original again"
        )
    return "not-an-image", (
        "not a JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC file, or cut off at its start"
    )


def _tiff_kind(data: bytes) -> str:
    """Return the bands, bits and compression of a TIFF; empty if its directory is broken."""
    try:
        tags = raw.directory(data)
        bits, samples = set(tags[_BITS]), set(tags.get(_SAMPLE_FORMAT, (1,)))
        bands = int(tags.get(_BANDS, 1))
    except Exception:  # a broken TIFF may raise nearly anything
        return ""
    words = [_SAMPLES[kind] for kind in sorted(samples) if kind in _SAMPLES]
    depth = " ".join([f"{'/'.join(map(str, sorted(bits)))} bits", *words])
    plural = "" if bands == 1 else "s"
    return f"{bands} band{plural} of {depth} (compression {tags.get(_COMPRESSION, 1)})"

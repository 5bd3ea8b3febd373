"""The content of a photo: a digest of what makes the picture, and of nothing else.

Photo programs write ratings, tags and dates into files, and stores name the same bytes in different
ways. Neither changes the picture, so what a person said of it stays.

    JPEG    all segments but APPn and COM
    PNG     the critical chunks: those whose type begins with a capital letter
    other   all bytes
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

PREFIX: Final = "sha256:"

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
_MOST: Final = 20_000
"""Segments or chunks that are told apart; a PNG of 100 MB has 13,000. The rest is taken whole."""


def content_of(data: bytes) -> str:
    """Return `sha256:<hex>` of what makes the picture in an encoded image."""
    found, view = hashlib.sha256(), memoryview(data)
    if data.startswith(_JPEG):
        pieces = _segments(view)
    elif data.startswith(_PNG):
        pieces = _chunks(view)
    else:
        pieces = iter([view])
    for piece in pieces:
        found.update(piece)
    return PREFIX + found.hexdigest()


def _segments(data: memoryview) -> Iterator[memoryview]:
    """Yield a JPEG's segments but APPn and COM. From what is no segment on, all bytes count."""
    at = len(_JPEG)
    for _ in range(_MOST):
        if at + 4 > len(data) or data[at] != 0xFF:
            break
        marker = data[at + 1]
        length = 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xDA or not 0xC0 <= marker <= 0xFE or 0xD0 <= marker <= 0xD9:
            break
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            yield data[at : at + length]
        at += length
    yield data[at:]


def _chunks(data: memoryview) -> Iterator[memoryview]:
    at = len(_PNG)
    for _ in range(_MOST):
        if at + 12 > len(data):  # of a chunk's length, type and CRC
            break
        length = 12 + int.from_bytes(data[at : at + 4])
        if chr(data[at + 4]).isupper():
            yield data[at : at + length]
        at += length
    yield data[at:]

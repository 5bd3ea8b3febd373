"""What a file may cost beside its pixels: in segments, scans, metadata and directories.

Pillow reads headers in Python, so that a byte of a file may take a microsecond and 50 bytes of
memory. Everything here is far above what cameras and photo programs write.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

from alpaca_labeler.photos import skip

MAX_READS: Final = 1_000_000
"""Most reads of a file: of segments, chunks and blocks, each of which takes some microseconds."""
MAX_RUNS: Final = 4 * MAX_READS
"""Most reads of a bitmap: two for each run of equal pixels."""
MAX_HEADER: Final = 32 * 2**20
"""Most bytes before the first scan of a JPEG; panoramas with depth and sound have some MB there."""
MAX_EXIF: Final = 4 * 2**20
"""Most bytes of EXIF. A JPEG's segment has 64 KB at most."""
MAX_NUMBERS: Final = 1_000_000
"""Most numbers in a directory of a TIFF; a picture in tiles of 16 x 16 has two for each tile."""
MAX_SCANS: Final = 100
"""Most scans of a JPEG. Progressive ones have about ten."""
SCANNED: Final = 35
"""Pixels that all scans of a JPEG may go over, as a multiple of the limit on pixels: each scan goes
over the whole picture, so that a megabyte of empty ones would keep a core busy for an hour."""
_MAX_ENTRIES: Final = 2**16
"""Most entries of a directory; only BigTIFF can have more."""
_MAX_DIRECTORIES: Final = 16
"""Most TIFF directories that are looked for in an AVIF, where one may be anywhere."""
_TIFF_START: Final = re.compile(b"|".join(map(re.escape, skip.TIFF_STARTS)))
_SEGMENT: Final = re.compile(rb"\xff[\xc0-\xc7\xc9-\xcf\xd9-\xef\xfe]")
"""Matches a marker that begins a segment with a length, or the end of a JPEG."""
_END, _SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1, 0xC3, 0xC9})
_MAX_SEGMENTS: Final = 100_000
"""Most segments of a JPEG; before its first scan each stray byte counts as one."""
_NUMBERS: Final = frozenset({3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 16})
"""Types of TIFF values that become one object each."""


class TooComplex(Exception):
    """Reading the file would take more time or memory than a photo may."""


class Metered(io.BytesIO):
    """A file in memory of which a decoder may read only so often."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = MAX_RUNS if data.startswith(b"BM") else MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Raise `TooComplex` once there were too many reads."""
        self._left -= 1
        if self._left < 0:
            raise TooComplex("it takes too many steps to read")
        return super().read(size)


def check(data: bytes) -> None:
    """Raise `TooComplex` for a TIFF or AVIF file whose directory costs too much to read."""
    if data.startswith(skip.TIFF_STARTS):
        _check_directory(data, 0)
    elif len(data) > MAX_EXIF and data[4:8] == b"ftyp":
        for number, found in enumerate(_TIFF_START.finditer(data), 1):
            _check_directory(data, found.start())
            if number > _MAX_DIRECTORIES:
                raise TooComplex(f"it has more than {_MAX_DIRECTORIES} blocks of metadata")


def has_too_much_exif(info: Mapping[Any, Any]) -> bool:
    """Tell by Pillow's `info` of a loaded picture whether it has more than `MAX_EXIF` bytes."""
    blocks = map(info.get, ("exif", "Raw profile type exif"))
    return any(len(block) > MAX_EXIF for block in blocks if block)


def coefficient_bytes(data: bytes, max_pixels: int) -> float:
    """Return how many bytes per pixel libjpeg holds until a JPEG's last scan: 0 if it has only one.

    Raises `TooComplex` for too many scans or segments, or too much metadata.
    """
    exif = scans = components = 0
    sequential, allowed, held = False, MAX_SCANS, 0.0
    for kind, start, end in _segments(data):
        if kind == _APP1 and data.startswith(b"Exif\0\0", start + 2):
            exif += end - start
        elif kind in _FRAMES and not components:
            components = _number(data, start + 7, 1)
            sequential = kind in _SEQUENTIAL
            # A coefficient takes 2 bytes, and a component may have fewer than there are pixels.
            sides = [divmod(byte, 16) for byte in data[start + 9 : start + 8 + 3 * components : 3]]
            full = math.prod(max(of, default=1) for of in zip(*sides, strict=True))
            held = 2 * sum(map(math.prod, sides)) / max(1, full)
            pixels = _number(data, start + 3, 2) * _number(data, start + 5, 2)
            allowed = min(MAX_SCANS, SCANNED * max_pixels // max(1, pixels))
        elif kind == _SCAN:
            scans += 1
            # The common photo: one scan of all components, and whatever follows is not read.
            if sequential and _number(data, start + 2, 1) >= components:
                return 0
        if exif > MAX_EXIF:
            raise TooComplex(f"it has more than {MAX_EXIF:,} bytes of EXIF")
        if scans > allowed:
            raise TooComplex(f"it has more than {allowed} scans, each over all its pixels")
    return held


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker of each segment of a JPEG, its start behind the marker, and its end.

    What is in a segment is skipped: a thumbnail has markers too, as has a video at the end.
    """
    at = steps = 0
    scanned = False
    while marker := _SEGMENT.search(data, at):
        kind, start = marker[0][1], marker.end()
        steps += 1 if scanned else 1 + marker.start() - at
        if steps > _MAX_SEGMENTS or (start > MAX_HEADER and not scanned):
            raise TooComplex("it has too many segments, or too many bytes, before its pixels")
        at = start
        if kind == _END and scanned:
            return
        if kind != _END:
            at += max(2, _number(data, start, 2))
            scanned = scanned or kind == _SCAN
            yield kind, start, at


def _check_directory(data: bytes, start: int) -> None:
    order = "<" if data[start : start + 1] == b"I" else ">"
    big = b"+" in data[start + 2 : start + 4]
    at = start + _number(data, start + (8 if big else 4), 8 if big else 4, order)
    entries = _number(data, at, 8 if big else 2, order)
    if entries > _MAX_ENTRIES:
        raise TooComplex(f"a directory in it has {entries:,} entries")
    entry = struct.Struct(order + ("HHQ8x" if big else "HHI4x"))
    table = data[at + (8 if big else 2) :][: entries * entry.size]
    table = table[: len(table) // entry.size * entry.size]
    # What claims more than there is Pillow does not read.
    counts = [n for _, kind, n in entry.iter_unpack(table) if kind in _NUMBERS and n <= len(data)]
    if sum(counts) > MAX_NUMBERS:
        raise TooComplex(f"a directory in it has more than {MAX_NUMBERS:,} numbers")


def _number(data: bytes, at: int, size: int, order: str = ">") -> int:
    return int.from_bytes(data[at : at + size], "little" if order == "<" else "big")

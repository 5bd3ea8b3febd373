"""Small TIFFs built tag by tag, as cameras write RAW files and others pictures; PNGs by chunks."""

from __future__ import annotations

import struct
import zlib
from typing import Any

SUBFILE, WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, MAKE, SUB_IFDS = 254, 256, 257, 259, 262, 271, 330
DNG_VERSION = 50706
CFA = 32803
PIXELS = -1
"""No tag: the bytes of the picture."""


def directory(side: int, **more) -> dict[int, Any]:
    """The tags of a grey picture of `side` x `side` pixels; `more` as `tag_330=...`."""
    tags = {WIDTH: side, HEIGHT: side, 258: 8, COMPRESSION: 1, PHOTOMETRIC: 1, 277: 1, 278: side}
    return tags | {int(name.removeprefix("tag_")): value for name, value in more.items()}


def tiff(*following, inside=(), mark: bytes = b"", order: str = "<") -> bytes:
    """A TIFF of the directories `following`, one after the other; the first one holds `inside`."""
    data = bytearray((b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 0) + mark)
    places = [_append(data, tags, order) for tags in inside]
    first = following[0] | ({SUB_IFDS: places} if places else {})
    end = 4
    for tags in (first, *following[1:]):
        struct.pack_into(f"{order}I", data, end, _append(data, tags, order))
        end = len(data) - 4
    return bytes(data)


def deep(values: Any, order: str = "<", **more) -> bytes:
    """A TIFF of an array (height, width, bands), RGB unless `more` says so, in its own bits."""
    height, width, bands = values.shape
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = {WIDTH: width, HEIGHT: height, 258: [8 * values.itemsize] * bands, PHOTOMETRIC: 2}
    tags |= {COMPRESSION: 1, 277: bands, 278: height, PIXELS: pixels}
    tags |= {int(name.removeprefix("tag_")): value for name, value in more.items()}
    return tiff(tags, order=order)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, rows: bytes, *chunks: bytes, bits: int = 8, kind: int = 2
) -> bytes:
    """A PNG that claims such a size, RGB unless `kind` says so, whatever its rows are."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    parts = (header, *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _append(data: bytearray, tags: dict[int, Any], order: str) -> int:
    """Append the directory, with its picture and its long values before it; return its place."""
    size = tags[WIDTH] * tags[HEIGHT]
    pixels = tags.get(PIXELS, bytes(range(256)) * (size // 256 + 1))
    tags = {tag: value for tag, value in tags.items() if tag != PIXELS}
    tags |= {273: len(data), 279: len(pixels)}
    data += pixels
    entries = []
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list | bytes) else [value]
        kind, packed = 4, b"".join(struct.pack(f"{order}I", one) for one in values)
        if isinstance(value, bytes):
            kind, packed = (1 if tag == DNG_VERSION else 2), value
        if len(packed) > 4:
            address = struct.pack(f"{order}I", len(data))
            data += packed
            packed = address
        entries.append(struct.pack(f"{order}HHI4s", tag, kind, len(values), packed))
    data += bytes(len(data) % 2)
    place = len(data)
    data += struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return place

"""Files that cost much for their pixels or bytes: what a labelling worker takes for each.

python tests/fuzz/bombs.py                       # all, of 100 megapixels
python tests/fuzz/bombs.py --pixels 16000000 jpeg-scans
"""

from __future__ import annotations

import argparse
import json
import math
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.fuzz.seeds import TESTS, encoded
from tests.support.raw import chunk

Image.MAX_IMAGE_PIXELS = None  # here they are made


def _saved(mode: str, form: str, widest: int = 2**31, **options) -> Callable[[int], bytes]:
    def make(pixels: int) -> bytes:
        width = min(widest, math.isqrt(pixels))
        return encoded(Image.new(mode, (width, pixels // width)), form, **options)

    return make


def frame_beyond_its_screen(_pixels: int) -> bytes:
    """A GIF of 35 bytes on a small screen whose frame is said to be 65,535 pixels wide and high."""
    frame = b"," + struct.pack("<4HB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\0;"
    return b"GIF89a" + struct.pack("<2H3B", 8, 8, 0x80, 0, 0) + bytes(6) + frame


def many_frames(_pixels: int) -> bytes:
    """A GIF of 10,000 frames, a kilobyte each."""
    whole = encoded(Image.effect_noise((32, 32), 90).convert("P"), "GIF")
    start = whole.index(b",")
    return whole[:start] + whole[start:-1] * 10_000 + b";"


def wide_jpeg(pixels: int, sampling: str = "4:4:4", **options) -> bytes:
    picture = Image.new("RGB", (65500, max(1, pixels // 65500)))
    return encoded(picture, "JPEG", subsampling=sampling, **options)


def many_scans(pixels: int, scans: int = 20_000) -> bytes:
    """A progressive JPEG whose last scan comes again and again; each goes over all the picture."""
    data = wide_jpeg(pixels, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def long_comments(_pixels: int) -> bytes:
    """A PNG of 64 comments of a MiB, deflated: the most that Pillow takes, at 4 bytes a letter."""
    text = zlib.compress("\U0001f999".encode() + bytes(MB - 4), 9)
    return in_png(*(chunk(b"iTXt", b"%d\0\1\0\0\0" % number + text) for number in range(64)))


def empty_canvas(_pixels: int) -> bytes:
    """A WebP of nothing, on a canvas of 16,384 x 16,384."""
    canvas = b"VP8X" + struct.pack("<IB3x", 10, 2) + b"\xff\x3f\0\xff\x3f\0"
    frame = _saved("RGB", "WEBP")(64)[12:]
    anim = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body = bytes(6) + b"\x07\0\0\x07\0\0" + bytes(4) + frame
    anmf = b"ANMF" + struct.pack("<I", len(body)) + body
    payload = b"WEBP" + canvas + anim + anmf
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


# --- metadata ------------------------------------------------------------------------------------


def tiny(form: str, **options) -> bytes:
    return encoded(Image.new("RGB", (8, 8)), form, **options)


def in_png(*chunks: bytes, late: bool = False) -> bytes:
    whole = tiny("PNG")
    at = len(whole) - 12 if late else 33
    return whole[:at] + b"".join(chunks) + whole[at:]


def in_jpeg(body: bytes) -> bytes:
    whole = tiny("JPEG")
    return whole[:2] + body + whole[2:]


def segments(marker: int, mark: bytes, body: bytes) -> bytes:
    size = 65_533 - len(mark)
    parts = (mark + body[at : at + size] for at in range(0, len(body), size))
    return b"".join(struct.pack(">BBH", 255, marker, len(part) + 2) + part for part in parts)


def long_tag(tag: int, numbers: int) -> bytes:
    """A TIFF of one tag of signed bytes, each of which becomes an object of Python's."""
    entry = struct.pack("<HHHIII", 1, tag, 6, numbers, 26, 0)
    return b"II*\0\x08\0\0\0" + entry + b"\x80" * (numbers + 64)


def large_directories(count: int, numbers: int) -> bytes:
    size = 2 + 12 * 3 + 4
    out = bytearray(b"II*\0\x08\0\0\0")
    for number in range(1, count + 1):
        out += struct.pack("<HHHIIHHII", 3, 256, 4, 1, 100, 257, 4, 1, 100)
        out += struct.pack("<HHII", 262, 6, numbers, 8 + size * count)
        out += struct.pack("<I", 8 + size * number if number < count else 0)
    return bytes(out) + b"\x80" * (numbers + 64)


def many_entries(count: int) -> bytes:
    head = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, count)
    return head + struct.pack("<HHQQ", 999, 1, 1, 0) * count


def in_gif(body: bytes) -> bytes:
    screen = b"GIF89a" + struct.pack("<2H3B", 8, 8, 0, 0, 0)
    return screen + body + b",\0\0\0\0\x08\0\x08\0\0\2\2\x44\1\0;"


def in_webp(body: bytes) -> bytes:
    whole = tiny("WEBP", exif=b"II*\0\x08\0\0\0" + bytes(10)) + body
    return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]


def in_avif(numbers: int) -> bytes:
    whole = tiny("AVIF", exif=long_tag(0x132, numbers))  # Pillow would not write an orientation
    return whole.replace(struct.pack("<HHH", 1, 0x132, 6), struct.pack("<HHH", 1, 0x112, 6))


def empty_scans(pixels: int, scans: int = 99) -> bytes:
    """A progressive JPEG of a kilobyte in arithmetic coding, in which a scan may have no bytes."""
    side = math.isqrt(pixels)
    out = b"\xff\xd8" + segments(0xDB, b"", b"\0" + b"\1" * 64)
    out += segments(0xCA, b"", struct.pack(">BHHB3B", 8, side, side, 1, 1, 0x11, 0))
    out += segments(0xDA, b"", b"\1\1\0\0\0\x0d") + segments(0xDA, b"", b"\1\1\0\1\x3f\x0d")
    for depth in range(12, 12 - scans + 2, -1):
        low = max(0, depth)
        out += segments(0xDA, b"", b"\1\1\0\1\x3f" + bytes([(low + 1) << 4 | low]))
    return out + b"\xff\xd9"


def separate_colours(_pixels: int) -> bytes:
    """A baseline JPEG of 65,500 x 65,500 that has a scan for each colour, so all is held."""
    out = b"\xff\xd8" + segments(0xDB, b"", b"\0" + b"\1" * 64)
    frame = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    out += segments(0xC0, b"", struct.pack(">BHHB", 8, 65_500, 65_500, 3) + frame)
    out += segments(0xC4, b"", b"\0\1" + bytes(16)) + segments(0xC4, b"", b"\x10\1" + bytes(16))
    return out + b"".join(
        segments(0xDA, b"", bytes([1, n, 0, 0, 63, 0])) + bytes(1000) for n in (1, 2, 3)
    )


def run_lengths(body: bytes, bits: int = 8, side: int = 4990) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, bits // 4 % 2 + 1, 4, 0, 0, 0, 0)
    colours = bytes(4 << bits)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(colours)) + head + colours + body


def raw_profile(size: int) -> bytes:
    text = b"\nexif\n%d\n" % size + long_tag(0x112, size).hex().encode()
    return in_png(chunk(b"tEXt", b"Raw profile type exif\0" + text), late=True)


MB = 2**20
OF_PIXELS: dict[str, Callable[[int], bytes]] = {
    "png-rgb": _saved("RGB", "PNG"),
    "png-rgba": _saved("RGBA", "PNG"),
    "png-palette": _saved("P", "PNG", transparency=0),
    "png-16-bit": _saved("I;16", "PNG"),
    "png-comments": long_comments,
    "webp-lossy": _saved("RGB", "WEBP", 16383),
    "webp-lossless": _saved("RGBA", "WEBP", 16383, lossless=True),
    "webp-canvas": empty_canvas,
    "tiff-float": _saved("F", "TIFF", compression="tiff_adobe_deflate"),
    "tiff-int": _saved("I", "TIFF", compression="tiff_lzw"),
    "tiff-fax": _saved("1", "TIFF", compression="group4"),
    "tiff-cmyk": _saved("CMYK", "TIFF", compression="tiff_adobe_deflate"),
    "gif-screen": _saved("P", "GIF", 65535),
    "gif-frame": frame_beyond_its_screen,
    "gif-10,000-frames": many_frames,
    "bmp-rgb": _saved("RGB", "BMP"),
    "jpeg-65,500-px": wide_jpeg,
    "jpeg-progressive": lambda pixels: wide_jpeg(pixels, progressive=True),
    "jpeg-sampled": lambda pixels: wide_jpeg(pixels, "4:2:0", progressive=True),
    "jpeg-grey": lambda pixels: empty_scans(pixels, 7),
    "jpeg-scans": many_scans,
    "avif": _saved("RGB", "AVIF", 65535, speed=10),
    "heif": _saved("RGB", "HEIF", 8192, quality=10),
    "bmp-line-ends": lambda pixels: run_lengths(b"\1x\0\0" * 9990, side=math.isqrt(pixels)),
    "bmp-4-bits": lambda pixels: run_lengths(
        (b"\xfa\x12" * 40 + b"\0\0") * 9990, bits=4, side=math.isqrt(pixels)
    ),
}
BOMBS: dict[str, Callable[[int], bytes]] = OF_PIXELS | {
    "png-exif": lambda _: in_png(chunk(b"eXIf", long_tag(0x112, 99 * MB))),
    "png-exif-at-end": lambda _: in_png(chunk(b"eXIf", long_tag(0x112, 99 * MB)), late=True),
    "png-exif-as-text": lambda _: raw_profile(30 * MB),
    "png-chunks": lambda _: in_png(chunk(b"teSt", b"") * 8_000_000),
    "webp-exif": lambda _: tiny("WEBP", exif=long_tag(0x112, 99 * MB)),
    "webp-chunks": lambda _: in_webp(b"teSt\0\0\0\0" * 12_000_000),
    "avif-boxes": lambda _: tiny("AVIF") + b"\0\0\0\x08free" * 12_000_000,
    "avif-exif": lambda _: in_avif(99 * MB),
    "tiff-directories": lambda _: large_directories(9, 99 * MB),
    "tiff-entries": lambda _: many_entries(5_000_000),
    "gif-comments": lambda _: in_gif(b"\x21\xfe" + b"\1c" * (49 * MB) + b"\0"),
    "gif-extensions": lambda _: in_gif(b"\x21\xf9\4\0\0\0\0\0" * (12 * MB)),
    "gif-stray-bytes": lambda _: in_gif(b"x" * (99 * MB)),
    "bmp-run-lengths": lambda _: run_lengths(b"\1x" * (49 * MB)),
    "jpeg-exif": lambda _: in_jpeg(segments(0xE1, b"Exif\0\0", long_tag(0x112, 99 * MB))),
    "jpeg-segments": lambda _: in_jpeg(b"\xff\xfe\0\2" * (24 * MB)),
    "jpeg-fill-bytes": lambda _: in_jpeg(b"\xff" * (99 * MB)),
    "jpeg-photoshop": lambda _: in_jpeg(
        segments(0xED, b"Photoshop 3.0\0", b"8BIM\4\4\0\0\0\0\0\0" * (8 * MB))
    ),
    "jpeg-empty-scans": lambda pixels: empty_scans(2 * pixels),
    "jpeg-separate-colours": separate_colours,
}

MEASURE = """
import json, resource, sys, time
from alpaca_labeler.model.bundle import EMBEDDED
from alpaca_labeler.pipeline.pool import Workers
from alpaca_labeler.pipeline.worker import Job
from alpaca_labeler.storage.image_version import ImageVersion
with Workers(Job(EMBEDDED, 1, 100 * 2**20, int(sys.argv[2])), 1) as workers:
    workers.ready()
    began = time.monotonic()
    [done] = workers.label([ImageVersion(sys.argv[1])])
    seconds = time.monotonic() - began
failure = done.row.answer.failure
print(json.dumps({"seconds": seconds, "outcome": failure.code if failure else done.row.label,
    "megabytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}))
"""


FACTORS = {"webp": 0.625, "jpeg-progressive": 1.66, "jpeg-sampled": 3.3, "jpeg-grey": 4.9}
FACTORS |= {"heif": 1.4, "bmp-rgb": 0.34, "bmp": 0.25}
"""By kind or format: the most pixels, as a share of the limit."""


def made(name: str, pixels: int) -> bytes:
    """Return a file of as many pixels as the limit `pixels` lets pass, or of 99 MB of metadata."""
    pixels = int(pixels * FACTORS.get(name, FACTORS.get(name.partition("-")[0], 1)))
    if name == "heif":
        import pillow_heif

        pillow_heif.register_heif_opener()
    return BOMBS[name](pixels)


def measure(data: bytes, pixels: int, timeout: float = 300) -> dict[str, Any]:
    """Label in a worker: its seconds, the most MB of memory that it had, and what came of it."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        command = [sys.executable, "-c", MEASURE, file.name, str(pixels)]
        answer = subprocess.check_output(command, cwd=TESTS.parent, timeout=timeout)
    found: dict[str, Any] = json.loads(answer)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=[*BOMBS], metavar="NAME")
    parser.add_argument("--pixels", type=int, default=100_000_000)
    asked = parser.parse_args()
    print("| file | bytes | seconds | MB | outcome |\n|---|---|---|---|---|")
    for name in asked.names:
        data = made(name, asked.pixels)
        try:
            found = measure(data, asked.pixels)
        except subprocess.SubprocessError as error:
            found = {"seconds": math.nan, "megabytes": 0, "outcome": type(error).__name__}
        print(f"| {name} | {len(data):,} | ", end="")
        print("{seconds:.1f} | {megabytes:,.0f} | {outcome} |".format(**found), flush=True)


if __name__ == "__main__":
    main()

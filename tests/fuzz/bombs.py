"""Small files that cost much: time and memory of each, in a process of its own.

python tests/fuzz/bombs.py                       # all, of 100 megapixels
python tests/fuzz/bombs.py --pixels 16000000 jpeg-scans
"""

from __future__ import annotations

import argparse
import io
import json
import math
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parent.parent.parent
Image.MAX_IMAGE_PIXELS = None  # here they are made


def _saved(mode: str, form: str, widest: int = 2**31, **options) -> Callable[[int], bytes]:
    def make(pixels: int) -> bytes:
        width = min(widest, math.isqrt(pixels))
        out = io.BytesIO()
        Image.new(mode, (width, pixels // width)).save(out, form, **options)
        return out.getvalue()

    return make


def frame_beyond_its_screen(_pixels: int) -> bytes:
    """A GIF of 35 bytes on a small screen whose frame is said to be 65,535 pixels wide and high."""
    frame = b"," + struct.pack("<4HB", 0, 0, 65535, 65535, 0) + b"\x02\x02\x4c\x01\0;"
    return b"GIF89a" + struct.pack("<2H3B", 8, 8, 0x80, 0, 0) + bytes(6) + frame


def many_frames(_pixels: int) -> bytes:
    """A GIF of 10,000 frames, a kilobyte each."""
    out = io.BytesIO()
    frame = Image.effect_noise((32, 32), 90).convert("P")
    frame.save(out, "GIF")
    whole = out.getvalue()
    start = whole.index(b",")
    return whole[:start] + whole[start:-1] * 10_000 + b";"


def wide_jpeg(pixels: int, **options) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (65500, max(1, pixels // 65500))).save(out, "JPEG", subsampling=0, **options)
    return out.getvalue()


def many_scans(pixels: int, scans: int = 20_000) -> bytes:
    """A progressive JPEG whose last scan comes again and again; each goes over all the picture."""
    data = wide_jpeg(pixels, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def long_text(_pixels: int) -> bytes:
    """A PNG with a hundred comments of 100 MB each, deflated."""
    out = io.BytesIO()
    Image.new("L", (8, 8)).save(out, "PNG")
    whole = out.getvalue()
    body = b"zTXtwords\0\0" + zlib.compress(bytes(100_000_000), 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return whole[:33] + chunk * 100 + whole[33:]


def empty_canvas(_pixels: int) -> bytes:
    """A WebP of nothing, on a canvas of 16,384 x 16,384."""
    chunk = b"VP8X" + struct.pack("<IB3x", 10, 2) + b"\xff\x3f\0\xff\x3f\0"
    frame = _saved("RGB", "WEBP")(64)[12:]
    anim = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body = bytes(6) + b"\x07\0\0\x07\0\0" + bytes(4) + frame
    anmf = b"ANMF" + struct.pack("<I", len(body)) + body
    payload = b"WEBP" + chunk + anim + anmf
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


BOMBS: dict[str, Callable[[int], bytes]] = {
    "png-rgb": _saved("RGB", "PNG"),
    "png-rgba": _saved("RGBA", "PNG"),
    "png-palette": _saved("P", "PNG", transparency=0),
    "png-16-bit": _saved("I;16", "PNG"),
    "png-comments": long_text,
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
    "jpeg-scans": many_scans,
    "avif": _saved("RGB", "AVIF", 65535, speed=10),
    "heif": _saved("RGB", "HEIF", 8192, quality=10),
}

MEASURE = """
import json, sys, time
from alpaca_labeler.photos import images
def held():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
data = open(sys.argv[1], "rb").read()
before, began = held(), time.process_time()
try:
    seen = images.decode(data, 256, max_pixels=int(sys.argv[2]))
    outcome = f"{seen.width} x {seen.height}"
except images.ImageError as error:
    outcome = error.code
print(json.dumps({"bytes": len(data), "seconds": time.process_time() - began,
                  "megabytes": held() - before, "outcome": outcome}))
"""


def made(name: str, pixels: int) -> bytes:
    if name == "heif":
        import pillow_heif

        pillow_heif.register_heif_opener()
    return BOMBS[name](pixels)


def measure(data: bytes, pixels: int, timeout: float = 300) -> dict[str, Any]:
    """Decode in a process of its own: seconds of processor time, MB by which its memory grew."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, file.name, str(pixels)],
            cwd=ROOT,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=True,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=[*BOMBS], metavar="NAME")
    parser.add_argument("--pixels", type=int, default=100_000_000)
    asked = parser.parse_args()
    print("| file | bytes | seconds | MB | outcome |\n|---|---|---|---|---|")
    for name in asked.names:
        began = time.monotonic()
        data = made(name, asked.pixels)
        try:
            found = measure(data, 2 * asked.pixels)
        except subprocess.SubprocessError as error:
            found = {
                "bytes": len(data),
                "seconds": time.monotonic() - began,
                "megabytes": 0,
                "outcome": type(error).__name__,
            }
        print(
            f"| {name} | {found['bytes']:,} | {found['seconds']:.1f} | {found['megabytes']:,.0f} | "
            f"{found['outcome']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""What fuzzing starts from: whole, valid inputs of every kind, made here and now.

Pictures are drawn, or are tests/photos made small; both are encoded in every form that is opened.
"""

from __future__ import annotations

import io
import json
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alpaca_labeler.table.facts import Answer, Failure, Read
from alpaca_labeler.table.row import Row

TESTS = Path(__file__).parent.parent
SIDES = (56, 40)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    out = io.BytesIO()
    image.copy().save(out, form, **options)  # saving leaves marks on an image
    return out.getvalue()


def drawn(width: int = SIDES[0], height: int = SIDES[1]) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 5)], axis=-1)
    return Image.fromarray(rgb.astype(np.uint8))


def pictures() -> list[bytes]:
    """One small picture for each way that a decoder can be gone through."""
    scene = drawn()
    with Image.open(TESTS / "photos/alpaca.jpg") as photo:
        alpaca = photo.convert("RGB").resize(SIDES)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    icc = b"\0\0\2\0" + bytes(508)
    alpha = scene.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(SIDES))
    palette = scene.quantize(16)
    grey = scene.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) << 8)
    whole = Image.fromarray(np.asarray(grey).astype(np.int32) << 16)
    real = Image.fromarray(np.asarray(grey).astype(np.float32) / 7)
    frames = {"save_all": True, "append_images": [alpaca, grey.convert("RGB")]}
    return [
        encoded(alpaca, "JPEG", quality=80),
        encoded(alpaca, "JPEG", progressive=True, exif=exif, icc_profile=icc),
        encoded(scene, "JPEG", subsampling=0, restart_marker_blocks=2, comment=b"words"),
        encoded(scene.convert("CMYK"), "JPEG"),
        encoded(grey, "JPEG", progressive=True),
        encoded(alpaca, "MPO", **frames),
        *(encoded(image, "PNG", exif=exif) for image in (alpaca, alpha, palette, grey, deep)),
        encoded(grey.convert("1"), "PNG"),
        encoded(alpha.convert("LA"), "PNG"),
        encoded(palette, "PNG", transparency=bytes(range(16)), icc_profile=icc),
        encoded(scene, "PNG", transparency=(0, 0, 128), **frames),
        encoded(alpaca, "WEBP", exif=exif, icc_profile=icc),
        encoded(alpha, "WEBP", lossless=True),
        encoded(alpha, "WEBP", **frames),
        encoded(palette, "GIF", transparency=3, interlace=1),
        encoded(scene, "GIF", duration=20, loop=0, **frames),
        *(encoded(image, "BMP") for image in (scene, alpha, palette, grey, grey.convert("1"))),
        run_length_bmp(),
        *(encoded(scene, "TIFF", compression=c) for c in ("tiff_lzw", "tiff_adobe_deflate")),
        *(encoded(scene, "TIFF", compression=c) for c in ("jpeg", "packbits", "zstd", "lzma")),
        encoded(grey.convert("1"), "TIFF", compression="group4"),
        encoded(scene, "TIFF", exif=exif, big_tiff=True),
        encoded(scene.convert("CMYK"), "TIFF"),
        *(encoded(image, "TIFF") for image in (palette, alpha, deep, whole, real)),
        encoded(scene.convert("YCbCr"), "TIFF", compression="tiff_lzw", strip_size=512),
        encoded(alpaca, "AVIF", exif=exif),
        encoded(alpha, "AVIF"),
        encoded(scene, "AVIF", **frames),
        *heif(alpaca, alpha, exif),
    ]


def run_length_bmp() -> bytes:
    """An 8-bit BMP of run lengths, which Pillow reads and does not write."""
    rows = b"".join(bytes([SIDES[0], y % 16]) + b"\0\0" for y in range(SIDES[1])) + b"\0\1"
    palette = b"".join(bytes([16 * n, 255 - 16 * n, n, 0]) for n in range(16))
    start = 14 + 40 + len(palette)
    head = struct.pack("<2sI4xI", b"BM", start + len(rows), start)
    return head + struct.pack("<3I2HI12xI4x", 40, *SIDES, 1, 8, 1, 16) + palette + rows


def heif(photo: Image.Image, alpha: Image.Image, exif: Image.Exif) -> list[bytes]:
    try:
        import pillow_heif
    except ImportError:
        return []
    pillow_heif.register_heif_opener()
    return [encoded(photo, "HEIF", exif=exif.tobytes()), encoded(alpha, "HEIF")]


def events() -> list[bytes]:
    """Every recorded event, and the same again inside a queue's message."""
    recorded = [path.read_bytes() for path in sorted((TESTS / "events").glob("*.json"))]
    records = [
        {"messageId": f"m{n}", "eventSource": "aws:sqs", "body": body.decode()}
        for n, body in enumerate(recorded)
    ]
    return [*recorded, json.dumps({"Records": records}).encode()]


def row(
    name: str = "s3://photos/a.jpg", *, failure: str = "", model: str = "1-a", **facts: Any
) -> Row:
    read = {"at": "2026-01-01T00:00:00.000000Z", "content": "sha256:a", "etag": "e1", "size": 1000}
    answer = Answer(model, "alpaca", 1, "alpaca", 0.9, 0.5)
    if failure:
        answer = Answer(model, failure=Failure(failure))
    return Row(name, Read(**{**read, "last_modified": "2026-01-01T00:00:00Z", **facts}), answer)


def lines(*rows: Row | dict[str, Any]) -> bytes:
    return b"".join(
        one.to_line() if isinstance(one, Row) else json.dumps(one).encode() + b"\n" for one in rows
    )


SEPARATOR = b"\n=====\n"
"""Between the files of one input."""


def foreign(name: str, human: str = "no") -> dict[str, Any]:
    said = {"class-name": "alpaca", "confidence": 0.9, "human-annotated": human}
    said |= {"creation-date": "2026-01-01T00:00:00.000000", "job-name": "labeling-job/1-a"}
    return {"source-ref": name, "alpaca": 1, "alpaca-metadata": said}


def manifests() -> list[bytes]:
    """Manifests and parts: sorted, unsorted, truncated, of people and other tools."""
    newer = {"content": "sha256:b", "sequencer": "0B", "last_modified": "2026-02-01T00:00:00Z"}
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    said = [row("a").decided(label, "kim", noon, index=0) for label in ("goat", None)]
    files = [
        (lines(row()),),
        (lines(row("a"), row("b"), row("c")), lines(row("d", failure="corrupt"))),
        (lines(row("b"), row("a"), row("b", **newer)), lines(row("a", failure="x", **newer))),
        (lines(row("ü\n"), row("=1+1")) + lines(row("cut"))[:99], lines(row("cut"))[:-1]),
        (lines(row("a"), foreign("a", "yes")), lines(row("a", model="2-b"), *said)),
        (lines({"source-ref": "bare"}, {"source-ref": "s", "x-metadata": {}}), b"\n \n"),
        (lines(row("a"), Row("a", gone="2026-03-01")), lines(foreign("c")), lines(row("b"))),
    ]
    return [*map(SEPARATOR.join, files)]


def cards() -> list[bytes]:
    """The embedded bundle's card, whole, and only what decides a label."""
    data = (TESTS.parent / "alpaca_labeler/model/embedded/model.json").read_bytes()
    whole, decisive = json.loads(data), "format version attribute labels threshold review_band"
    decisive += " input_size preprocessing calibration sha256"
    return [data, json.dumps({key: whole[key] for key in decisive.split()}).encode()]


def texts() -> list[bytes]:
    """Files that people write beside their photos: lists, tables, recipes; a model's record."""
    shipped = [path.read_bytes() for path in (TESTS.parent / "training/recipes").glob("*.toml")]
    record = (TESTS.parent / "alpaca_labeler/model/embedded/photos.csv").read_bytes()
    written = "file;class\nZaunkönig 1.jpg;alpaca\n\n# words\nb.jpg\n"
    return [*shipped, *map(written.encode, ("utf-8", "latin-1", "utf-16")), record[:2000]]


def keys() -> list[bytes]:
    """Object keys and file names that have hurt somebody."""
    long = ("x" * 1020 + ".jpg", "ü" * 510 + ".jpg", "a" * 300)
    plain = "../../etc/passwd a/../b/./c//d.jpg a%2Fb%00.jpg red+flower%2B.jpg + - ~ . .. / // a/"
    plain += " +1 -1+1 @SUM(1) s3://b/k file:///etc/passwd CON a\\b ${x} %s%n <script>alert(1)"
    odd = ["farm/alpaca 1.jpg", "new\nline\r\t.jpg", "quo\"te's`.jpg"]
    odd += ("\u202egpj.exe", "\u200f\u2066")
    odd += ('=HYPERLINK("http://x")', "\ttab", "\x1b[31m", "\x7f\x85\u2028", "アルパカ.jpg", " ")
    odd += ("e\u0301.jpg", "\U0001f999.jpg", "'; DROP TABLE", "\ufeff.jpg", "\0.jpg")
    names = [*plain.split(), *odd, *long]
    return [*(name.encode() for name in names), b"\xff\xfe.jpg", b"\xed\xa0\x80.jpg"]

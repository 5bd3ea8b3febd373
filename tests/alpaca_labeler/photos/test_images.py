"""Whatever the bytes: pixels in the model's form, or an `ImageError`."""

from __future__ import annotations

import base64
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from alpaca_labeler.photos import images
from alpaca_labeler.photos.images import ImageError, decode, from_array, picture
from tests.fuzz.seeds import encoded
from tests.support import raw
from tests.support.raw import CFA, directory

SIZE = 64
LOSSLESS = ["PNG", "BMP", "TIFF", "GIF"]
ORIENTATIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera that was held so has stored the upright picture."""


def scene(width=256, height=192):
    """A smooth picture in which no turn or mirror image equals another."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 40)], axis=-1)
    return Image.fromarray(rgb.astype(np.uint8))


def reference(image):
    return from_array(np.asarray(image.convert("RGB")), SIZE).pixels


def distance(one, other):
    return np.abs(one.astype(int) - other.astype(int)).mean()


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("MPO", {"quality": 95, "save_all": True, "append_images": [Image.new("RGB", (256, 192))]}),
        ("PNG", {}),
        ("WEBP", {"quality": 95}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("AVIF", {"quality": 95}),
        ("HEIF", {"quality": 95}),
    ],
)
def test_every_format_gives_the_same_picture(form, options):
    if form == "HEIF":
        pytest.importorskip("pillow_heif")
    seen = decode(encoded(scene(), form, **options), SIZE)
    assert (seen.width, seen.height) == (256, 192)
    assert seen.pixels.shape == (SIZE, SIZE, 3)
    assert seen.pixels.dtype == np.uint8
    assert seen.pixels.flags.c_contiguous
    assert distance(seen.pixels, reference(scene())) < 3


def test_of_an_animated_gif_the_first_frame_is_seen():
    red, blue = (Image.new("RGB", (64, 48), colour) for colour in ("red", "blue"))
    data = encoded(red, "GIF", save_all=True, append_images=[blue])
    assert (decode(data, SIZE).pixels == [255, 0, 0]).all()


@pytest.mark.parametrize(
    ("image", "form"),
    [
        (scene().convert("L"), "PNG"),
        (scene().convert("L"), "JPEG"),
        (scene().quantize(256), "PNG"),
        (scene().convert("CMYK"), "JPEG"),
        (scene().convert("CMYK"), "TIFF"),
    ],
)
def test_every_mode_shows_the_picture_that_a_viewer_shows(image, form):
    expected = scene().convert("L") if image.mode == "L" else scene()
    assert distance(decode(encoded(image, form), SIZE).pixels, reference(expected)) < 8


def test_a_picture_of_one_bit_is_black_and_white():
    bilevel = Image.new("1", (64, 64))
    bilevel.paste(1, (0, 0, 64, 32))
    pixels = decode(encoded(bilevel, "PNG"), SIZE).pixels
    assert (pixels[:30] == 255).all()
    assert not pixels[34:].any()


@pytest.mark.parametrize("broken", [0.0, np.nan, np.inf])
def test_floating_point_pixels_span_the_whole_range(broken):
    ramp = np.tile(np.linspace(0, 1000, 64, dtype=np.float32), (64, 1))
    ramp[0, 0] = broken
    pixels = decode(encoded(Image.fromarray(ramp), "TIFF"), SIZE).pixels
    assert pixels[5, 0, 0] < 5
    assert pixels[5, -1, 0] > 250


@pytest.mark.parametrize(
    ("mode", "colour", "form", "options"),
    [
        ("RGBA", (255, 0, 0, 0), "PNG", {}),
        ("RGBA", (255, 0, 0, 0), "WEBP", {"lossless": True}),
        ("LA", (0, 0), "PNG", {}),
        ("RGB", (255, 0, 0), "PNG", {"transparency": (255, 0, 0)}),
        ("L", 7, "PNG", {"transparency": 7}),
        ("P", (255, 0, 0), "PNG", {"transparency": 0}),
    ],
)
def test_what_is_transparent_is_seen_on_white(mode, colour, form, options):
    data = encoded(Image.new(mode, (40, 40), colour), form, **options)
    assert (decode(data, SIZE).pixels == 255).all()


def test_half_transparent_is_half_white():
    data = encoded(Image.new("RGBA", (40, 40), (0, 0, 0, 128)), "PNG")
    assert np.abs(decode(data, SIZE).pixels.astype(int) - 127).max() <= 1


def held(turn, form, tag=None, **options):
    """Encode the scene as a camera that was held so stores it."""
    exif = Image.Exif()
    exif[0x0112] = turn if tag is None else tag
    stored = scene() if ORIENTATIONS[turn] is None else scene().transpose(ORIENTATIONS[turn])
    return encoded(stored, form, exif=exif.tobytes(), **({"quality": 95} | options))


@pytest.mark.parametrize("turn", ORIENTATIONS)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF", "HEIF"])
def test_exif_orientation_gives_the_upright_picture(turn, form):
    if form == "HEIF":
        pytest.importorskip("pillow_heif")
    data = held(turn, form, lossless=True) if form == "WEBP" else held(turn, form)
    seen = decode(data, SIZE)
    assert (seen.width, seen.height) == scene().size
    off = distance(seen.pixels, reference(scene()))
    assert off < (3 if form in {"JPEG", "AVIF", "HEIF"} else 0.02)
    shown = picture(data, 64)
    assert (shown.mode, shown.size) == ("RGB", (64, 48))
    wanted = scene().resize((64, 48), Image.Resampling.BILINEAR)
    assert distance(np.asarray(shown), np.asarray(wanted)) < 3


def test_a_picture_for_people_is_never_larger_than_it_is_and_has_the_same_limits():
    assert picture(encoded(scene(), "PNG"), 4096).size == scene().size
    assert picture(encoded(Image.new("L", (4000, 1)), "PNG"), 100).size == (100, 1)
    with pytest.raises(ImageError, match="over the limit"):
        picture(encoded(scene(), "PNG"), 64, max_pixels=100)
    with pytest.raises(ImageError, match="is empty"):
        picture(b"", 64)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"miaf", b"1234"])
def test_heic_is_told_by_any_of_its_brands(brand):
    pytest.importorskip("pillow_heif")
    data = encoded(scene(), "HEIF", quality=95)
    assert data[4:8] == b"ftyp"
    seen = decode(data[:8] + brand + data[12:], SIZE)
    assert distance(seen.pixels, reference(scene())) < 3


@pytest.mark.parametrize("tag", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(tag):
    assert (decode(held(1, "PNG", tag), SIZE).pixels == reference(scene())).all()


def test_an_orientation_in_xmp_counts_if_exif_has_none():
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    stored = scene().transpose(ORIENTATIONS[6])
    assert decode(encoded(stored, "JPEG", xmp=xmp), SIZE).width == scene().width
    assert decode(held(6, "JPEG", tag=1, xmp=xmp), SIZE).width == stored.width


def test_a_4_to_3_photo_is_seen_whole():
    framed = np.full((192, 256, 3), 255, np.uint8)
    framed[8:-8, 8:-8] = 0
    for array in (framed, framed.transpose(1, 0, 2)):
        pixels = from_array(array, SIZE).pixels
        assert (pixels[[0, -1]] > 250).all()
        assert (pixels[:, [0, -1]] > 250).all()


@pytest.mark.parametrize("tall", [False, True])
def test_a_panorama_is_cropped_evenly(tall):
    array = np.zeros((100, 300, 3), np.uint8)
    array[:, :83], array[:, -83:] = 255, 255  # what lies beyond the middle 133 of 300
    pixels = from_array(array.transpose(1, 0, 2) if tall else array, SIZE).pixels
    assert (pixels < 50).all()
    assert from_array(array, SIZE).width == 300


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 500), (500, 1), (2, 3), (65, 64)])
def test_the_smallest_pictures_fill_the_square(width, height):
    data = encoded(Image.new("RGB", (width, height), (9, 99, 199)), "PNG")
    seen = decode(data, SIZE)
    assert (seen.width, seen.height) == (width, height)
    assert (seen.pixels == [9, 99, 199]).all()


def test_a_jpeg_scaled_while_decoding_looks_like_one_decoded_in_full(photos):
    for name in ("alpaca.jpg", "goat.jpg", "temple.jpg"):
        data = (photos / name).read_bytes()
        whole = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert distance(decode(data, 224).pixels, from_array(whole, 224).pixels) < 3


@pytest.mark.parametrize("shape", [5, (0, 4, 3), (4, 4, 4), (1, 4, 4, 3), (), (4, 4)], ids=str)
def test_arrays_of_another_shape_or_type_are_refused(shape):
    kind = np.float32 if shape == (4, 4) else np.uint8
    with pytest.raises(ImageError) as refusal:
        from_array(np.zeros(shape, kind), SIZE)
    assert refusal.value.code == "unsupported"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_a_truncated_file_is_corrupt_wherever_it_ends(form):
    if form == "HEIF":
        pytest.importorskip("pillow_heif")
    noise = np.random.default_rng(1).integers(0, 255, (64, 96, 3), np.uint8)
    data = encoded(Image.fromarray(noise), form)
    for share in (0.05, 0.3, 0.6, 0.9):
        with pytest.raises(ImageError) as refusal:
            decode(data[: int(len(data) * share)], SIZE)
        assert refusal.value.code in {"corrupt", "not-an-image"}


TEXTS = [
    *(b"", b"GIF8", b"Dear reader, this is no photo. " * 99, b"%PDF-1.7\n", bytes(4096)),
    *(b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a is a format of 1989.\n" * 99),
    b"BMW notes: the oil was changed in May.\n" * 99,
]


THUMBNAIL, FULL = directory(16, tag_254=1), directory(64)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "parts",
    [
        ([THUMBNAIL], [FULL]),
        ([directory(16, tag_271=b"SAMSUNG\0")], [directory(8), FULL]),
        ([THUMBNAIL, directory(8), FULL],),
        ([directory(16, tag_50706=b"\1\4\0\0")],),
        ([directory(16, tag_262=CFA)],),
        ([directory(64, tag_262=CFA, tag_259=65535)],),
        ([FULL], [], b"CR\2\0"),
        ([FULL], [], b"IIII"),
    ],
    ids=["NEF", "SRW", "pages", "DNG", "CFA", "PEF", "CR2", "IIQ"],
)
def test_a_raw_file_is_not_taken_for_its_thumbnail(parts, order):
    following, *more = parts
    data = raw.tiff(*following, **dict(zip(("inside", "mark"), more, strict=False)), order=order)
    with pytest.raises(ImageError, match=r"RAW photo, .* export it as a JPEG") as refusal:
        decode(data, SIZE)
    assert refusal.value.code == "unsupported"


RAW_STARTS = [
    *(b"FUJIFILMCCD-RAW 0201", b"IIRO\x08\0\0\0", b"IIU\0\x18\0\0\0", b"FOVb\2\0\2\0"),
    *(b"\0MRM\0\1", b"II\x1a\0\0\0HEAPCCDR", b"\0\0\0\x18ftypcrx \0\0\0\1"),
]


NOISE = Image.effect_noise((256, 192), 90).convert("RGB")
JPEG, PNG, GIF, WEBP = (encoded(NOISE, form) for form in ("JPEG", "PNG", "GIF", "WEBP"))
TWELVE = JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")


def deep(shape, kind, **tags):
    return raw.deep(np.zeros(shape, kind), **tags)


UNREAD = {
    "3 bands of 32 bits floating": deep((8, 8, 3), np.float32, tag_339=[3] * 3),
    "5 bands of 16 bits": deep((8, 8, 5), np.uint16, tag_338=[0, 0]),
    "1 band of 64 bits": deep((8, 8, 1), np.float64, tag_339=3, tag_262=1),
    "compression 34712": deep((8, 8, 3), np.uint16, tag_259=34712),
    "12-bit": TWELVE,
}


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        *((text, "not-an-image" if text else "empty", None) for text in TEXTS),
        *((start + bytes(100), "unsupported", "RAW photo") for start in RAW_STARTS),
        *((data, "unsupported", words) for words, data in UNREAD.items()),
    ],
)
def test_what_cannot_be_read_is_called_what_it_is(data, code, words):
    with pytest.raises(ImageError, match=words) as refusal:
        decode(data, SIZE)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("following", "inside"),
    [
        ([FULL], [directory(16)]),
        ([FULL, THUMBNAIL], []),
        ([FULL, directory(80)], []),
        ([THUMBNAIL], []),
        ([directory(64, tag_271=b"NIKON CORPORATION\0")], []),
    ],
    ids=["pyramid", "thumbnail after", "pages", "small alone", "scanner"],
)
def test_a_tiff_with_smaller_or_other_pictures_is_not_taken_for_a_raw_file(following, inside):
    seen = decode(raw.tiff(*following, inside=inside), SIZE)
    assert seen.width == seen.height == following[0][256]


# --- a file that cannot be opened is called what it is -------------------------------------------


FORM = b'--0a1\r\nContent-Disposition: form-data; name="a"\r\n\r\n'


@pytest.mark.parametrize("stray", [b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", bytes(16), FORM])
@pytest.mark.parametrize("photo", [JPEG, PNG], ids=["JPEG", "PNG"])
def test_a_photo_behind_stray_bytes_is_named(stray, photo):
    with pytest.raises(ImageError, match=rf"behind its first {len(stray)} bytes") as refusal:
        decode(stray + photo, SIZE)
    assert refusal.value.code == "corrupt"


@pytest.mark.parametrize(
    "data",
    [
        *(photo.replace(b"\n", b"\r\n") for photo in (JPEG, PNG, GIF, WEBP)),
        PNG.replace(b"\r\n", b"\n"),
        bytes(byte & 0x7F for byte in PNG),
        *(photo.decode("latin-1").encode() for photo in (JPEG, PNG)),
        *(photo.decode(errors="replace").encode() for photo in (JPEG, PNG)),
        *(photo.decode("cp1252", "replace").encode() for photo in (JPEG, PNG)),
        *(photo.decode(errors="ignore").encode() for photo in (JPEG, PNG)),
        *(photo.hex().encode() for photo in (JPEG, PNG)),
        *map(base64.b64encode, (JPEG, PNG, GIF, WEBP)),
        b'"' + base64.b64encode(JPEG) + b'"',
    ],
    ids=range(21),
)
def test_an_upload_that_changed_bytes_is_named(data):
    with pytest.raises(ImageError, match="changed as if it were text") as refusal:
        decode(data, SIZE)
    assert refusal.value.code == "corrupt"


# --- whatever the bytes --------------------------------------------------------------------------


def test_the_pixel_limit_is_the_callers():
    data = encoded(Image.new("RGB", (100, 100)), "PNG")
    assert decode(data, SIZE, max_pixels=10_000).width == 100
    with pytest.raises(ImageError, match=r"9,999 pixels for its kind; --max-pixels raises it"):
        decode(data, SIZE, max_pixels=9_999)


@pytest.mark.parametrize(
    ("form", "options", "least"),
    [
        ("JPEG", {}, 100 * 100 // 64),  # decoded at an eighth
        ("JPEG", {"progressive": True, "subsampling": "4:2:0"}, 3_000),
        ("JPEG", {"progressive": True, "subsampling": "4:2:2"}, 4_000),
        ("JPEG", {"progressive": True, "subsampling": "4:4:4"}, 6_000),
        ("HEIF", {}, 7_000),
        ("WEBP", {}, 16_000),
        ("PNG", {}, 10_000),
    ],
)
def test_each_format_counts_by_the_memory_that_it_takes(form, options, least):
    if form == "HEIF":
        pytest.importorskip("pillow_heif")
    data = encoded(Image.new("RGB", (100, 100)), form, **options)
    assert decode(data, 8, max_pixels=least + 15).width == 100
    with pytest.raises(ImageError, match="100 x 100 pixels is over the limit") as refusal:
        decode(data, 8, max_pixels=least - 15)
    assert refusal.value.code == "too-many-pixels"


WARNS_OF_NOTHING = """
import contextlib, sys
from alpaca_labeler.photos import images
for line in sys.stdin:
    with contextlib.suppress(images.ImageError):
        images.decode(bytes.fromhex(line), 8)
"""


def test_no_warning_reaches_the_terminal():
    whole = encoded(scene(64, 48), "TIFF", tiffinfo={270: "words", 33432: "more words"})
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"
    data = [
        encoded(scene(8, 8).quantize(256), "PNG", transparency=bytes(range(256))),
        encoded(scene(8, 8), "JPEG", exif=exif),
        b"II*\0\x08\0\0\0\x02\0\x00\x01\x03\0\xff\xff\0\0",
        whole[:-40],
        *(whole[:at] + b"\xff" + whole[at + 1 :] for at in range(8, 14)),
    ]
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", WARNS_OF_NOTHING],
        input="\n".join(map(bytes.hex, data)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"heim", b"hevc", b"mif1"])
def test_without_pillow_heif_the_refusal_says_what_to_install(monkeypatch, brand):
    monkeypatch.setattr(images, "FORMATS", [name for name in images.FORMATS if name != "HEIF"])
    with pytest.raises(ImageError, match="pip install pillow-heif") as refusal:
        decode(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(64), SIZE)
    assert refusal.value.code == "unsupported"

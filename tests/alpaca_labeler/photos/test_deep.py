"""More than 8 bits per channel: the picture that was taken, whatever depth its file has."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from alpaca_labeler.photos.images import decode
from tests.fuzz.seeds import encoded
from tests.support import raw

Y, X = np.mgrid[0:48, 0:64]
COLOURS = np.stack([4 * X, 5 * Y, 2 * (X + Y)], axis=-1).astype(np.uint16)  # 0..252
GREY = COLOURS[..., 2] + 30
COLOURS[0, 0] = 255


def saved(values, form="TIFF", **options):
    return encoded(Image.fromarray(values), form, **options)


def png(values, bits=None):
    """A PNG of 16 bits in RGB or RGBA."""
    height, width, bands = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    said = raw.chunk(b"sBIT", bytes([bits] * bands)) if bits else b""
    return raw.png(width, height, rows, said, bits=16, kind={3: 2, 4: 6}[bands])


def seen(data):
    return decode(data, 48).pixels.astype(int)


def wanted(values):
    return seen(saved(values.astype(np.uint8), "PNG"))


def opaque(values, alpha):
    return np.dstack([values, np.full(values.shape[:2], alpha, np.uint16)])


@pytest.mark.parametrize(
    "data",
    [
        *(saved(GREY << bits, form) for bits in (0, 2, 4, 6, 8) for form in ("PNG", "TIFF")),
        saved(GREY << 4, compression="tiff_lzw"),
        saved((GREY << 2) + 12_000),  # heat, say
        saved(GREY.astype(np.int32) << 4),
    ],
    ids=range(13),
)
def test_grey_of_any_depth_is_seen_as_it_is(data):
    shown = seen(data)[..., 0]
    low, high = shown.min(), shown.max()
    rescaled = (wanted(GREY)[..., 0] - 30) * (high - low) / 222 + low
    assert high > 200
    assert low < 50
    assert np.abs(shown - rescaled).max() < 8


@pytest.mark.parametrize(
    "data",
    [
        *(raw.deep(COLOURS << bits, order) for bits in (2, 4, 6, 8) for order in "<>"),
        *(png(COLOURS << bits) for bits in (2, 4, 6, 8)),
        png(COLOURS << 3, bits=11),
        raw.deep(COLOURS << 3, tag_281=[2047] * 3),
        png(opaque(COLOURS << 4, 4095)),
        raw.deep(opaque(COLOURS << 4, 65535), tag_338=2),
        raw.deep(opaque(COLOURS << 8, 0), tag_338=2),  # an alpha that means nothing
        raw.deep(opaque(COLOURS, 0).astype(np.uint8), tag_338=2),
    ],
    ids=range(18),
)
def test_colours_of_any_depth_are_seen_as_they_are(data):
    assert np.abs(seen(data) - wanted(COLOURS)).max() <= 3


def test_what_a_file_says_of_its_depth_decides():
    for data in (png(COLOURS << 4, bits=16), raw.deep(COLOURS << 4, tag_281=65535)):
        assert seen(data).max() < 16


def test_a_dark_photo_of_16_bits_stays_dark_and_black_is_black():
    night = COLOURS * 4
    night[10:13, 10:13] = 20_000  # a lamp
    assert np.median(seen(png(night))) < 5
    assert np.median(seen(saved(night[..., 0]))) < 5
    assert not seen(png(night * 0)).any()
    assert not seen(saved(night[..., 0] * 0)).any()

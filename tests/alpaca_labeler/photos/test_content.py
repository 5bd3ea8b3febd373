"""Content is the picture, not the file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter, PngImagePlugin

from alpaca_labeler.photos.content import content_of
from tests.fuzz.seeds import encoded

PICTURE = Image.effect_noise((64, 48), 60).convert("RGB")


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    return data[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2) + content + data[2:]


@pytest.mark.parametrize("how", [{}, {"progressive": True}, {"exif": b"Exif\0\0MM\0*"}])
@given(st.sampled_from([*range(0xE0, 0xF0), 0xFE]), st.binary(max_size=300))
def test_a_tag_in_a_jpeg_changes_nothing(how, marker, content):
    data = encoded(PICTURE, "JPEG", **how)
    assert content_of(with_segment(data, marker, content)) == content_of(data)


def test_text_in_a_png_changes_nothing():
    text = PngImagePlugin.PngInfo()
    text.add_text("Rating", "5" * 1000, zip=True)
    tagged = encoded(PICTURE, "PNG", pnginfo=text)
    assert content_of(tagged) == content_of(encoded(PICTURE, "PNG"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_another_picture_is_another_content(kind):
    other = PICTURE.filter(ImageFilter.BLUR)
    assert content_of(encoded(PICTURE, kind)) != content_of(encoded(other, kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_bit_of_the_pixels_counts(kind):
    data = encoded(PICTURE, kind)
    start = data.index(b"IDAT" if kind == "PNG" else b"\xff\xda")
    for at in range(start + 4, len(data), 97):
        assert content_of(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) != content_of(data)


@given(st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b""]), st.binary(max_size=200))
def test_whatever_the_bytes_are_they_have_a_content(start, rest):
    assert len(content_of(start + rest)) == len("sha256:") + 64


def test_there_is_a_limit_on_what_segments_cost():
    few, many = (b"\xff\xd8" + b"\xff\xfe\0\2" * count for count in (10_000, 30_000))
    assert content_of(few) == content_of(few[:6])
    assert content_of(many) != content_of(few)


def test_a_chunk_that_claims_more_than_there_is_ends_the_file():
    data = b"\x89PNG\r\n\x1a\n" + b"\xff" * 4 + b"IDAT" + bytes(20)
    assert content_of(data) != content_of(data[:-1])

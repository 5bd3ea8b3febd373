"""A file that cannot be opened is called what it is."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from PIL import Image

from alpaca_labeler.photos.images import ImageError, decode
from tests.fuzz.seeds import encoded
from tests.support import raw

NOISE = Image.effect_noise((256, 192), 90).convert("RGB")


JPEG, PNG, GIF, WEBP = (encoded(NOISE, form) for form in ("JPEG", "PNG", "GIF", "WEBP"))
TWELVE = JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (raw.deep(np.zeros((8, 8, 3), np.float32), tag_339=[3] * 3), "3 bands of 32 bits floating"),
        (raw.deep(np.zeros((8, 8, 5), np.uint16), tag_338=[0, 0]), "5 bands of 16 bits"),
        (raw.deep(np.zeros((8, 8, 1), np.float64), tag_339=3, tag_262=1), "1 band of 64 bits"),
        (raw.deep(np.zeros((8, 8, 3), np.uint16), tag_259=34712), "compression 34712"),
        (TWELVE, "12-bit"),
    ],
    ids=["float", "bands", "double", "compression", "JPEG"],
)
def test_a_kind_that_is_not_read_is_unsupported(data, kind):
    with pytest.raises(ImageError, match=kind) as refusal:
        decode(data, 32)
    assert refusal.value.code == "unsupported"


FORM = b'--0a1\r\nContent-Disposition: form-data; name="a"\r\n\r\n'


@pytest.mark.parametrize("stray", [b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", bytes(16), FORM])
@pytest.mark.parametrize("photo", [JPEG, PNG], ids=["JPEG", "PNG"])
def test_a_photo_behind_stray_bytes_is_named(stray, photo):
    with pytest.raises(ImageError, match=rf"behind its first {len(stray)} bytes") as refusal:
        decode(stray + photo, 32)
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
        decode(data, 32)
    assert refusal.value.code == "corrupt"

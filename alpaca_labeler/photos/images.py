"""Encoded image bytes in, model input out: decode, orient, crop and resize, within fixed limits.

Training and labelling both come through here, so that a model only ever sees the pixels it was
trained on. This module never touches a file, a network or a model.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np
import PIL
from PIL import Image, ImageFile, JpegImagePlugin

from alpaca_labeler.errors import LabelerError, install
from alpaca_labeler.photos import deep, diagnosis, limits, skip

if TYPE_CHECKING:
    import numpy.typing as npt

PREPROCESSING_ID: Final = "crop-4:3-squeeze-bilinear-1"
"""Names the pixels this module makes. Any change to them is a new id, and needs a new model."""
MAX_PIXELS: Final = 100_000_000
"""Default limit on the pixels that are decoded: at 10 bytes of memory per pixel, 1 GB. A JPEG
counts at the size at which it is decoded, as little as 1/8: a phone's 200 megapixels become few."""
_BYTES: Final = 10
_BYTES_OF: Final = {"HEIF": 7, "WEBP": 16}
"""Memory that decoding takes per pixel, by `tests/fuzz/bombs.py`; WebP keeps four canvases."""
_BYTES_OF_RUN_LENGTHS: Final = 40
"""Of a bitmap that is decoded in Python, which takes time instead of memory."""
MAX_ASPECT: Final = 4 / 3
"""Ratio of the sides up to which a photo is squeezed into the square, so that an animal at its edge
is seen; a longer one is cropped at both ends."""
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]
"""Formats that are opened, by Pillow's names; an MPO opens as a JPEG."""
_QUALITY: Final = 82
"""Of the JPEGs in pages, 0 to 100."""
_BRANDS_BYTES: Final = 256
"""Bytes at a file's start that are searched for the list of its brands."""
_RESIZABLE: Final = {"P": "RGB", "PA": "RGBA", "1": "L"}
_ORIENTATION_TAG: Final = 0x0112
_CAMERA_TAG, _EXIF_IFD, _TAKEN_TAG = 0x0110, 0x8769, 0x9003
_LONGEST: Final = 100
"""Characters of a camera's name."""
_TRANSPOSE: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Ours is checked on every image before a pixel is decoded. But some of Pillow's readers allocate
# memory while they open a picture (171 bytes of GIF took 5 GB), which only its own check can stop.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# Pillow warns about broken metadata, which does not matter here, and its warnings on the terminal
# do not name the file. (`warnings.catch_warnings` is not for use in threads.)
warnings.filterwarnings("ignore", module=r"PIL\.")

try:  # HEIC, if the library is installed
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()
    FORMATS.append("HEIF")
DECODER: Final = "-".join(
    ["pillow", PIL.__version__] + (["heif", pillow_heif.__version__] if "HEIF" in FORMATS else [])
)
"""Name and version of the decoder, written into the failure rows that are its verdict."""


class ImageError(LabelerError):
    """This image can never be labelled as it is. `code` is stable, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        """Pickle both arguments, so that a process can hand the error to another."""
        return type(self), (self.code, str(self))


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What the model sees, and the size of the picture it came from."""

    pixels: npt.NDArray[np.uint8]
    """RGB, shape (size, size, 3), dtype uint8, 0..255, C-contiguous."""
    width: int
    """Width of the whole picture in pixels, as displayed (after EXIF orientation)."""
    height: int
    taken: str | None = None
    """When, by the camera's clock, which names no time zone: `2026-01-31T12:00:00`."""
    camera: str | None = None
    """Its model."""


def decode(data: bytes, size: int, *, max_pixels: int = MAX_PIXELS) -> ModelInput:
    """Decode an encoded image into the square a model takes.

    `data` is a whole JPEG, PNG, WebP, GIF (first frame), BMP, TIFF, AVIF or HEIC file, `size` the
    side of the square in pixels, `max_pixels` the largest width x height that will be decoded.

    Raises `ImageError` with code `empty`, `not-an-image`, `unsupported`, `too-many-pixels`,
    `too-complex` or `corrupt`.
    """
    with _opened(data, max_pixels) as image:
        return _model_input(image, size, max_pixels)


def picture(data: bytes, longest: int, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an encoded image for people to look at: whole, upright, RGB.

    `longest` is the longest side of the answer in pixels; a smaller picture stays as it is.
    Formats, limits and errors are those of `decode`.
    """
    with _opened(data, max_pixels) as image:
        scale = min(1.0, longest / max(image.size))
        width, height = (max(1, round(side * scale)) for side in image.size)
        turn = _prepare(image, (width, height), max_pixels)
        small = _plain(image).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        upright = _rgb(small)
        return upright.transpose(_TRANSPOSE[turn]) if turn in _TRANSPOSE else upright


def jpeg(picture: Image.Image) -> bytes:
    """Return an RGB picture as a JPEG with nothing in it but its pixels."""
    picture.info.clear()  # Pillow would write a comment of the original again
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open an encoded image within the limits, and raise `ImageError` if anything is wrong."""
    if not data:
        raise ImageError("empty", "the file is empty (0 bytes)")
    # Only ever raised: another thread may be reading with another limit.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
    try:
        limits.check(data)
        with _open(data, max_pixels) as image:
            deep.remember_depth(image, data)
            if deep.is_coloured(image):
                _check_pixels(image.size, max_pixels)
                deep.brighten(image, lambda: _open(data, max_pixels))
            yield image
    except ImageError:
        raise
    except limits.TooComplex as error:
        raise ImageError("too-complex", f"no photo is like this: {error}") from error
    except MemoryError as error:
        raise ImageError("too-many-pixels", "there is not enough memory to decode it") from error
    # A decoder fed with broken bytes may raise nearly anything (OSError, ValueError, SyntaxError,
    # struct.error, IndexError, ...): all mean the same for the file.
    except Exception as error:
        raise ImageError("corrupt", f"the image cannot be decoded: {_say(error)}") from error


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    if diagnosis.is_raw(data):
        raise ImageError(
            "unsupported",
            "a RAW photo, of which only the preview could be read: export it as a JPEG, or label "
            "the JPEG beside it",
        )
    if diagnosis.has_line_ends_of_text(data):
        raise ImageError("corrupt", diagnosis.CHANGED)
    try:
        # Pillow's check for bombs does not know that a JPEG is decoded at a fraction of its size.
        if data.startswith(b"\xff\xd8\xff"):
            held = limits.coefficient_bytes(data, max_pixels)
            image = JpegImagePlugin.jpeg_factory(limits.Metered(data))
            _check_pixels(image.size, max_pixels, held)
            return image
        if skip.is_heic(data[:_BRANDS_BYTES]) and data[8:12] not in skip.HEIC_BRANDS:
            # pillow-heif looks at the major brand only; an encoder may put its own there.
            data = data[:8] + b"mif1" + data[12:]
        return Image.open(limits.Metered(data), formats=FORMATS)
    except (ImageError, limits.TooComplex):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageError(
            "too-many-pixels",
            f"over the limit of {max_pixels:,} pixels: {_say(error)}; --max-pixels raises it",
        ) from error
    except Exception as error:
        if skip.is_heic(data[:_BRANDS_BYTES]) and "HEIF" not in FORMATS:
            why = f"HEIC needs the pillow-heif package: {install('pillow-heif')}"
            raise ImageError("unsupported", why) from None
        raise ImageError(*diagnosis.diagnose(data, error)) from error


def from_array(array: npt.NDArray[np.uint8], size: int) -> ModelInput:
    """Make the model's square from pixels in memory.

    `array` is uint8, 0..255, of shape (height, width, 3) for RGB or (height, width) for grey.

    Raises `ImageError` with code `unsupported` for any other dtype or shape.
    """
    grey_or_rgb = array.ndim == 2 or array.shape[2:] == (3,)
    if array.dtype != np.uint8 or array.size == 0 or not grey_or_rgb:
        raise ImageError(
            "unsupported",
            f"an array must be uint8 (height, width, 3) or (height, width), not {array.dtype} "
            f"{array.shape}",
        )
    return _model_input(Image.fromarray(array), size, array.size)


def from_picture(picture: Image.Image, size: int, *, max_pixels: int = MAX_PIXELS) -> ModelInput:
    """Make the model's square from a Pillow image of any mode, which is left unchanged.

    Its EXIF orientation is applied. `max_pixels` is the largest width x height that is taken.

    Raises `ImageError` with code `too-many-pixels`, or `corrupt` if its file cannot be decoded.
    """
    _check_pixels(picture.size, max_pixels)
    try:
        whole = picture.copy()
    except Exception as error:  # a lazily opened file is decoded here, and may be anything
        raise ImageError("corrupt", f"the image cannot be decoded: {_say(error)}") from error
    return _model_input(whole, size, max_pixels)


def _model_input(image: Image.Image, size: int, max_pixels: int) -> ModelInput:
    width, height = image.size
    crop_width = min(width, height * MAX_ASPECT)
    crop_height = min(height, width * MAX_ASPECT)
    wanted = math.ceil(size * width / crop_width), math.ceil(size * height / crop_height)
    turn = _prepare(image, wanted, max_pixels)
    scale_x, scale_y = image.width / width, image.height / height
    left, top = (width - crop_width) / 2 * scale_x, (height - crop_height) / 2 * scale_y
    square = _plain(image).resize(
        (size, size),
        Image.Resampling.BILINEAR,
        box=(left, top, left + crop_width * scale_x, top + crop_height * scale_y),
        reducing_gap=2.0,
    )
    square = _rgb(square)
    # The crop is centred, so turning the small square equals turning the large picture.
    if turn in _TRANSPOSE:
        square = square.transpose(_TRANSPOSE[turn])
    if turn >= 5:  # the four orientations that swap the sides
        width, height = height, width
    return ModelInput(np.asarray(square), width, height, *_origin(image))


def _prepare(image: Image.Image, wanted: tuple[int, int], max_pixels: int) -> int:
    """Decode a picture, if that does not take too much, and return its EXIF orientation.

    libjpeg scales by 1/2, 1/4 or 1/8: the smallest that still covers `wanted`.
    """
    size, cost = image.size, _BYTES_OF.get(image.format or "", _BYTES)
    if image.format == "BMP" and image.info.get("compression") in {1, 2}:
        cost = _BYTES_OF_RUN_LENGTHS
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        image.draft(None, wanted)
    _check_pixels(size, max_pixels, cost, image.size)
    # pillow-heif has turned the picture already, and Pillow turns a TIFF while it loads.
    if image.format in {"HEIF", "TIFF"}:
        return 1
    image.load()  # of a PNG, EXIF may follow the pixels
    if limits.has_too_much_exif(image.info):
        raise ImageError("too-complex", f"it has more than {limits.MAX_EXIF:,} bytes of EXIF")
    try:
        turn = image.getexif().get(_ORIENTATION_TAG, 1)
    except MemoryError:
        raise
    except Exception:
        return 1  # a broken EXIF block does not make a broken picture
    return turn if turn in _TRANSPOSE else 1


def _check_pixels(
    size: tuple[int, int],
    max_pixels: int,
    cost: float = _BYTES,
    decoded: tuple[int, int] | None = None,
) -> None:
    """Refuse a picture that takes too much memory, at `cost` bytes for each pixel `decoded`."""
    if math.prod(decoded or size) * cost > max_pixels * _BYTES:
        raise ImageError(
            "too-many-pixels",
            f"{size[0]} x {size[1]} pixels is over the limit of "
            f"{int(max_pixels * _BYTES / cost):,} pixels for its kind; --max-pixels raises it",
        )


def _origin(image: Image.Image) -> tuple[str | None, str | None]:
    """Return when a picture was taken and with which camera; None for what its EXIF does not say.

    Pillow has read the block for the orientation, and reads no more of it than it is long.
    """
    try:
        exif = image.getexif()
        taken, camera = exif.get_ifd(_EXIF_IFD).get(_TAKEN_TAG), str(exif.get(_CAMERA_TAG, ""))
    except MemoryError:
        raise
    except Exception:
        return None, None
    words = "".join(c if c.isprintable() else " " for c in camera[:_LONGEST]).split()
    try:
        moment = datetime.strptime(str(taken)[:19], "%Y:%m:%d %H:%M:%S").isoformat()  # noqa: DTZ007
    except ValueError:
        moment = None
    return moment, " ".join(words) or None


def _plain(image: Image.Image) -> Image.Image:
    """Return the picture in a mode that can be resized (a palette's indices cannot)."""
    if "transparency" in image.info and image.mode in {"1", "L", "RGB", "P"}:
        return image.convert("RGBA")
    if image.mode in _RESIZABLE:
        return image.convert(_RESIZABLE[image.mode])
    if image.mode.startswith("I;16") or image.mode in {"I", "F"}:
        return deep.grey(image)
    # Programs often leave a fourth channel empty that means nothing.
    if image.mode == "RGBA" and image.format in {"BMP", "TIFF"} and not image.getbbox():
        return image.convert("RGB")
    return image


def _rgb(image: Image.Image) -> Image.Image:
    """Return the picture as RGB; a transparent one is put on white, as a web page shows it."""
    if image.mode == "RGB":
        return image
    if image.mode in {"RGBA", "LA"}:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _say(error: Exception) -> str:
    return str(error) or type(error).__name__

"""The photos of the benchmark: real ones if they are at hand, in three sizes."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SIZES = (480, 1024, 4000)
"""Longest side in pixels: a thumbnail, a web photo, a phone's camera."""

GRAIN = 5.0
"""Standard deviation of the noise put on an enlarged photo, in grey levels.

Enlarging makes a smooth picture, which is a small file that decodes faster than a camera's. With
this grain a photo of 12 megapixels is about 4 MB, as a phone's is.
"""

QUALITY = 90


@dataclass(frozen=True)
class Photos:
    """JPEGs of one size."""

    longest: int
    folder: Path
    paths: tuple[str, ...]
    kilobytes: float
    """Mean size of a file."""


def originals() -> tuple[list[Path], str]:
    """Return the photos that all sizes are made of, and what to call them."""
    shared = Path(os.environ.get("ALPACA_SHARED", ROOT.parent / "shared")) / "dataset"
    if shared.is_dir():
        found = sorted(shared.glob("*/*.jpg"))
        return found, f"the {len(found)} photos of the data set (Open Images)"
    found = sorted((ROOT / "tests/photos").glob("*.jpg"))
    return found, f"the {len(found)} JPEGs of tests/photos, again and again"


def make(longest: int, count: int, scratch: Path) -> Photos:
    """Write `count` JPEGs of that longest side below `scratch`.

    Photos that have the size already are copied as they are; the others are resized.
    """
    folder = scratch / str(longest)
    folder.mkdir()
    found, _ = originals()
    chosen = [found[number * len(found) // count] for number in range(min(count, len(found)))]
    paths = []
    total = 0
    for number in range(count):
        data = chosen[number % len(chosen)].read_bytes()
        path = folder / f"{number:04}.jpg"
        total += path.write_bytes(_resized(data, longest, seed=number))
        paths.append(str(path))
    return Photos(longest, folder, tuple(paths), total / count / 1000)


def _resized(data: bytes, longest: int, seed: int) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        scale = longest / max(image.size)
        if scale == 1:
            return data
        width, height = (max(1, round(side * scale)) for side in image.size)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    if scale > 1:
        pixels = np.asarray(resized, np.int16)
        grain = np.random.default_rng(seed).normal(0, GRAIN, pixels.shape[:2]).astype(np.int16)
        resized = Image.fromarray(np.clip(pixels + grain[..., None], 0, 255).astype(np.uint8))
    made = io.BytesIO()
    resized.save(made, "JPEG", quality=QUALITY)
    return made.getvalue()

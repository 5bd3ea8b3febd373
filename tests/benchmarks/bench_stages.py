"""Where the time of one photo goes: processor time of each stage, in the library's own steps."""

from __future__ import annotations

import io
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from alpaca_labeler.handler import bundle, images, manifest_row, storage
from alpaca_labeler.handler.classifier import Classifier, decide
from alpaca_labeler.handler.image_version import ImageVersion

if TYPE_CHECKING:
    from collections.abc import Iterable


def profile(paths: Iterable[str], rounds: int) -> dict[str, float]:
    """Return the milliseconds per photo of each stage: of several rounds, the fastest.

    It repeats the steps of `handler.images` one by one, and checks that they make its pixels.
    """
    classifier = Classifier(bundle.load())
    taken = [_round([*paths], classifier) for _ in range(rounds)]
    return {stage: min(each[stage] for each in taken) for stage in taken[0]}


def _round(paths: list[str], classifier: Classifier) -> dict[str, float]:
    size = classifier.card.input_size
    spent: dict[str, float] = defaultdict(float)
    began = 0.0

    def lap(stage: str) -> None:
        nonlocal began
        spent[stage] += time.process_time() - began
        began = time.process_time()

    for path in paths:
        began = time.process_time()
        fetched = storage.fetch(ImageVersion(path), 10**9)
        lap("read the file")
        image = Image.open(io.BytesIO(fetched.data), formats=images.FORMATS)
        width, height = image.size
        crop = min(width, height * 4 / 3), min(height, width * 4 / 3)
        wanted = images._ceil(size * width / crop[0]), images._ceil(size * height / crop[1])
        images._prepare(image, wanted, images.MAX_PIXELS)
        images._orientation(image)
        lap("header, EXIF")
        image.load()
        lap("decode, scaled")
        x, y = image.width / width, image.height / height
        left, top = (width - crop[0]) / 2 * x, (height - crop[1]) / 2 * y
        square = images._plain(image).resize(
            (size, size),
            Image.Resampling.BILINEAR,
            (left, top, left + crop[0] * x, top + crop[1] * y),
            2.0,
        )
        lap("crop, resize")
        pixels = np.asarray(images._rgb(square))
        lap("to an array")
        classifier._interpreter.set_tensor(classifier._input, pixels[np.newaxis])
        lap("to the tensor")
        classifier._interpreter.invoke()
        lap("infer, int8")
        logit = float(classifier._interpreter.get_tensor(classifier._output).item())
        prediction = decide(classifier.card, logit)
        row = manifest_row.label_row(
            fetched.version, (width, height), prediction, classifier.card, datetime.now(UTC)
        )
        manifest_row.encode(row)
        lap("decide, make the row")
        assert (pixels == images.decode(fetched.data, size).pixels).all()
    return {stage: 1000 * seconds / len(paths) for stage, seconds in spent.items()}

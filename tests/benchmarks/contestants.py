"""One contestant in a process of its own, told over its pipes what to do.

    python contestants.py --make MODELS           makes the network that the peer runs
    python contestants.py NAME MODELS             reads JSON lists of photos, answers each in a line

Each gets one thread. `keras` is what samples of serverless inference do.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.harness import ROOT, peak

KERAS = "model.keras"

Contestant = Callable[[str], float]
"""A way to label photos, loaded and ready: path of a photo -> its logit or probability."""


def floor(_models: Path) -> Contestant:
    """Read, decode scaled, resize, infer: what any labeller of these pixels must do, and no more.

    Written out without a line of the product, for RGB and grey JPEGs that stand upright.
    """
    import numpy as np
    from PIL import Image

    size, run = _litert(ROOT / "alpaca_labeler/model/embedded/model.tflite")

    def label(path: str) -> float:
        with open(path, "rb") as file:
            image = Image.open(io.BytesIO(file.read()), formats=["JPEG"])
        width, height = image.size
        crop = min(width, height * 4 / 3), min(height, width * 4 / 3)
        image.draft(None, (math.ceil(size * width / crop[0]), math.ceil(size * height / crop[1])))
        x, y = image.width / width, image.height / height
        left, top = (width - crop[0]) / 2 * x, (height - crop[1]) / 2 * y
        box = (left, top, left + crop[0] * x, top + crop[1] * y)
        square = image.resize((size, size), Image.Resampling.BILINEAR, box, 2.0)
        if square.mode != "RGB":
            square = square.convert("RGB")
        return run(np.asarray(square)[np.newaxis])

    return label


def labeler(_models: Path) -> Contestant:
    """This project's library: a row for every photo."""
    from alpaca_labeler.pipeline.labeler import Labeler
    from alpaca_labeler.storage.image_version import ImageVersion

    labels = Labeler()

    def label(path: str) -> float:
        outcome = labels.label_one(ImageVersion(path))
        assert outcome.row, outcome.problem
        return float(outcome.row.probability or 0)

    return label


def keras(models: Path) -> Contestant:
    """`load_img`, `predict`: the usual sample, with the defaults of TensorFlow."""
    import numpy as np
    from keras.models import load_model
    from keras.utils import img_to_array, load_img

    model = load_model(models / KERAS, compile=False)
    size = model.input_shape[1]

    def label(path: str) -> float:
        image = load_img(path, target_size=(size, size))
        batch = np.expand_dims(img_to_array(image), 0)
        return float(model.predict(batch, verbose=0).item())

    return label


CONTESTANTS = {"floor": floor, "labeler": labeler, "keras": keras}


def _litert(model: Path) -> tuple[int, Callable[[Any], float]]:
    """Return (side of the model's input in pixels, a batch of one picture -> its logit)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    [given], [made] = interpreter.get_input_details(), interpreter.get_output_details()

    def run(batch: Any) -> float:
        interpreter.set_tensor(given["index"], batch)
        interpreter.invoke()
        return float(interpreter.get_tensor(made["index"]).item())

    return int(given["shape"][1]), run


def make(models: Path) -> None:
    """Write the network that the peer runs; its weights are random, which is as fast."""
    from alpaca_labeler.model import bundle
    from alpaca_labeler.training import recipe
    from alpaca_labeler.training.keras import network

    network.build(recipe.load("default"), None, bundle.load().card.input_size).save(models / KERAS)


def main() -> None:
    """Load, say so, answer requests until there are no more."""
    name, models = sys.argv[1:]
    if name == "--make":
        make(Path(models))
        return
    label = CONTESTANTS[name](Path(models))
    print(json.dumps({"ready": True}), file=REPLIES, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        labels = [label(path) for path in json.loads(line)]
        answer = {"seconds": time.perf_counter() - began, "labels": labels, "megabytes": peak()}
        print(json.dumps(answer), file=REPLIES, flush=True)


if __name__ == "__main__":
    # Runtimes print what they like; answers go where only we write.
    REPLIES = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main()

"""One contestant in a process of its own, told over its pipes what to do.

    python contestants.py NAME MODELS                reads lines of JSON, answers each with one
    python contestants.py NAME MODELS --threads=2    the same with two threads (of `floor`)
    python contestants.py NAME MODELS PHOTO          prints the logit of one photo, and ends

Each gets one thread unless told otherwise. `keras` is what samples of serverless inference do; the
other peers get this project's decoding, so that they differ by their runtime alone.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.bench_models import FLOAT_TFLITE, KERAS, ONNX, SAVED_MODEL

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Contestant:
    """A way to label photos, loaded and ready."""

    label: Callable[[str], float]
    """Path of a photo -> its logit."""
    infer: Callable[[Any], object]
    """Pixels, uint8 (n, size, size, 3) -> whatever the runtime makes of them."""
    size: int


def floor(_models: Path, threads: int = 1) -> Contestant:
    """Read, decode scaled, resize, infer: what any labeller of these pixels must do, and no more.

    It is written out here, without a line of `handler`, for RGB and grey JPEGs that stand upright.
    """
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    interpreter = Interpreter(str(ROOT / "handler/model/model.tflite"), num_threads=threads)
    interpreter.allocate_tensors()
    [given], [made] = interpreter.get_input_details(), interpreter.get_output_details()
    size = int(given["shape"][1])

    def label(path: str) -> float:
        with open(path, "rb") as file:
            image = Image.open(io.BytesIO(file.read()), formats=["JPEG"])
        width, height = image.size
        crop = min(width, height * 4 / 3), min(height, width * 4 / 3)
        image.draft(None, (math.ceil(size * width / crop[0]), math.ceil(size * height / crop[1])))
        x, y = image.width / width, image.height / height
        left, top = (width - crop[0]) / 2 * x, (height - crop[1]) / 2 * y
        square = image.resize(
            (size, size),
            Image.Resampling.BILINEAR,
            (left, top, left + crop[0] * x, top + crop[1] * y),
            2.0,
        )
        if square.mode != "RGB":
            square = square.convert("RGB")
        interpreter.set_tensor(given["index"], np.asarray(square)[np.newaxis])
        interpreter.invoke()
        return float(interpreter.get_tensor(made["index"]).item())

    return Contestant(label, lambda pixels: _invoke(interpreter, given, made, pixels), size)


def labeler(_models: Path) -> Contestant:
    """This project's library: a row for every photo."""
    from alpaca_labeler.handler.image_version import ImageVersion
    from alpaca_labeler.handler.labeler import Labeler

    labels = Labeler()

    def label(path: str) -> float:
        outcome = labels.label_one(ImageVersion(path))
        assert outcome.prediction, outcome.problem
        return _logit(outcome.prediction.probability, labels.card.calibration)

    return Contestant(label, lambda pixels: [*map(labels.predict, pixels)], labels.card.input_size)


def keras(models: Path) -> Contestant:
    """`load_img`, `predict`: the usual sample, with the defaults of TensorFlow."""
    import numpy as np

    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from keras.models import load_model
    from keras.utils import img_to_array, load_img

    model = load_model(models / KERAS, compile=False)
    size = model.input_shape[1]

    def label(path: str) -> float:
        image = load_img(path, target_size=(size, size))
        batch = np.expand_dims(img_to_array(image), 0)
        return float(model.predict(batch, verbose=0).item())

    return Contestant(
        label, lambda pixels: model.predict(pixels.astype("float32"), verbose=0), size
    )


def saved_model(models: Path) -> Contestant:
    """TensorFlow without Keras: the exported graph."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = tf.saved_model.load(str(models / SAVED_MODEL))
    return _float_peer(lambda batch: model.serve(tf.constant(batch)).numpy())


def onnx(models: Path) -> Contestant:
    """ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        models / ONNX, options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return _float_peer(lambda batch: session.run(None, {name: batch})[0])


def openvino(models: Path) -> Contestant:
    """OpenVINO on the CPU, in the precision that it chooses (bfloat16 if the CPU has it)."""
    import openvino as ov

    core = ov.Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
    request = core.compile_model(models / ONNX, "CPU").create_infer_request()
    return _float_peer(lambda batch: request.infer([batch])[0])


def litert_float(models: Path) -> Contestant:
    """LiteRT with the weights as they were trained."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(models / FLOAT_TFLITE), num_threads=1)
    interpreter.allocate_tensors()
    [given], [made] = interpreter.get_input_details(), interpreter.get_output_details()
    return _float_peer(lambda batch: _invoke(interpreter, given, made, batch))


CONTESTANTS: dict[str, tuple[Callable[[Path], Contestant], str, tuple[str, ...]]] = {
    "floor": (floor, "bare floor", ("ai-edge-litert", "pillow")),
    "labeler": (labeler, "this project, library", ("ai-edge-litert", "orjson", "pillow")),
    "litert": (litert_float, "LiteRT, float", ("ai-edge-litert", "pillow")),
    "onnx": (onnx, "ONNX Runtime", ("onnxruntime", "pillow")),
    "openvino": (openvino, "OpenVINO", ("openvino", "pillow")),
    "saved-model": (saved_model, "TensorFlow SavedModel", ("tensorflow", "pillow")),
    "keras": (keras, "Keras sample", ("tensorflow", "pillow")),
}
"""Name: (how it is loaded, what the tables call it, the distributions that it needs)."""


def _float_peer(run: Callable[[Any], Any]) -> Contestant:
    import numpy as np

    from alpaca_labeler.handler import bundle, images

    size = bundle.load().card.input_size

    def label(path: str) -> float:
        with open(path, "rb") as file:
            pixels = images.decode(file.read(), size).pixels
        return float(run(pixels[np.newaxis].astype(np.float32)).item())

    return Contestant(label, lambda pixels: run(pixels.astype(np.float32)), size)


def _invoke(interpreter: Any, given: Any, made: Any, batch: Any) -> Any:
    if [*interpreter.get_input_details()[0]["shape"]] != [*batch.shape]:
        interpreter.resize_tensor_input(given["index"], batch.shape)
        interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], batch)
    interpreter.invoke()
    return interpreter.get_tensor(made["index"])


def _logit(probability: float, calibration: tuple[float, float]) -> float:
    if probability in {0, 1}:
        return math.inf if probability else -math.inf
    scale, offset = calibration
    return (math.log(probability / (1 - probability)) - offset) / scale


def peak_megabytes() -> float:
    """Return the most memory that this process has had resident."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def serve(contestant: Contestant) -> None:
    """Answer requests until there are no more."""
    import numpy as np

    for line in sys.stdin:
        request = json.loads(line)
        if "photos" in request:
            began = time.perf_counter()
            logits = [contestant.label(path) for path in request["photos"]]
            answer = {"seconds": time.perf_counter() - began, "logits": logits}
        else:
            shape = (request["batch"], contestant.size, contestant.size, 3)
            pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
            contestant.infer(pixels)
            began = time.perf_counter()
            for _ in range(request["times"]):
                contestant.infer(pixels)
            answer = {"seconds": time.perf_counter() - began}
        print(json.dumps({**answer, "megabytes": peak_megabytes()}), file=REPLIES, flush=True)


def main() -> None:
    """Load, say so, serve; or label the one photo."""
    name, models, *photo = sys.argv[1:]
    load = CONTESTANTS[name][0]
    if photo == ["--threads=2"]:
        load = partial(floor, threads=2)
    elif photo:
        print(load(Path(models)).label(photo[0]), file=REPLIES, flush=True)
        print(peak_megabytes(), file=REPLIES)
        return
    try:
        contestant = load(Path(models))
    except (ImportError, OSError, ValueError) as error:
        print(json.dumps({"skipped": str(error).splitlines()[0]}), file=REPLIES, flush=True)
        return
    print(json.dumps({"ready": True}), file=REPLIES, flush=True)
    serve(contestant)


if __name__ == "__main__":
    # Runtimes print what they like; answers go where only we write.
    REPLIES = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main()

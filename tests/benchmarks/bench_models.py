"""One network in the forms that the peers run: `python bench_models.py KERAS-FILE FOLDER`.

Without a file (`-`) it is the same architecture with random weights: as fast, but its labels mean
nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

SAVED_MODEL, ONNX, FLOAT_TFLITE, KERAS = "saved_model", "model.onnx", "float.tflite", "model.keras"


def main() -> None:
    """Write the four forms; a form that cannot be made is said on stderr, and left out."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    source, folder = sys.argv[1], Path(sys.argv[2])
    import keras
    import tensorflow as tf

    if source == "-":
        sys.path.insert(0, str(Path(__file__).parents[2]))
        from alpaca_labeler.handler import bundle
        from alpaca_labeler.training import recipe
        from alpaca_labeler.training.keras import network

        size = bundle.load().card.input_size
        keras.utils.set_random_seed(1)
        model = network.build(recipe.load("default"), None, size)
        model.save(folder / KERAS)
    else:
        shutil.copy(source, folder / KERAS)
        model = keras.models.load_model(source, compile=False)

    def litert() -> None:
        made = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        (folder / FLOAT_TFLITE).write_bytes(made)

    for name, write in {
        SAVED_MODEL: lambda: model.export(folder / SAVED_MODEL, verbose=False),
        ONNX: lambda: model.export(folder / ONNX, format="onnx", verbose=False),
        FLOAT_TFLITE: litert,
    }.items():
        try:
            write()
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()

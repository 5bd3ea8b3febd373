"""A trained network in, a bundle that labels out: 8-bit LiteRT and its card, both or neither."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ..handler import bundle
from ..handler.classifier import Classifier
from ..handler.errors import LabelerError
from . import card as cards
from . import fit, provenance
from . import network as networks
from .report import Mistake, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from .dataset import Dataset
    from .experiment import Outcome
    from .recipe import Recipe

CALIBRATION_PHOTOS = 200
"""Enough for the ranges of all activations to settle; each costs about 50 ms."""

MAX_DISAGREEMENT = 0.02
"""Share of all photos that 8-bit arithmetic may label otherwise than the network itself."""
MISTAKES_SHOWN = 24
REPORT_FILE = "report.html"
KERAS_FILE = "keras/model.keras"


class ExportError(LabelerError):
    """A model cannot be shipped. The message says why."""


def to_litert(network: Any, recipe: Recipe, pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return a network as fully quantised LiteRT.

    Input: uint8 (1, size, size, 3), pixels 0..255. Output: float32 (1, 1), the logit.
    `pixels`, uint8 (n, size, size, 3), are training photos from which the ranges of the activations
    are read. The batch dimension can be resized with `resize_tensor_input`.
    """
    # Without its Rescaling layer: the quantisation of the input scales the pixels for nothing.
    bare = networks.build(recipe, None, rescale=False)
    bare.set_weights(network.get_weights())
    chosen = np.linspace(0, len(pixels) - 1, min(len(pixels), CALIBRATION_PHOTOS)).astype(int)

    def examples() -> Iterator[list[npt.NDArray[np.float32]]]:
        # Black and white first: the whole range of pixels, whatever the photos hold.
        yield [
            np.where(np.arange(3) == 1, -1, 1).astype(np.float32)
            * np.ones_like(pixels[:1], np.float32)
        ]
        for index in chosen:
            yield [pixels[index : index + 1].astype(np.float32) / np.float32(127.5) - 1]

    with _quiet():
        converter = tf.lite.TFLiteConverter.from_keras_model(bare)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = examples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.float32
        return bytes(converter.convert())


def export(
    outcome: Outcome,
    data: Dataset,
    folder: str,
    *,
    group: npt.NDArray[np.int64],
    write_report: Callable[[Report], str],
    about: Mapping[str, Any] | None = None,
    max_disagreement: float = MAX_DISAGREEMENT,
) -> dict[str, Any]:
    """Write a bundle, its record and report and the Keras model to train on, and return the card.

    `folder` appears when everything in it is complete; it must not exist or be empty. `group` is
    `split.groups`, shape (photos,); `write_report` makes an HTML page of what was measured; `about`
    goes on the card.

    Raises `ExportError` when the folder is taken, or when the 8-bit model labels more than
    `max_disagreement` of all photos otherwise than the network does.
    """
    target = Path(folder)
    check_free(folder)
    recipe = outcome.settings.recipe
    model = to_litert(outcome.network, recipe, data.pixels[outcome.trained_on])
    card = cards.deciding(outcome, data, model, datetime.now(UTC))
    differing = disagreement(bundle.Bundle(card, model, {}), outcome, data)
    if differing > max_disagreement:
        raise ExportError(
            f"the 8-bit model labels {differing:.1%} of {len(data.photos)} photos "
            f"otherwise than the network, more than the {max_disagreement:.1%} allowed: nothing "
            "was written. Train longer or on more photos, or allow more with --max-disagreement"
        )
    photos = provenance.table(outcome, data, group)
    document = cards.document(
        card, outcome, data, disagreement=differing, photos=photos, about=about or {}
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        building.chmod(0o755)  # mkdtemp keeps others out
        (building / bundle.MODEL_FILE).write_bytes(model)
        (building / provenance.PHOTOS_FILE).write_bytes(photos)
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (building / bundle.CARD_FILE).write_text(text, encoding="utf-8")
        (building / REPORT_FILE).write_text(
            write_report(_report(outcome, data, document)), encoding="utf-8"
        )
        (building / KERAS_FILE).parent.mkdir()
        outcome.network.save(building / KERAS_FILE)
        provenance.load(str(building))
        building.rename(target)  # replaces an empty folder, nothing else
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return document


def check_free(folder: str) -> None:
    """Raise `ExportError` unless a bundle can be written to that folder."""
    target = Path(folder)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ExportError(f"{folder}: there is something there already; choose another --output")


def disagreement(made: bundle.Bundle, outcome: Outcome, data: Dataset) -> float:
    """Return the share of all photos that the bundle labels otherwise than the network.

    Photos that were trained on count too: two forms of one model are compared, not its quality, and
    among the few dozen of a validation set a single borderline photo would be one in fifty.
    """
    classifier = Classifier(made)
    indices = np.arange(len(data.photos))
    served = np.array([classifier.predict(data.pixels[index]).index for index in indices])
    exact = outcome.decision.probabilities(fit.logits(outcome.network, data, indices))
    return float((served != (exact >= outcome.decision.threshold)).mean())


def _report(outcome: Outcome, data: Dataset, document: dict[str, Any]) -> Report:
    judged = outcome.judged
    truth = data.truth()[judged.indices]
    wrong = np.flatnonzero(judged.predicted != truth)
    wrong = wrong[np.argsort(-np.abs(judged.probabilities[wrong] - truth[wrong]))][:MISTAKES_SHOWN]
    photos = [data.photos[index] for index in judged.indices]
    return Report(
        title=f"{data.labels[1]} or {data.labels[0]}",
        card=document,
        history=outcome.history,
        labels=data.labels,
        truth=truth,
        probabilities=judged.probabilities,
        names=[photo.name for photo in photos],
        kinds=[photo.kind for photo in photos],
        mistakes=[
            Mistake(
                photos[place].name,
                int(truth[place]),
                float(judged.probabilities[place]),
                data.pixels[judged.indices[place]],
            )
            for place in wrong
        ],
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Send file descriptors 1 and 2 nowhere: the converter's C++ code logs to them regardless."""
    with open(os.devnull, "w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kept = [os.dup(1), os.dup(2)]
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            for number, copy in enumerate(kept, start=1):
                os.dup2(copy, number)
                os.close(copy)

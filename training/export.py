"""Turn a trained network into a bundle: an 8-bit LiteRT model and its card, both or neither."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import structs

from alpaca_labeler.model import bundle
from alpaca_labeler.model.bundle import Card
from alpaca_labeler.model.classifier import Classifier
from alpaca_labeler.photos import images

from . import metrics, provenance
from .arrays import Indices
from .dataset import Dataset
from .description import attribute
from .experiment import Outcome
from .keras import convert, fit
from .report import Mistake, Report

MISTAKES_SHOWN = 24
KERAS_FILE = "keras/model.keras"
SAME_SOURCES = (
    "judged by photos of the sources that it was trained on: photos from elsewhere will do worse; "
    "hold out a source with groups, in a file that describes the photos, to see by how much"
)
MAX_DISAGREEMENT = 0.02
"""If 8-bit arithmetic labels a larger share of the photos differently, that is a weakness."""


def export(
    outcome: Outcome,
    data: Dataset,
    folder: str,
    *,
    group: Indices,
    write_report: Callable[[Report], str],
) -> dict[str, Any]:
    """Write a bundle with its record, its report and the Keras model, and return the card.

    `folder` must be empty or not exist; it appears when everything in it is complete. `group` is
    `split.groups`, shape (photos,); `write_report` makes an HTML page of what was measured.

    Raises `BundleError` if the folder is taken.
    """
    target = Path(folder)
    provenance.check_free(folder)
    recipe = outcome.settings.recipe
    model = convert.to_litert(outcome.fit.network, recipe, data.pixels[outcome.trained_on])
    created = datetime.now(UTC)
    card = _decisive(outcome, data, model, created)
    differing = _disagreement(bundle.Bundle(card, model, {}), outcome, data)
    photos = provenance.table(outcome, data, group)
    judged_on = outcome.judged_on
    kinds = [data.photos[index].kind for index in judged_on]
    measured = metrics.measured(outcome.judged, group[judged_on], kinds, seed=outcome.settings.seed)
    measured["metrics"] = {
        "measured_on": _measured_on(outcome, data),
        **measured["metrics"],
        "int8_disagreement": round(differing, 5),
    }
    whole = {
        "format": bundle.CARD_FORMAT,
        "created": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        **structs.asdict(card),
        **measured,
        **_for_people(outcome, data, differing, photos),
    }
    whole |= {key: value for key, value in data.card.items() if key not in whole}
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        building.chmod(0o755)  # mkdtemp makes it private
        (building / bundle.MODEL_FILE).write_bytes(model)
        (building / provenance.PHOTOS_FILE).write_bytes(photos)
        text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (building / bundle.CARD_FILE).write_text(text, encoding="utf-8")
        (building / "report.html").write_text(
            write_report(_report(outcome, data, whole)), encoding="utf-8"
        )
        (building / KERAS_FILE).parent.mkdir()
        outcome.fit.network.save(building / KERAS_FILE)
        provenance.load(str(building))
        building.rename(target)  # replaces an empty folder, nothing else
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return whole


def _decisive(outcome: Outcome, data: Dataset, model: bytes, created: datetime) -> Card:
    """Return the part of the card that decides labels; `model` is the content of `model.tflite`."""
    decision = outcome.decision
    card = Card(
        version="",
        attribute=attribute(data.labels[1]),
        labels=data.labels,
        threshold=decision.threshold,
        review_band=decision.review_band,
        input_size=outcome.settings.recipe.input_size,
        preprocessing=images.PREPROCESSING_ID,
        calibration=decision.calibration,
        sha256=hashlib.sha256(model).hexdigest(),
    )
    return structs.replace(card, version=f"{created:%Y%m%dT%H%M%SZ}-{card.digest()}")


def _for_people(
    outcome: Outcome, data: Dataset, disagreement: float, photos: bytes
) -> dict[str, Any]:
    """Return what the card tells of the training; `photos` is the content of `photos.csv`."""
    settings = outcome.settings
    weaknesses = list(data.card.get("weaknesses", ()))
    if not data.groups and not any(photo.held_out for photo in data.photos):
        weaknesses.append(SAME_SOURCES)
    if disagreement > MAX_DISAGREEMENT:
        weaknesses.append(
            f"8-bit arithmetic changes {100 * disagreement:.1f} % of the labels; a model trained "
            "longer or on more photos usually loses fewer"
        )
    return {
        "training": {
            "recipe": msgspec.to_builtins(settings.recipe),
            "seed": settings.seed,
            "folds": settings.folds,
            "photos": _count_trained(outcome, data),
            "excluded": sum(photo.excluded for photo in data.photos),
            "fine_tuning_epochs": outcome.fit.epochs,
            "kept": outcome.kept,
            "seconds": round(outcome.fit.seconds),
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("tensorflow", "keras", "numpy", "pillow")
            },
        },
        "dataset": {
            "fingerprint": data.fingerprint(),
            "photos": dict(Counter(data.labels[photo.label] for photo in data.photos)),
            "corrected": sum(photo.corrected for photo in data.photos),
            "record": hashlib.sha256(photos).hexdigest(),
            "skipped": list(data.skipped),
        },
        "weaknesses": weaknesses,
    }


def _measured_on(outcome: Outcome, data: Dataset) -> str:
    count, folds = len(outcome.judged_on), outcome.settings.folds
    if folds:
        return (
            f"{count} photos, each judged by one of {folds} models that saw neither it nor its "
            "group (out-of-fold), with the decision of the other folds; the model itself was then "
            f"trained on {_count_trained(outcome, data)} of the {len(data.photos)} photos"
        )
    return (
        f"{count} photos held out from training, each with a calibration of the others; the epoch "
        "that was kept was chosen on them"
    )


def _count_trained(outcome: Outcome, data: Dataset) -> int:
    return sum(not data.photos[index].excluded for index in outcome.trained_on)


def _disagreement(exported: bundle.Bundle, outcome: Outcome, data: Dataset) -> float:
    """Return the share of all photos, 0..1, that the bundle labels differently from the network.

    Photos that were trained on count too: this compares two forms of one model, not its quality,
    and in a validation set of 50 photos a single borderline one would be 2 %.
    """
    classifier = Classifier(exported)
    indices = np.arange(len(data.photos))
    served = np.array([classifier.predict(data.pixels[index]).index for index in indices])
    exact = outcome.decision.probabilities(fit.logits(outcome.fit.network, data, indices))
    return float((served != (exact >= outcome.decision.threshold)).mean())


def _report(outcome: Outcome, data: Dataset, document: dict[str, Any]) -> Report:
    truth, probabilities = outcome.judged.truth, outcome.judged.probabilities
    photos = [data.photos[index] for index in outcome.judged_on]
    wrong = np.flatnonzero(~outcome.judged.right)
    wrong = wrong[np.argsort(-np.abs(probabilities[wrong] - truth[wrong]))][:MISTAKES_SHOWN]
    return Report(
        title=f"{data.labels[1]} or {data.labels[0]}",
        card=document,
        history=outcome.fit.history,
        labels=data.labels,
        truth=truth,
        probabilities=probabilities,
        kinds=[photo.kind for photo in photos],
        mistakes=[
            Mistake(
                photos[place].name,
                int(truth[place]),
                float(probabilities[place]),
                data.pixels[outcome.judged_on[place]],
            )
            for place in wrong
        ],
    )

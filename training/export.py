"""Turn a trained network into a bundle: an 8-bit LiteRT model and its card, both or neither."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from alpaca_labeler.model import bundle
from alpaca_labeler.model.classifier import Classifier

from . import provenance
from .arrays import Indices
from .card import deciding, document
from .dataset import Dataset
from .experiment import Outcome
from .keras import convert, fit
from .report import Mistake, Report

MISTAKES_SHOWN = 24
REPORT_FILE = "report.html"
KERAS_FILE = "keras/model.keras"


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
    card = deciding(outcome, data, model, datetime.now(UTC))
    differing = disagreement(bundle.Bundle(card, model, {}), outcome, data)
    photos = provenance.table(outcome, data, group)
    whole = document(card, outcome, data, disagreement=differing, photos=photos)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        building.chmod(0o755)  # mkdtemp makes it private
        (building / bundle.MODEL_FILE).write_bytes(model)
        (building / provenance.PHOTOS_FILE).write_bytes(photos)
        text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (building / bundle.CARD_FILE).write_text(text, encoding="utf-8")
        (building / REPORT_FILE).write_text(
            write_report(_report(outcome, data, whole)), encoding="utf-8"
        )
        (building / KERAS_FILE).parent.mkdir()
        outcome.fit.network.save(building / KERAS_FILE)
        provenance.load(str(building))
        building.rename(target)  # replaces an empty folder, nothing else
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return whole


def disagreement(exported: bundle.Bundle, outcome: Outcome, data: Dataset) -> float:
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
    judged = outcome.judged
    truth = data.truth()[judged.indices]
    wrong = np.flatnonzero(judged.predicted != truth)
    wrong = wrong[np.argsort(-np.abs(judged.probabilities[wrong] - truth[wrong]))][:MISTAKES_SHOWN]
    photos = [data.photos[index] for index in judged.indices]
    return Report(
        title=f"{data.labels[1]} or {data.labels[0]}",
        card=document,
        history=outcome.fit.history,
        labels=data.labels,
        truth=truth,
        probabilities=judged.probabilities,
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

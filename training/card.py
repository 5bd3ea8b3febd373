"""The card of a new model: what decides its labels, how good it is, and where it came from."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from alpaca_labeler.model import bundle
from alpaca_labeler.model.bundle import Card
from alpaca_labeler.photos import images

from . import experiment, metrics
from .dataset import Dataset
from .description import attribute
from .experiment import Outcome

WEAK_KIND = 0.9
"""A kind with a smaller share of right labels is named among the weaknesses."""
WEAK_KIND_PHOTOS = 5
"""With fewer photos, the share of a kind means nothing."""
SAME_SOURCES = (
    "judged by photos of the sources that it was trained on: photos from elsewhere will do worse; "
    "hold out a source with groups, in a file that describes the photos, to see by how much"
)
MAX_DISAGREEMENT = 0.02
"""If 8-bit arithmetic labels a larger share of the photos differently, that is a weakness."""


def deciding(outcome: Outcome, data: Dataset, model: bytes, created: datetime) -> Card:
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
    return replace(card, version=f"{created:%Y%m%dT%H%M%SZ}-{card.digest()}")


def document(
    card: Card,
    outcome: Outcome,
    data: Dataset,
    *,
    disagreement: float,
    photos: bytes,
) -> dict[str, Any]:
    """Return all of `model.json`.

    `disagreement` is the share of photos, 0..1, that the 8-bit model labels differently. `photos`
    is the content of `photos.csv`, whose sha256 the card holds.
    """
    judged = outcome.judged
    truth = data.truth()[judged.indices]
    kinds = metrics.by_kind(
        [data.photos[index].kind for index in judged.indices],
        truth,
        judged.predicted,
        judged.reviewed,
    )
    review = metrics.review(truth, judged.predicted, judged.reviewed)
    figures = experiment.figures(data, judged, seed=outcome.settings.seed)
    created = datetime.strptime(card.version.split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    own = {key: value for key, value in asdict(card).items() if key != "version"}
    made = {
        "format": bundle.CARD_FORMAT,
        "version": card.version,
        "created": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        **own,
        "metrics": {
            "measured_on": _measured_on(outcome, data),
            **{name: metrics.numbers(figure) for name, figure in figures.items()},
            "confusion": metrics.confusion(truth, judged.predicted),
            **{name: _share(value) for name, value in review.items()},
            "int8_disagreement": round(disagreement, 5),
        },
        "kinds": kinds,
        "training": _training(outcome, data),
        "dataset": {
            "fingerprint": data.fingerprint(),
            "photos": dict(Counter(data.labels[photo.label] for photo in data.photos)),
            "corrected": sum(photo.corrected for photo in data.photos),
            "record": hashlib.sha256(photos).hexdigest(),
            "skipped": list(data.skipped),
        },
        "weaknesses": [
            *data.card.get("weaknesses", ()),
            *[SAME_SOURCES] * _is_of_same_sources(data),
            *_weak(kinds, disagreement),
        ],
    }
    return made | {key: value for key, value in data.card.items() if key not in made}


def _training(outcome: Outcome, data: Dataset) -> dict[str, Any]:
    settings = outcome.settings
    return {
        "recipe": asdict(settings.recipe),
        "seed": settings.seed,
        "folds": settings.folds,
        "photos": _count_trained(outcome, data),
        "excluded": sum(photo.excluded for photo in data.photos),
        "fine_tuning_epochs": outcome.fit.epochs,
        "kept": outcome.kept,
        "seconds": round(outcome.fit.seconds),
        "interrupted": outcome.fit.interrupted,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("tensorflow", "keras", "numpy", "pillow")
        },
    }


def _measured_on(outcome: Outcome, data: Dataset) -> str:
    count, folds = len(outcome.judged.indices), outcome.settings.folds
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


def _is_of_same_sources(data: Dataset) -> bool:
    return not data.groups and not any(photo.held_out for photo in data.photos)


def _count_trained(outcome: Outcome, data: Dataset) -> int:
    return sum(not data.photos[index].excluded for index in outcome.trained_on)


def _weak(kinds: Mapping[str, Mapping[str, int]], disagreement: float) -> list[str]:
    weak = [
        f"{kind}: {found['photos'] - found['right']} of {found['photos']} photos labelled wrong"
        for kind, found in kinds.items()
        if found["photos"] >= WEAK_KIND_PHOTOS and found["right"] < WEAK_KIND * found["photos"]
    ]
    if disagreement > MAX_DISAGREEMENT:
        weak.append(
            f"8-bit arithmetic changes {disagreement:.1%} of the labels; a model trained longer or "
            "on more photos usually loses fewer"
        )
    return weak


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)

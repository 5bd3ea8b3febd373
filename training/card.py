"""The card of a new model: what decides its labels, how good it is, and where it came from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import unicodedata
from collections import Counter
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ..handler import bundle, images
from ..handler.bundle import Card
from . import experiment, metrics
from .dataset import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .dataset import Dataset
    from .experiment import Outcome

WEAK_KIND = 0.9
"""A kind with a smaller share of right labels is named among the weaknesses."""
WEAK_KIND_PHOTOS = 5
"""With fewer photos, the share of a kind means nothing."""


def attribute(label: str) -> str:
    """Return a class name as a label attribute: "Cat photos" -> "cat-photos".

    Raises `DatasetError` if rows already have a key of that name.
    """
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "label"
    if name in bundle.RESERVED or name.endswith("-metadata"):
        raise DatasetError(
            f"the class {label!r} cannot be the one to find: rows of a manifest already have a key "
            f"{name!r}. Rename the folder, or name the other class with --positive"
        )
    return name


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
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Return all of `model.json`.

    `disagreement` is the share of photos, 0..1, that the 8-bit model labels differently. `photos`
    is the content of `photos.csv`, whose sha256 the card holds; `about` is what only a person can
    say: weaknesses, licences.
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
    parts = experiment.figures(data, judged, seed=outcome.settings.seed)
    overall = parts.pop("all", None) or next(iter(parts.values()))
    created = datetime.strptime(card.version.split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    own = {key: value for key, value in asdict(card).items() if key != "version"}
    return {
        "format": bundle.CARD_FORMAT,
        "version": card.version,
        "created": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        **own,
        "metrics": {
            "measured_on": _measured_on(outcome, data),
            **{name: _numbers(figure) for name, figure in overall.items()},
            "confusion": metrics.confusion(truth, judged.predicted),
            **{name: _share(value) for name, value in review.items()},
            "int8_disagreement": round(disagreement, 5),
            "parts": {
                name: {key: _numbers(figure) for key, figure in part.items()}
                for name, part in parts.items()
            },
        },
        "kinds": kinds,
        "training": _training(outcome),
        "dataset": {
            "fingerprint": data.fingerprint(),
            "photos": dict(Counter(data.labels[photo.label] for photo in data.photos)),
            "own": dict(Counter(data.labels[p.label] for p in data.photos if not p.extra)),
            "corrected": sum(photo.corrected for photo in data.photos),
            "record": hashlib.sha256(photos).hexdigest(),
            "skipped": list(data.skipped),
        },
        "weaknesses": [*about.get("weaknesses", ()), *_weak(kinds)],
        **{key: value for key, value in about.items() if key != "weaknesses"},
    }


def _training(outcome: Outcome) -> dict[str, Any]:
    settings = outcome.settings
    return {
        "recipe": asdict(settings.recipe),
        "seed": settings.seed,
        "folds": settings.folds,
        "photos": len(outcome.trained_on) - len(settings.excluded & {*outcome.trained_on.tolist()}),
        "excluded": len(settings.excluded),
        "fine_tuning_epochs": outcome.epochs,
        "seconds": round(outcome.seconds),
        "interrupted": outcome.interrupted,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("tensorflow", "keras", "numpy", "pillow")
        },
    }


def _measured_on(outcome: Outcome, data: Dataset) -> str:
    count, folds = len(outcome.judged.indices), outcome.settings.folds
    if folds:
        trained = len(set(outcome.trained_on.tolist()) - outcome.settings.excluded)
        return (
            f"{count} photos, each judged by one of {folds} models that saw neither it nor its "
            "group (out-of-fold), with the decision of the other folds; the model itself was then "
            f"trained on {trained} of the {len(data.photos)} photos"
        )
    return (
        f"{count} photos held out from training; calibration, threshold and the epoch that was "
        "kept were chosen on the same photos"
    )


def _weak(kinds: Mapping[str, Mapping[str, int]]) -> list[str]:
    return [
        f"{kind}: {found['photos'] - found['right']} of {found['photos']} photos labelled wrong"
        for kind, found in kinds.items()
        if found["photos"] >= WEAK_KIND_PHOTOS and found["right"] < WEAK_KIND * found["photos"]
    ]


def _numbers(figure: metrics.Figure) -> dict[str, float | None]:
    return {key: _share(value) for key, value in asdict(figure).items()}


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 4)

"""Bundles for tests that train none: of the built-in model, or of bytes that are no model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from alpaca_labeler.model import bundle
from alpaca_labeler.photos import images

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = b"a model"
CARD = bundle.Card(
    version="",
    attribute="alpaca",
    labels=("not alpaca", "alpaca"),
    threshold=0.5,
    review_band=(0.2, 0.8),
    input_size=256,
    preprocessing=images.PREPROCESSING_ID,
    calibration=(1.0, 0.0),
    sha256="",
)


def document(model: bytes = MODEL, *, day: int = 1, **changes: Any) -> dict[str, Any]:
    """Return the content of a card, made on a day of December; `changes` may be anything."""
    known = structs.asdict(CARD) | {"sha256": hashlib.sha256(model).hexdigest()}
    card = bundle.Card(**{name: changes.get(name, value) for name, value in known.items()})
    try:
        digest = card.digest()
    except (TypeError, ValueError):
        digest = "0"
    known["version"] = f"202612{day:02}T000000Z-{digest}"
    return {"format": 1, **known, **changes}


def write(folder: Path, model: bytes = MODEL, *, day: int = 1, **changes: Any) -> str:
    """Write a bundle of `document` and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / bundle.MODEL_FILE).write_bytes(model)
    (folder / bundle.CARD_FILE).write_text(json.dumps(document(model, day=day, **changes)))
    return str(folder)


def make(
    folder: Path,
    *,
    day: int = 1,
    record: Mapping[str, tuple[str, str]] | None = None,
    **changes: Any,
) -> str:
    """Write the built-in bundle, with a card that decides differently, and return its folder.

    A calibration of (0, b) says the same of every photo: b = 9 that it is an alpaca, -9 that it is
    none. `record`: sha256 of photos, each with its `use` and its `probability` as text.
    """
    made = bundle.load()
    card = {**structs.asdict(made.card), "dataset": {}, **changes}
    del card["version"]
    if record is not None:
        lines = ["sha256,group,use,probability"]
        lines += [f"{sha256},{n},{','.join(use)}" for n, (sha256, use) in enumerate(record.items())]
        data = ("\n".join(lines) + "\n").encode()
        folder.mkdir(parents=True)
        (folder / "photos.csv").write_bytes(data)
        card["dataset"] = {"record": hashlib.sha256(data).hexdigest()}
    return write(folder, made.model, day=day, **card)

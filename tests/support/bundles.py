"""Bundles made of the built-in model, for tests that need none of their own training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alpaca_labeler.model import bundle

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    card = replace(made.card, **changes)
    card = replace(card, version=f"202612{day:02}T000000Z-{card.digest()}")
    folder.mkdir(parents=True)
    (folder / bundle.MODEL_FILE).write_bytes(made.model)
    document = {"format": bundle.CARD_FORMAT, **asdict(card), "dataset": {}}
    if record is not None:
        lines = ["sha256,group,use,probability"]
        lines += [f"{sha256},{n},{','.join(use)}" for n, (sha256, use) in enumerate(record.items())]
        data = ("\n".join(lines) + "\n").encode()
        (folder / "photos.csv").write_bytes(data)
        document["dataset"] = {"record": hashlib.sha256(data).hexdigest()}
    (folder / bundle.CARD_FILE).write_text(json.dumps(document), encoding="utf-8")
    return str(folder)

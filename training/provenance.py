"""What a model was trained on: `photos.csv`, beside the two files of its bundle.

It has one line per photo. People read it, and so do `evaluate` and `compare`, to tell photos that a
model has seen from photos that it can be judged by. Labelling never needs it, and nothing in
`handler` opens it. The card holds its sha256, so that it cannot be another model's.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from alpaca_labeler import storage
from alpaca_labeler.model import bundle
from alpaca_labeler.model.bundle import Bundle, BundleError

from .arrays import Indices
from .dataset import Dataset

if TYPE_CHECKING:
    from .experiment import Outcome

PHOTOS_FILE: Final = "photos.csv"
MAX_BYTES: Final = 256 * 2**20
"""Enough for over a million photos."""

TRAINED, HELD_OUT, EXCLUDED = "trained", "held out", "excluded"

COLUMNS: Final = "file", "sha256", "label", "kind", "corrected", "group", "use", "probability"
"""`label` as trained on, `corrected` yes if a person's correction gave the label, `group` equal for
photos that no split separates, `use` trained, held out or excluded, and `probability` of the
positive class by a model that saw neither the photo nor its group: by the model itself, or in
cross-validation by that of its fold; empty if no such model judged it."""


@dataclass(frozen=True, slots=True)
class Record:
    """What measuring needs to know of `photos.csv`."""

    seen: frozenset[str]
    """sha256 of the photos that the model was trained on, and of all others of their groups."""
    judged: Mapping[str, float]
    """sha256 -> probability, 0..1, by a model that saw neither the photo nor its group."""


@dataclass(frozen=True, slots=True)
class Model:
    """A bundle and what it was trained on."""

    bundle: Bundle
    record: Record | None
    """None if there is no `photos.csv` beside the bundle."""


def check_free(folder: str) -> None:
    """Raise `BundleError` unless a bundle can be written to that folder."""
    target = Path(folder)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise BundleError(f"{folder}: it is not an empty folder; choose another --output")
    above = next(each for each in target.absolute().parents if each.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise BundleError(f"{folder}: {above} cannot be written to; choose another --output")


def table(outcome: Outcome, data: Dataset, group: Indices) -> bytes:
    """Return the content of `photos.csv`; `group` is `split.groups`, shape (photos,)."""
    trained = {*outcome.trained_on.tolist()}
    judged = outcome.judged.probabilities.tolist()
    probability = dict(zip(outcome.judged_on.tolist(), judged, strict=True))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for index, photo in enumerate(data.photos):
        use = EXCLUDED if photo.excluded else TRAINED if index in trained else HELD_OUT
        told = [photo.name, photo.sha256, data.labels[photo.label], photo.kind]
        corrected = "yes" if photo.corrected else ""
        writer.writerow([*told, corrected, int(group[index]), use, probability.get(index, "")])
    return text.getvalue().encode(errors="backslashreplace")


def load(uri: str) -> Model:
    """Read a bundle as `bundle.load` does, or the one called `embedded`, and its record.

    Raises `BundleError`, also for a record that is not this bundle's, and `StorageError`.
    """
    base = bundle.resolve(uri)
    loaded = bundle.load(base)
    data = read(base, loaded.document)
    return Model(loaded, None if data is None else parse(data, storage.join(base, PHOTOS_FILE)))


def read(base: str, document: Mapping[str, Any]) -> bytes | None:
    """Return the content of `photos.csv` in a bundle's folder or prefix; None if it does not exist.

    `document` is the bundle's card. Raises `BundleError` if the file does not match the card, and
    `StorageError` if it cannot be read.
    """
    about = document.get("dataset")
    stated = about.get("record") if isinstance(about, dict) else None
    if stated is None:
        return None
    uri = storage.join(base, PHOTOS_FILE)
    try:
        data = storage.read(uri, MAX_BYTES)
    except storage.NotFound:
        return None
    if hashlib.sha256(data).hexdigest() != stated:
        raise BundleError(
            f"{uri}: its sha256 is not the one on the card; copy the bundle again, all its files "
            f"together, or delete {PHOTOS_FILE} to go without it"
        )
    return data


def parse(data: bytes, name: str) -> Record:
    """Read a record; `name` is what the error calls it. Raises `BundleError`."""
    try:
        lines = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
        if not {line["use"] for line in lines} <= {TRAINED, HELD_OUT, EXCLUDED}:
            raise ValueError(f"`use` is {TRAINED}, {HELD_OUT} or {EXCLUDED}")
        known = {line["group"] for line in lines if line["use"] == TRAINED}
        return Record(
            seen=frozenset(line["sha256"] for line in lines if line["group"] in known),
            judged={
                line["sha256"]: float(line["probability"]) for line in lines if line["probability"]
            },
        )
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{name}: not a record of photos ({error!r})") from error

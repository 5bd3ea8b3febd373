"""The model bundle: `model.tflite` and its card `model.json`, which always travel together.

Reading one verifies it: a bundle whose hashes, version or preprocessing do not match is refused,
because its labels would be silently wrong. A model is data here, never code.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.photos import images

MODEL_FILE: Final = "model.tflite"
CARD_FILE: Final = "model.json"
CARD_FORMAT: Final = 1
MAX_MODEL_BYTES: Final = 64 * 2**20
MAX_CARD_BYTES: Final = 4 * 2**20
VERSION: Final = re.compile(r"[0-9A-Za-z]+-[0-9a-f]+")
"""What a version looks like: the name of one folder, which cannot lead anywhere else."""
RESERVED: Final = frozenset({"source-ref", "labeler", "failure"})
"""A row's own keys: a label attribute of that name would overwrite them."""
EMBEDDED: Final = str(Path(__file__).parent / "embedded")
"""The bundle that ships with the code, so that everything works with nothing configured."""
EMBEDDED_NAME: Final = "embedded"
"""What people call it. A folder of that name is `./embedded`."""


class BundleError(LabelerError):
    """A bundle cannot be used. The message names the bundle and what to do."""


_Name = Annotated[str, Meta(min_length=1, max_length=255)]
"""A longer one would fill every row."""
_Share = Annotated[float, Meta(ge=0, le=1)]


class Card(Struct, frozen=True):
    """The part of `model.json` that decides labels. Everything else on the card is for people."""

    version: Annotated[str, Meta(pattern=rf"\A{VERSION.pattern}\Z", max_length=255)]
    """`<creation time>-<digest>`: sorts by age, changes with anything that could change a label."""
    attribute: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9](-*[A-Za-z0-9])*\Z", max_length=255)]
    """_Name of the manifest's label attribute: the positive class as an identifier."""
    labels: tuple[_Name, _Name]
    """Class names in index order. The model's probability is that of `labels[1]`."""
    threshold: _Share
    """Lowest probability, 0..1, that is labelled `labels[1]`."""
    review_band: tuple[_Share, _Share]
    """Probabilities from the first up to and including the second need human review."""
    input_size: Annotated[int, Meta(ge=1, le=1024)]
    """Side in pixels of the square the model takes."""
    preprocessing: _Name
    """`alpaca_labeler.photos.images.PREPROCESSING_ID` of the pixels the model was trained on."""
    calibration: tuple[float, float]
    """(a, b): the probability is sigmoid(a * logit + b)."""
    sha256: _Name
    """Digest of `model.tflite`, in hex."""

    def digest(self) -> str:
        """Hex digest of everything that decides a label: the second half of a version."""
        decisive = msgspec.to_builtins(self)
        del decisive["version"]
        text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified model, ready for `alpaca_labeler.model.classifier.Classifier`."""

    card: Card
    model: bytes
    """The content of `model.tflite`."""
    document: dict[str, Any]
    """The whole of `model.json`: metrics, training settings and data as well."""


def load(uri: str = EMBEDDED) -> Bundle:
    """Read and verify a bundle: a folder, `s3://…/` prefix or pointer. Raises `BundleError`."""
    base = resolve(uri)
    try:
        document = storage.read(storage.join(base, CARD_FILE), MAX_CARD_BYTES)
        model = storage.read(storage.join(base, MODEL_FILE), MAX_MODEL_BYTES)
    except storage.StorageError as error:
        raise BundleError(
            f"{uri}: no model bundle there ({error}). A bundle is {MODEL_FILE} and {CARD_FILE} "
            "together; `alpaca train` makes one."
        ) from error
    return parse(document, model, name=base)


def resolve(uri: str, field: str = "version") -> str:
    """Follow a pointer (`….json`), or `embedded`, to the bundle it names; other URIs stay.

    `field` of the pointer is followed: `version`, or `previous`. Raises `BundleError`.
    """
    if uri == EMBEDDED_NAME:
        return EMBEDDED
    if not uri.endswith(".json"):
        return uri
    name = uri.rsplit("/", 1)[-1]
    if name == CARD_FILE:
        return uri[: -len(CARD_FILE)] or "."
    try:
        pointer = json.loads(storage.read(uri, MAX_CARD_BYTES))
        version = pointer[field]
    except (storage.StorageError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{uri}: not a model pointer ({error}). `alpaca models publish` writes one."
        ) from error
    # A pointer may only name a folder beside it: it must not be able to lead anywhere else.
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise BundleError(f"{uri}: {version!r} is not a model version")
    return storage.join(uri[: -len(name)], version)


def parse(card_json: bytes, model: bytes, *, name: str) -> Bundle:
    """Verify a card against its model. Raises `BundleError`, which calls the bundle `name`."""
    try:
        document = msgspec.json.decode(card_json, type=dict[str, Any])
        if document.get("format") != CARD_FORMAT:
            raise BundleError(
                f"{name}: card format {document.get('format')!r}, but this code reads "
                f"{CARD_FORMAT}: use the version of this tool that the bundle was made for"
            )
        card = msgspec.convert(document, Card)
        _check(card)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name}/{CARD_FILE}: not a model card ({error})") from error
    if hashlib.sha256(model).hexdigest() != card.sha256:
        raise BundleError(
            f"{name}/{MODEL_FILE}: its sha256 is not the one on the card; copy the bundle again, "
            "both files together"
        )
    if not card.version.endswith(f"-{card.digest()}"):
        raise BundleError(
            f"{name}/{CARD_FILE}: the card was changed after version {card.version} was made; "
            "export or publish the bundle again"
        )
    if card.preprocessing != images.PREPROCESSING_ID:
        raise BundleError(
            f"{name}: made for the preprocessing {card.preprocessing!r}, but this code makes "
            f"{images.PREPROCESSING_ID!r}: train it again or use the code it was made with"
        )
    return Bundle(card, model, document)


def _check(card: Card) -> None:
    """Raise `ValueError` for a card whose values do not agree."""
    if card.labels[0] == card.labels[1]:
        raise ValueError(f"both classes are called {card.labels[0]!r}")
    if card.review_band[0] > card.review_band[1]:
        raise ValueError("the review band ends before it begins")
    if card.attribute in RESERVED or card.attribute.endswith("-metadata"):
        raise ValueError(f"{card.attribute!r} cannot be a label attribute name")

"""A recipe: everything that decides how a model is trained, as one small TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from alpaca_labeler.errors import LabelerError

SHIPPED = Path(__file__).parent / "recipes"


class RecipeError(LabelerError):
    """A recipe cannot be used. The message names the file, the key and what it should be."""


Side = Annotated[int, Meta(ge=32, le=1024, multiple_of=32)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Epochs = Annotated[int, Meta(ge=0, le=10**6)]
Share = Annotated[float, Meta(ge=0, le=1)]
ShareBelowOne = Annotated[float, Meta(ge=0, le=0.99)]
Rate = Annotated[float, Meta(ge=1e-9, le=100)]
Weight = Annotated[float, Meta(ge=0, le=1000)]


class _Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of which none may be missing, and no other may be there."""


class Augmentation(_Section, frozen=True):
    """What changes at random each time a photo is drawn: see `training.keras.augment`."""

    source_size: Annotated[int, Meta(ge=32, le=2048)]
    """Side in pixels of the square that crops are cut from."""
    crop: Annotated[float, Meta(ge=0.001, le=1)]
    """Smallest share of the area that a crop shows; 1: no crops."""
    stretch: Annotated[float, Meta(ge=0, le=10)]
    """Natural logarithm of the largest change of a crop's aspect ratio."""
    flip: bool
    """Mirror every other photo."""
    rotation: Share
    """Largest turn either way, as a share of a full turn."""
    brightness: Share
    """Largest change either way, as a share of white."""
    contrast: Share
    """Largest change either way, as a share of the photo's own contrast."""
    fade: Share
    """Largest share of the colour that is removed."""
    grey: Share
    """Share of the photos that lose all colour."""


class Sampling(_Section, frozen=True):
    """Which photos make an epoch: draws with replacement, by `split.chances`."""

    photos: Count
    """Draws per epoch, at most."""
    repeats: Count
    """Draws per epoch and training photo, at most: few photos make short epochs."""
    positive_share: Annotated[float, Meta(ge=0.001, le=0.999)]
    """Share of the draws that show the positive class."""


class Head(_Section, frozen=True):
    """Phase one: only the last layer learns, on the features of the frozen base."""

    method: Literal["logistic", "gradient"]
    """`logistic`: the exact optimum on the features of every photo and its mirror image.
    `gradient`: gradient descent for `epochs`."""
    strength: Annotated[float, Meta(ge=1e-9, le=1e9)]
    """L2 penalty of the logistic regression."""
    epochs: Epochs
    learning_rate: Rate


class FineTuning(_Section, frozen=True):
    """Phase two: the base learns too, from one layer on. Batch normalisation stays frozen."""

    from_layer: str
    """Name or index of the first layer of the base that learns."""
    epochs: Epochs
    learning_rate: Rate
    weight_decay: Weight
    warmup: Epochs
    """Epochs over which the learning rate first rises from zero: Adam's first steps are large
    whatever the gradient, and would undo what the base knows. Only used with `cosine`."""
    cosine: bool
    """Whether the learning rate falls to nearly zero along half a cosine; else it is constant."""
    ema: Annotated[float, Meta(ge=0, le=0.99999)]
    """Decay per step of the average of weights that becomes the model; 0: no average."""
    label_smoothing: ShareBelowOne
    kinds: Weight
    """Weight of the loss of an auxiliary head, which names the kind of photo (`Photo.kind`) from
    the same features and is removed after training. Features that tell sheep from goats also tell
    both from the positives, in photos of other sources too."""


class Recipe(_Section, frozen=True):
    """One way to train."""

    name: str
    input_size: Side
    """Side in pixels of the square that the model labels."""
    train_sizes: Annotated[tuple[Side, ...], Meta(min_length=1)]
    """Sides in pixels of the squares that it learns from; the epochs of fine-tuning are divided
    among them. Starting small saves most of the time. The last may be below `input_size`, because
    crops show things larger than labelling does (Touvron et al., Fixing the train-test resolution
    discrepancy, 2019)."""
    width: Annotated[float, Meta(ge=0.1, le=10)]
    """MobileNetV2's width multiplier (alpha)."""
    batch_size: Annotated[int, Meta(ge=1, le=10_000)]
    dropout: ShareBelowOne
    augmentation: Augmentation
    sampling: Sampling
    head: Head
    fine_tuning: FineTuning


def load(name: str) -> Recipe:
    """Read a shipped recipe by name, or any recipe by its file (`….toml`). Raises `RecipeError`."""
    path = Path(name) if name.endswith(".toml") else SHIPPED / f"{name}.toml"
    try:
        table = msgspec.toml.decode(path.read_bytes())
        return msgspec.convert({"name": path.stem, **table}, Recipe)
    except FileNotFoundError as error:
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.toml")))
        raise RecipeError(
            f"{name}: no such recipe; choose one of {shipped}, or give a file ending in .toml"
        ) from error
    except (OSError, msgspec.DecodeError) as error:
        raise RecipeError(
            f"{path}: {error}. For every setting with its value, see {SHIPPED / 'default.toml'}"
        ) from error

"""A recipe: everything that decides how a model is trained, as one small TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from ..handler.errors import LabelerError

SHIPPED = Path(__file__).parent / "recipes"


class RecipeError(LabelerError):
    """A recipe cannot be used. The message names the file, the key and what it should be."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Views of a photo besides itself and its mirror image, made once: see `training.views`."""

    views: int
    """How many; every draw of a photo shows one of them or one of those two."""
    oversize: float
    """Side that is cropped from, over that of the input."""
    crop: float
    """Smallest share of the area that is seen."""
    stretch: float
    """Natural logarithm of the largest change of a crop's sides to one another."""
    rotation: float
    """Largest turn either way, as a share of a full turn."""
    brightness: float
    """Largest change either way, as a share of what it is."""
    contrast: float
    colour: float
    """Likewise of the saturation."""
    grey: float
    """Share of the views without colour."""


@dataclass(frozen=True, slots=True)
class Head:
    """Phase one: only the last layer learns, on the features of the frozen base."""

    method: str
    """`logistic`: the optimum on the features of every photo and its mirror. `gradient`: epochs."""
    strength: float
    """Weight of the squared coefficients in the logistic loss, per photo."""
    epochs: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Phase two: the base learns too, from one layer on. Batch normalisation stays as it is."""

    from_layer: str
    """Name or index of the first layer of the base that learns."""
    epochs: int
    learning_rate: float
    weight_decay: float
    warmup: int
    """Epochs over which the learning rate first rises from zero: Adam's first steps are large
    whatever the gradient, and would undo what the base knows. Counts only with `cosine`."""
    cosine: bool
    """The learning rate falls to nearly zero along half a cosine; otherwise it stays."""
    ema: float
    """Decay per step of the average of weights that becomes the model; 0: no average."""
    label_smoothing: float
    kinds: float
    """Weight of a second head's loss. It names the kind of photo (`Photo.kind`) from the same
    features, and goes when training ends: features that tell sheep from goats tell both from the
    positives, also those of another source."""
    averaged: int
    """How often phase two is done, each time from where phase one ended and with other draws; the
    mean of their weights is the model. It is better on photos unlike the training photos than each
    alone, at no cost in use (Wortsman et al., Model soups, 2022)."""
    tolerance: float
    """A later epoch replaces the best so far unless its validation loss is higher by more than
    this: a few dozen photos cannot tell finer, and a rate that falls and an average that grows
    favour the later one."""
    patience: int
    """Epochs without becoming the best before it stops; 0: never."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which photos make an epoch."""

    photos: int
    """Photos drawn an epoch, half of each class; 0: every photo once, in random order."""
    own_share: float
    """Of each class, the share drawn from the data set itself; the rest comes from extra folders,
    where a kind's chance is the square root of its number of photos, so that no large kind drowns a
    small one."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train."""

    name: str
    input_size: int
    """Side in pixels."""
    width: float
    """MobileNetV2's width multiplier (alpha)."""
    batch_size: int
    dropout: float
    split: str
    """`grouped`: ours. `reference`: that of Keras' image_dataset_from_directory, for comparison."""
    augmentation: Augmentation
    sampling: Sampling
    head: Head
    fine_tuning: FineTuning


def load(name: str) -> Recipe:
    """Read a shipped recipe by name, or any recipe by its file (`….toml`). Raises `RecipeError`."""
    path = Path(name) if name.endswith(".toml") else SHIPPED / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.toml")))
        raise RecipeError(
            f"{name}: no such recipe; there are {shipped}, or give a file ending in .toml"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from error
    recipe: Recipe = _section(Recipe, {"name": path.stem, **table}, str(path))
    _check(recipe, str(path))
    return recipe


def _section(kind: type[Any], table: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    for key in table.keys() - names:
        raise RecipeError(f"{where}: unknown setting {key!r}; known are {', '.join(sorted(names))}")
    values = {}
    for key, wanted in hints.items():
        if key not in table:
            raise RecipeError(f"{where}: {key} is missing")
        value = table[key]
        if isinstance(value, dict):
            if wanted in {str, int, float, bool}:
                raise RecipeError(f"{where}: {key} is a value, not a section")
            value = _section(wanted, value, f"{where} [{key}]")
        elif wanted is float and type(value) is int:
            value = float(value)
        elif wanted is str and type(value) is int:  # a layer's index
            value = str(value)
        elif type(value) is not wanted:
            raise RecipeError(
                f"{where}: {key} = {value!r} is not {_CALLED.get(wanted, 'a section')}"
            )
        values[key] = value
    return kind(**values)


_CALLED = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _check(recipe: Recipe, where: str) -> None:
    tuning, head, sampling = recipe.fine_tuning, recipe.head, recipe.sampling
    views = recipe.augmentation
    rules = {
        "input_size must be a multiple of 32 from 32 to 1024": (
            recipe.input_size % 32 == 0 and 32 <= recipe.input_size <= 1024
        ),
        "width must be above 0": recipe.width > 0,
        "batch_size must be at least 1": recipe.batch_size >= 1,
        "dropout must be at least 0 and below 1": 0 <= recipe.dropout < 1,
        "split must be grouped or reference": recipe.split in {"grouped", "reference"},
        "head.method must be logistic or gradient": head.method in {"logistic", "gradient"},
        "head.strength must be above 0": head.strength > 0,
        "epochs, warmup and patience must not be negative": (
            min(head.epochs, tuning.epochs, tuning.patience, tuning.warmup) >= 0
        ),
        "learning rates must be above 0": head.learning_rate > 0 and tuning.learning_rate > 0,
        "fine_tuning.ema must be at least 0 and below 1": 0 <= tuning.ema < 1,
        "fine_tuning.label_smoothing must be at least 0 and below 1": (
            0 <= tuning.label_smoothing < 1
        ),
        "augmentation.views must not be negative": views.views >= 0,
        "augmentation.oversize must be at least 1": views.oversize >= 1,
        "augmentation.crop must be above 0 and at most 1": 0 < views.crop <= 1,
        "augmentation.stretch and rotation must not be negative": (
            min(views.stretch, views.rotation) >= 0
        ),
        "augmentation: brightness, contrast, colour and grey must lie within 0..1": all(
            0 <= share <= 1
            for share in (views.brightness, views.contrast, views.colour, views.grey)
        ),
        "fine_tuning.kinds must not be negative": tuning.kinds >= 0,
        "fine_tuning.averaged must be at least 1": tuning.averaged >= 1,
        "fine_tuning.tolerance and weight_decay must not be negative": (
            min(tuning.tolerance, tuning.weight_decay) >= 0
        ),
        "sampling.photos must not be negative": sampling.photos >= 0,
        "sampling.own_share must lie within 0..1": 0 <= sampling.own_share <= 1,
    }
    for rule, kept in rules.items():
        if not kept:
            raise RecipeError(f"{where}: {rule}")

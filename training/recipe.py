"""A recipe: everything that decides how a model is trained, as one small TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, get_origin, get_type_hints

from alpaca_labeler.errors import LabelerError

SHIPPED = Path(__file__).parent / "recipes"


class RecipeError(LabelerError):
    """A recipe cannot be used. The message names the file, the key and what it should be."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What changes at random each time a photo is drawn: see `training.keras.augment`."""

    source_size: int
    """Side in pixels of the square that crops are cut from."""
    crop: float
    """Smallest share of the area that a crop shows; 1: no crops."""
    stretch: float
    """Natural logarithm of the largest change of a crop's aspect ratio."""
    flip: bool
    """Mirror every other photo."""
    rotation: float
    """Largest turn either way, as a share of a full turn."""
    brightness: float
    """Largest change either way, as a share of white."""
    contrast: float
    """Largest change either way, as a share of the photo's own contrast."""
    fade: float
    """Largest share of the colour that is removed."""
    grey: float
    """Share of the photos that lose all colour."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which photos make an epoch: draws with replacement, rare kinds more often (`sampling`)."""

    photos: int
    """Draws per epoch, at most."""
    repeats: int
    """Draws per epoch and training photo, at most: few photos make short epochs."""
    positive_share: float
    """Share of the draws that show the positive class."""


@dataclass(frozen=True, slots=True)
class Head:
    """Phase one: only the last layer learns, on the features of the frozen base."""

    method: str
    """`logistic`: the exact optimum on the features of every photo and its mirror image.
    `gradient`: gradient descent for `epochs`."""
    strength: float
    """L2 penalty of the logistic regression."""
    epochs: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Phase two: the base learns too, from one layer on. Batch normalisation stays frozen."""

    from_layer: str
    """Name or index of the first layer of the base that learns."""
    epochs: int
    learning_rate: float
    weight_decay: float
    warmup: int
    """Epochs over which the learning rate first rises from zero: Adam's first steps are large
    whatever the gradient, and would undo what the base knows. Only used with `cosine`."""
    cosine: bool
    """Whether the learning rate falls to nearly zero along half a cosine; else it is constant."""
    ema: float
    """Decay per step of the average of weights that becomes the model; 0: no average."""
    label_smoothing: float
    kinds: float
    """Weight of the loss of an auxiliary head, which names the kind of photo (`Photo.kind`) from
    the same features and is removed after training. Features that tell sheep from goats also tell
    both from the positives, in photos of other sources too."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train."""

    name: str
    reader: str
    """`own`: pixels as in serving, and no scene or source on both sides of a split. `keras`: split
    and pixels of Keras' image_dataset_from_directory, to compare with models trained by it."""
    input_size: int
    """Side in pixels of the square that the model labels."""
    train_sizes: tuple[int, ...]
    """Sides in pixels of the squares that it learns from; the epochs of fine-tuning are divided
    among them. Starting small saves most of the time. The last may be below `input_size`, because
    crops show things larger than labelling does (Touvron et al., Fixing the train-test resolution
    discrepancy, 2019)."""
    width: float
    """MobileNetV2's width multiplier (alpha)."""
    batch_size: int
    dropout: float
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
            f"{name}: no such recipe; choose one of {shipped}, or give a file ending in .toml"
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from error
    recipe: Recipe = _section(Recipe, {"name": path.stem, **table}, str(path))
    return recipe


def _section(kind: type[Any], table: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    for key in table.keys() - names:
        raise RecipeError(f"{where}: unknown setting {key!r}; known are {', '.join(sorted(names))}")
    for key in hints.keys() - table.keys():
        raise RecipeError(f"{where}: {key} is missing")
    return kind(**{key: _value(table[key], hints[key], key, where) for key in hints})


def _value(value: Any, wanted: Any, key: str, where: str) -> Any:
    if isinstance(value, dict):
        if wanted in _CALLED:
            raise RecipeError(f"{where}: {key} is a value, not a section")
        return _section(wanted, value, f"{where} [{key}]")
    if wanted is float and type(value) is int:
        value = float(value)
    elif wanted is str and type(value) is int:  # a layer's index
        value = str(value)
    elif wanted == tuple[int, ...] and isinstance(value, list) and value:
        value = tuple(value) if all(type(one) is int for one in value) else value
    if type(value) is not (get_origin(wanted) or wanted):
        raise RecipeError(f"{where}: {key} = {value!r} is not {_CALLED.get(wanted, 'a section')}")
    _check(key, value, where)
    return value


def _check(key: str, value: Any, where: str) -> None:
    if key in _CHOICES and value not in _CHOICES[key]:
        raise RecipeError(f"{where}: {key} must be {' or '.join(_CHOICES[key])}")
    if key not in _LIMITS:
        return
    low, high = _LIMITS[key]
    for number in value if isinstance(value, tuple) else (value,):
        if not low <= number <= high:
            raise RecipeError(f"{where}: {key} must be from {low:g} to {high:g}, not {number}")
        if key in {"input_size", "train_sizes"} and number % 32:
            raise RecipeError(f"{where}: {key} must be multiples of 32, not {number}")


_CALLED: Final[dict[Any, str]] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple[int, ...]: "a list of whole numbers",
}
_CHOICES: Final = {"reader": ("own", "keras"), "method": ("logistic", "gradient")}
_LIMITS: Final[dict[str, tuple[float, float]]] = {
    "input_size": (32, 1024),
    "train_sizes": (32, 1024),
    "width": (0.1, 10),
    "batch_size": (1, 10_000),
    "dropout": (0, 0.99),
    "source_size": (32, 2048),
    "crop": (0.001, 1),
    "stretch": (0, 10),
    "rotation": (0, 1),
    **dict.fromkeys(("brightness", "contrast", "fade", "grey"), (0, 1)),
    **dict.fromkeys(("photos", "repeats"), (1, 1e9)),
    "positive_share": (0.001, 0.999),
    "strength": (1e-9, 1e9),
    "learning_rate": (1e-9, 100),
    **dict.fromkeys(("epochs", "warmup"), (0, 1e6)),
    **dict.fromkeys(("weight_decay", "kinds"), (0, 1000)),
    "ema": (0, 0.99999),
    "label_smoothing": (0, 0.99),
}
"""Lowest and highest value of each setting that has them."""

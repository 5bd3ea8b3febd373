"""A recipe: everything that decides how a model is trained, as one small TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

from alpaca_labeler.errors import LabelerError

SHIPPED = Path(__file__).parent / "recipes"


class RecipeError(LabelerError):
    """A recipe cannot be used. The message names the file, the key and what it should be."""


class Limits(NamedTuple):
    """What values a setting may have."""

    low: float
    high: float
    multiples_of: int = 0

    def check(self, value: float, where: str) -> None:
        """Raise `RecipeError` for another value."""
        if not self.low <= value <= self.high:
            raise RecipeError(f"{where} must be from {self.low:g} to {self.high:g}, not {value}")
        if self.multiples_of and value % self.multiples_of:
            raise RecipeError(f"{where} must be a multiple of {self.multiples_of}, not {value}")


Side = Annotated[int, Limits(32, 1024, 32)]
Count = Annotated[int, Limits(1, 10**9)]
Epochs = Annotated[int, Limits(0, 10**6)]
Share = Annotated[float, Limits(0, 1)]
ShareBelowOne = Annotated[float, Limits(0, 0.99)]
Rate = Annotated[float, Limits(1e-9, 100)]
Weight = Annotated[float, Limits(0, 1000)]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What changes at random each time a photo is drawn: see `training.keras.augment`."""

    source_size: Annotated[int, Limits(32, 2048)]
    """Side in pixels of the square that crops are cut from."""
    crop: Annotated[float, Limits(0.001, 1)]
    """Smallest share of the area that a crop shows; 1: no crops."""
    stretch: Annotated[float, Limits(0, 10)]
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


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which photos make an epoch: draws with replacement, by `split.chances`."""

    photos: Count
    """Draws per epoch, at most."""
    repeats: Count
    """Draws per epoch and training photo, at most: few photos make short epochs."""
    positive_share: Annotated[float, Limits(0.001, 0.999)]
    """Share of the draws that show the positive class."""


@dataclass(frozen=True, slots=True)
class Head:
    """Phase one: only the last layer learns, on the features of the frozen base."""

    method: Literal["logistic", "gradient"]
    """`logistic`: the exact optimum on the features of every photo and its mirror image.
    `gradient`: gradient descent for `epochs`."""
    strength: Annotated[float, Limits(1e-9, 1e9)]
    """L2 penalty of the logistic regression."""
    epochs: Epochs
    learning_rate: Rate


@dataclass(frozen=True, slots=True)
class FineTuning:
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
    ema: Annotated[float, Limits(0, 0.99999)]
    """Decay per step of the average of weights that becomes the model; 0: no average."""
    label_smoothing: ShareBelowOne
    kinds: Weight
    """Weight of the loss of an auxiliary head, which names the kind of photo (`Photo.kind`) from
    the same features and is removed after training. Features that tell sheep from goats also tell
    both from the positives, in photos of other sources too."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train."""

    name: str
    input_size: Side
    """Side in pixels of the square that the model labels."""
    train_sizes: tuple[Side, ...]
    """Sides in pixels of the squares that it learns from; the epochs of fine-tuning are divided
    among them. Starting small saves most of the time. The last may be below `input_size`, because
    crops show things larger than labelling does (Touvron et al., Fixing the train-test resolution
    discrepancy, 2019)."""
    width: Annotated[float, Limits(0.1, 10)]
    """MobileNetV2's width multiplier (alpha)."""
    batch_size: Annotated[int, Limits(1, 10_000)]
    dropout: ShareBelowOne
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
    hints = get_type_hints(kind, include_extras=True)
    for key in table.keys() - hints.keys():
        raise RecipeError(f"{where}: unknown setting {key!r}; known are {', '.join(sorted(hints))}")
    for key in hints.keys() - table.keys():
        raise RecipeError(f"{where}: {key} is missing")
    return kind(**{key: _value(table[key], hints[key], f"{where}: {key}") for key in hints})


def _value(value: Any, wanted: Any, where: str) -> Any:
    if isinstance(value, dict) and isinstance(wanted, type) and is_dataclass(wanted):
        return _section(wanted, value, where)
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise RecipeError(f"{where} must be {' or '.join(get_args(wanted))}")
        return value
    if get_origin(wanted) is tuple:
        if not isinstance(value, list) or not value:
            raise RecipeError(f"{where} = {value!r} is not a list of whole numbers")
        return tuple(_value(each, get_args(wanted)[0], where) for each in value)
    kind, *limits = get_args(wanted) if get_origin(wanted) is Annotated else (wanted,)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise RecipeError(f"{where} = {value!r} is not {_CALLED.get(kind, 'a section')}")
    for limit in limits:
        limit.check(value, where)
    return value


_CALLED: Final = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}

"""`alpaca train` and `alpaca evaluate`: what is asked and answered. The work is in `training`."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from training.dataset import Dataset, Extra
    from training.evaluate import Figure
    from training.fit import Epoch

NEEDS_TENSORFLOW = "training needs TensorFlow: pip install 'alpaca-labeler[train]'"

REFERENCE = """\
reference   frozen       0.79 train, 0.77 validation
reference   fine-tuning  0.88 to 0.97 validation"""
"""What the project that the recipe `course` repeats reports of itself."""


class _ExtraType(click.ParamType[tuple[str, str]]):
    name = "CLASS=FOLDER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        label, equals, folder = value.partition("=")
        if not (label and equals and folder):
            self.fail(f"{value!r} is not CLASS=FOLDER", param, ctx)
        return label, folder


_positive = click.option(
    "--positive",
    metavar="CLASS",
    help="Which class is asked for. Default: the one the other negates ('not …'), else the last.",
)
_extra = click.option(
    "--extra",
    "extras",
    multiple=True,
    type=_ExtraType(),
    help="One more folder of photos of a class, with its sub-folders. Repeatable.",
)


@click.command()
@click.argument("dataset", type=click.Path(exists=True, file_okay=False))
@_extra
@click.option(
    "--groups",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="CSV of photos that belong together: columns file and group (or source). Repeatable.",
)
@click.option(
    "--exclude",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="Text file of photos never to train on, one a line. They still count in the figures.",
)
@click.option("--recipe", default="default", show_default=True, help="default, course, or a file.")
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    help="Where the base starts: imagenet (downloaded once), a weights file, or none.",
)
@click.option("--seed", default=42, show_default=True, type=click.IntRange(0, 2**32 - 1))
@click.option(
    "--folds",
    default=0,
    type=click.IntRange(0, 100),
    help="Cross-validate with this many models, then train one on all photos.",
)
@click.option("--output", help="Folder for the bundle. Default: runs/<time>.")
@click.option(
    "--about",
    type=click.Path(exists=True, dir_okay=False),
    help="TOML file of what only you can say (weaknesses, licence), for the card.",
)
@click.option(
    "--max-disagreement",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of all photos the 8-bit model may label otherwise than the network.",
)
@_positive
def train(dataset: str, output: str | None, **options: Any) -> None:
    """Train a model on DATASET, a folder with one sub-folder for each of two classes.

    \b
    alpaca train photos/
    alpaca train photos/ --extra "not alpaca=sheep/" --folds 5 --output runs/better
    alpaca train photos/ --recipe course
    alpaca train photos/ --weights mobilenet_v2_no_top.h5 --positive alpaca

    Ctrl-C ends training early and keeps the best model so far.
    """
    with _errors():
        _load_tensorflow()
        _train(dataset, output or f"runs/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}", options)


def _train(dataset: str, output: str, options: Mapping[str, Any]) -> None:
    from training import export, run, split
    from training import recipe as recipes

    recipe = recipes.load(options["recipe"])
    export.check_free(output)
    about = _read_about(options["about"])
    data = _load(dataset, recipe.input_size, options)
    group = split.groups(data.photos, data.pixels, options["groups"])
    weights = None if options["weights"] == "none" else options["weights"]
    settings = run.Settings(
        recipe, weights, options["seed"], options["folds"], _excluded(data, options["exclude"])
    )
    outcome = run.train(data, group, settings, progress=_say_epoch, say=_say)
    if outcome.interrupted:
        _say("interrupted: the best model so far is kept")
    if recipe.name == "course":
        _print_reference(outcome.history)
    for name, part in run.figures(data, outcome.judged, seed=settings.seed).items():
        _print_figures(name, part)
    _say("writing the 8-bit model, its card and its report")
    card = export.export(
        outcome,
        data,
        output,
        group=group,
        about=about,
        max_disagreement=options["max_disagreement"],
    )
    _print_card(card)
    click.echo(f"seconds     {outcome.seconds:.0f}")
    click.echo(f"bundle      {output}")


@click.command()
@click.argument("bundle")
@click.argument("dataset", type=click.Path(exists=True, file_okay=False))
@_extra
@click.option("--seed", default=42, show_default=True, help="Of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate(bundle: str, dataset: str, *, extras: Any, seed: int, as_json: bool) -> None:
    """Measure BUNDLE, as it labels, on DATASET: a folder with a sub-folder for each class.

    \b
    alpaca evaluate runs/better photos/
    alpaca evaluate s3://bucket/models/alpaca/latest.json photos/ --json

    Figures of photos that the model was trained on say little.
    """
    with _errors():
        from handler import bundle as bundles

        made = bundles.load(bundle)
        options = {"extras": extras, "positive": made.card.labels[1]}
        data = _load(dataset, made.card.input_size, options)
        if data.labels != made.card.labels:
            raise click.ClickException(
                f"{dataset}: its classes are {data.labels}, those of {bundle} {made.card.labels}"
            )
        _evaluate(made, data, seed=seed, as_json=as_json)


def _evaluate(made: Any, data: Dataset, *, seed: int, as_json: bool) -> None:
    import numpy as np

    from handler.classifier import Classifier
    from training import evaluate as measuring

    classifier = Classifier(made)
    predictions = [classifier.predict(pixels) for pixels in data.pixels]
    truth = data.truth()
    probabilities = np.array([prediction.probability for prediction in predictions])
    predicted = np.array([prediction.index for prediction in predictions])
    figures = measuring.figures(truth, probabilities, predicted, seed=seed)
    kinds = measuring.by_kind([photo.kind for photo in data.photos], truth, predicted)
    confusion = measuring.confusion(truth, predicted)
    review = float(np.mean([prediction.needs_review for prediction in predictions]))
    if as_json:
        answer = {
            "version": made.card.version,
            "photos": len(truth),
            "skipped": data.skipped,
            "metrics": {name: _sound(figure) for name, figure in figures.items()},
            "confusion": confusion,
            "needs_review": review,
            "kinds": kinds,
        }
        click.echo(json.dumps(answer, indent=2))
        return
    _print_figures(f"{len(truth)} photos", figures)
    _print_table(data.labels, confusion, kinds, review)


def _load(dataset: str, size: int, options: Mapping[str, Any]) -> Dataset:
    from training import dataset as datasets

    extras: list[Extra] = [datasets.Extra(*extra) for extra in options["extras"]]
    data = datasets.load(dataset, size, positive=options["positive"], extras=extras)
    _say(f"{len(data.photos)} photos of {data.labels[1]!r} and {data.labels[0]!r}")
    for line in data.skipped:
        _say(f"skipped {line}")
    return data


def _excluded(data: Dataset, files: tuple[str, ...]) -> frozenset[int]:
    """Return the indices of the photos that files of names (the end of a path) name."""
    lines = [line.strip() for file in files for line in Path(file).read_text("utf-8").splitlines()]
    names = {line for line in lines if line and not line.startswith("#")}
    found = {
        index: name
        for index, photo in enumerate(data.photos)
        for name in names
        if f"/{photo.path}".endswith(f"/{name}")
    }
    for name in sorted(names - set(found.values())):
        _say(f"--exclude: no photo is called {name}")
    return frozenset(found)


def _read_about(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return tomllib.loads(Path(file).read_text("utf-8"))
    except ValueError as error:
        raise click.ClickException(f"{file}: {error}") from error


def _load_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        import keras  # noqa: F401
        import tensorflow as tf  # noqa: F401
    except ImportError as error:
        raise click.ClickException(NEEDS_TENSORFLOW) from error


@contextmanager
def _errors() -> Iterator[None]:
    """Turn every error that is made for people into one line."""
    from handler.bundle import BundleError
    from training.dataset import DatasetError
    from training.recipe import RecipeError

    ours: list[type[Exception]] = [BundleError, DatasetError, RecipeError, OSError]
    try:
        yield
    except Exception as error:
        # Named, not imported: their modules import TensorFlow, and evaluating needs none.
        if isinstance(error, tuple(ours)) or type(error).__name__ in {
            "ExportError",
            "NetworkError",
        }:
            raise click.ClickException(str(error)) from error
        raise


def _say(text: str) -> None:
    click.echo(text, err=True)


def _say_epoch(epoch: Epoch) -> None:
    text = f"{epoch.phase:11} {epoch.epoch:3}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}"
    if not math.isnan(epoch.val_loss):
        text += f"  validation loss {epoch.val_loss:.4f}  accuracy {epoch.val_accuracy:.4f}"
    _say(text)


def _print_reference(history: tuple[Epoch, ...]) -> None:
    for phase in ("frozen", "fine-tuning"):
        epochs = [epoch for epoch in history if epoch.phase == phase]
        if epochs:
            held = [epoch.val_accuracy for epoch in epochs]
            click.echo(
                f"this run    {phase:11}  {epochs[-1].accuracy:.2f} train, {held[-1]:.2f} "
                f"validation ({min(held):.2f} to {max(held):.2f} over {len(held)} epochs)"
            )
    click.echo(REFERENCE)


def _print_figures(name: str, figures: Mapping[str, Figure]) -> None:
    click.echo(name)
    for key, figure in figures.items():
        if not math.isnan(figure.value):
            click.echo(f"  {key:10}{figure}")


def _print_card(card: Mapping[str, Any]) -> None:
    metrics = card["metrics"]
    _print_table(card["labels"], metrics["confusion"], card["kinds"], metrics["needs_review"])
    low, high = card["review_band"]
    click.echo(f"threshold   {card['threshold']:.4f}, review from {low:.4f} to {high:.4f}")
    click.echo(
        f"8-bit       {metrics['int8_disagreement']:.2%} of labels differ from the network's"
    )
    click.echo(f"version     {card['version']}")


def _print_table(
    labels: tuple[str, str], confusion: list[list[int]], kinds: Mapping[str, Any], review: float
) -> None:
    width = max(len(name) for name in [*labels, *kinds])
    for label, (negative, positive) in zip(labels, confusion, strict=True):
        click.echo(f"{label:{width}}  {negative:5} called {labels[0]}, {positive:5} {labels[1]}")
    for kind, found in kinds.items():
        share = found["right"] / found["photos"]
        click.echo(
            f"  {kind:{width}}  {found['right']:4} of {found['photos']:4} right  {share:6.1%}"
        )
    click.echo(f"review      {review:.1%} of the photos")


def _sound(figure: Figure) -> dict[str, float] | None:
    if math.isnan(figure.value):
        return None
    return {"value": figure.value, "low": figure.low, "high": figure.high}

"""`alpaca train` and `alpaca evaluate`: what is asked and answered. The work is in `training`."""

from __future__ import annotations

import json
import logging
import math
import os
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alpaca_labeler.arguments import BUNDLE, FILE, FOLDER, NAME_OR_FILE, NEW_FOLDER
from alpaca_labeler.console import printable, say
from alpaca_labeler.models.options import check_classes, extra_option, groups_option, load_photos

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from alpaca_labeler.training.compare import Answers
    from alpaca_labeler.training.dataset import Dataset
    from alpaca_labeler.training.fit import Epoch
    from alpaca_labeler.training.metrics import Figure

NEEDS_TENSORFLOW = "training needs TensorFlow: pip install 'alpaca-labeler[train]'"

REFERENCE = """\
reference   frozen       0.79 train, 0.77 validation
reference   fine-tuning  0.88 to 0.97 validation"""
"""What the project that the recipe `course` repeats reports of itself."""


@click.command()
@click.argument("dataset", type=FOLDER)
@extra_option
@click.option(
    "--corrections",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="Corrections of `alpaca review`: train on these photos too. Repeatable.",
)
@click.option(
    "--photos-root",
    type=FOLDER,
    help="Folder where relative names in the corrections start. Default: the current one.",
)
@groups_option
@click.option(
    "--exclude",
    multiple=True,
    type=FILE,
    help="Text file of photos never to train on, one a line. They still count in the figures.",
)
@click.option(
    "--recipe",
    default="default",
    show_default=True,
    type=NAME_OR_FILE,
    metavar="NAME",
    help="default, course, or a file.",
)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    type=NAME_OR_FILE,
    metavar="NAME",
    help="Where the base starts: imagenet (downloaded once), a weights file, or none.",
)
@click.option("--seed", default=42, show_default=True, type=click.IntRange(0, 2**32 - 1))
@click.option(
    "--folds",
    default=0,
    type=click.IntRange(0, 100),
    help="Cross-validate with this many models, then train one on all photos.",
)
@click.option(
    "--output",
    type=NEW_FOLDER,
    metavar="FOLDER",
    help="Folder for the bundle. Default: runs/<time>.",
)
@click.option(
    "--about",
    type=FILE,
    help="TOML file of what only you can say (weaknesses, licence), for the card.",
)
@click.option(
    "--max-disagreement",
    default=0.02,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of all photos the 8-bit model may label otherwise than the network.",
)
@click.option(
    "--positive",
    metavar="CLASS",
    help="Which class is asked for. Default: the one the other negates ('not …'), else the last.",
)
def train(dataset: str, output: str | None, **options: Any) -> None:
    """Train a model on two folders of photos.

    \b
    alpaca train photos/
    alpaca train photos/ --extra "not alpaca=sheep/" --folds 5 --output runs/better
    alpaca train photos/ --corrections corrections.jsonl --output runs/corrected
    alpaca train photos/ --recipe course
    alpaca train photos/ --weights mobilenet_v2_no_top.h5 --positive alpaca

    DATASET is a folder with one sub-folder for each of two classes.

    A correction wins over the folder a photo lies in. Photos that are gone, or have changed since,
    are skipped and named.

    Ctrl-C ends training early and keeps the best model so far.
    """
    if options["photos_root"] and not options["corrections"]:
        raise click.UsageError("--photos-root says where --corrections starts: give that too")
    _load_tensorflow()
    _train(dataset, output or f"runs/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}", options)


def _train(dataset: str, output: str, options: Mapping[str, Any]) -> None:
    from alpaca_labeler.report.model_page import render
    from alpaca_labeler.training import experiment, export, split
    from alpaca_labeler.training import recipe as recipes

    recipe = recipes.load(options["recipe"])
    export.check_free(output)
    about = _read_about(options["about"])
    data = load_photos(
        dataset, recipe.input_size, extras=options["extras"], positive=options["positive"]
    )
    if options["corrections"]:
        data = _corrected(data, options["corrections"], options["photos_root"] or "")
    group = split.groups(data.photos, data.pixels, options["groups"])
    weights = None if options["weights"] == "none" else options["weights"]
    settings = experiment.Settings(
        recipe, weights, options["seed"], options["folds"], _excluded(data, options["exclude"])
    )
    outcome = experiment.train(data, group, settings, progress=_say_epoch, say=say)
    if outcome.interrupted:
        say("interrupted: the best model so far is kept")
    if recipe.name == "course":
        _print_reference(outcome.history)
    for name, part in experiment.figures(data, outcome.judged, seed=settings.seed).items():
        _print_figures(name, part)
    say("writing the 8-bit model, its card and its report")
    card = export.export(
        outcome,
        data,
        output,
        group=group,
        write_report=render,
        about=about,
        max_disagreement=options["max_disagreement"],
    )
    _print_card(card)
    click.echo(f"seconds     {outcome.seconds:.0f}")
    click.echo(f"bundle      {output}")


def _corrected(data: Dataset, files: tuple[str, ...], photos_root: str) -> Dataset:
    from alpaca_labeler.training import relabel

    done = relabel.add(data, files, photos_root=photos_root)
    for line in done.skipped:
        say(f"skipped {printable(line)}")
    say(
        f"corrections: {done.relabelled} photos relabelled, {done.confirmed} confirmed, "
        f"{done.added} added"
    )
    return done.data


@click.command()
@click.argument("bundle", type=BUNDLE)
@click.argument("dataset", type=FOLDER)
@extra_option
@groups_option
@click.option("--seed", default=42, show_default=True, help="Of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def evaluate(
    bundle: str, dataset: str, *, extras: Any, groups: tuple[str, ...], seed: int, as_json: bool
) -> None:
    """Measure a model on photos whose classes are known.

    \b
    alpaca evaluate runs/better photos/
    alpaca evaluate embedded photos/ --groups scenes.csv
    alpaca evaluate s3://bucket/models/alpaca/latest.json photos/ --json

    DATASET is a folder with a sub-folder for each class. The model labels as it does in use.

    Photos that the model was trained on say little and are left out, as far as the bundle's
    photos.csv names them. If it names all, all count, and a warning says so.
    """
    from alpaca_labeler.training import compare, provenance, split

    model = provenance.load(bundle)
    card = model.bundle.card
    check_classes(dataset, bundle, card.labels)
    data = load_photos(dataset, card.input_size, extras=extras, positive=card.labels[1])
    group = split.groups(data.photos, data.pixels, groups)
    answers = compare.answer(model, data)
    if model.record is None:
        say("the bundle does not say what it was trained on: all photos count")
    _evaluate(card.version, data, answers, group, seed=seed, as_json=as_json)


def _evaluate(
    version: str, data: Dataset, answers: Answers, group: Any, *, seed: int, as_json: bool
) -> None:
    from alpaca_labeler.training import metrics

    unseen = ~answers.seen
    flattering = not unseen.any()
    if flattering:
        say(f"warning: all {len(unseen)} photos were trained on: these figures flatter the model")
    counted = unseen | flattering
    truth, predicted = data.truth()[counted], answers.predicted[counted]
    figures = metrics.figures(
        truth, answers.probabilities[counted], predicted, seed=seed, groups=group[counted]
    )
    photos = [photo for photo, counts in zip(data.photos, counted, strict=True) if counts]
    kinds = metrics.by_kind([photo.kind for photo in photos], truth, predicted)
    confusion = metrics.confusion(truth, predicted)
    review = float(answers.review[counted].mean())
    left_out = len(data.photos) - len(photos)
    if as_json:
        result = {
            "version": version,
            "photos": len(photos),
            "left_out": left_out,
            "flattering": flattering,
            "skipped": data.skipped,
            "metrics": {name: metrics.numbers(figure) for name, figure in figures.items()},
            "confusion": confusion,
            "needs_review": review,
            "kinds": kinds,
        }
        click.echo(json.dumps(result, indent=2))
        return
    note = f"; {left_out} that the model was trained on are left out" if left_out else ""
    _print_figures(f"{len(photos)} photos{note}", figures)
    _print_table(data.labels, confusion, kinds, review)


def _excluded(data: Dataset, files: tuple[str, ...]) -> frozenset[int]:
    """Return the indices of the photos that files of names (the end of a path) name."""
    from alpaca_labeler.training import text_files

    names = {text_files.same(line) for file in files for line in text_files.lines(file)}
    found = {
        index: name
        for index, photo in enumerate(data.photos)
        for name in names
        if text_files.same(f"/{photo.path}").endswith(f"/{name}")
    }
    for name in sorted(names - set(found.values())):
        say(f"--exclude: no photo is called {name}")
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


def _say_epoch(epoch: Epoch) -> None:
    text = f"{epoch.phase:11} {epoch.epoch:3}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}"
    if not math.isnan(epoch.val_loss):
        text += f"  validation loss {epoch.val_loss:.4f}  accuracy {epoch.val_accuracy:.4f}"
    say(text)


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
            click.echo(f"  {key.replace('_', ' '):19}{figure}")


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

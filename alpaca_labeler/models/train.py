"""`alpaca train` and `alpaca evaluate`: what is asked and answered. The work is in `training`."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING

import click

from alpaca_labeler.console import SHOWN_PROBLEMS, Progress, printable, quiet_option, say, warn
from alpaca_labeler.console.arguments import BUNDLE, FOLDER, NAME_OR_FILE, NEW_FOLDER, Place
from alpaca_labeler.errors import install
from alpaca_labeler.models.figures import print_figures, print_table
from alpaca_labeler.models.options import (
    check_classes,
    dataset_argument,
    load_photos,
    max_pixels_option,
    measuring_options,
)
from alpaca_labeler.models.talk import Talk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from alpaca_labeler.training.compare import Answers
    from alpaca_labeler.training.dataset import Dataset
    from alpaca_labeler.training.recipe import Recipe

NEEDS_TENSORFLOW = f"training needs TensorFlow: {install('tensorflow')}"
NO_TENSORFLOW_YET = (
    "training needs TensorFlow, which has no release for Python {} yet: install alpaca with "
    "Python 3.11 to 3.13 for it. Labelling works with this one"
)

SEED = 42
TABLE = Place()
MANIFEST = "manifest.jsonl"
"""What `alpaca label` calls a folder's table."""


@click.command()
@dataset_argument
@click.option(
    "--validation",
    type=FOLDER,
    metavar="FOLDER",
    help="A folder like DATASET whose photos are held out, for a data set that is split already.",
)
@click.option(
    "--corrections",
    multiple=True,
    type=TABLE,
    metavar="MANIFEST",
    is_flag=False,
    flag_value=MANIFEST,
    help="Manifest, or s3:// prefix of results, with decisions from `alpaca review`: adds these "
    "photos with their labels. Without a name: manifest.jsonl here, or in or beside DATASET. "
    "Repeatable.",
)
@click.option(
    "--photos-root",
    type=FOLDER,
    help="Folder that relative names in the manifest start from. Default: the manifest's folder.",
)
@click.option(
    "--recipe",
    default="default",
    show_default=True,
    type=NAME_OR_FILE,
    metavar="NAME",
    help="default, embedded (the built-in model's), course, or a file.",
)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    type=NAME_OR_FILE,
    metavar="NAME",
    help="Where the base starts: imagenet (downloaded once), a weights file, or none.",
)
@click.option(
    "--seed", default=SEED, show_default=True, metavar="N", type=click.IntRange(0, 2**32 - 1)
)
@click.option(
    "--folds",
    default=0,
    type=click.IntRange(0, 100),
    metavar="N",
    help="Cross-validate with this many models, then train one on all photos. After an "
    "interruption the same command goes on with the fold that it was at.",
)
@click.option(
    "--output",
    type=NEW_FOLDER,
    metavar="FOLDER",
    help="Folder for the bundle. Default: runs/<time>.",
)
@click.option(
    "--positive",
    metavar="CLASS",
    help="The class to find. Default: of two, the one the other negates ('not …'), else the last. "
    "Of three or more, it is told from all others.",
)
@max_pixels_option
@click.option("--json", "as_json", is_flag=True, help="Print the card and where it is, as JSON.")
@quiet_option
def train(dataset: str, output: str | None, *, as_json: bool, **options: Any) -> None:
    """Train a model on two folders of photos.

    \b
    alpaca train photos/
    alpaca train photos/train --validation photos/valid
    alpaca train photos/ --folds 5 --output runs/better
    alpaca train animals/ --positive cat
    alpaca train photos.toml
    alpaca train photos/ --corrections --output runs/corrected
    alpaca train photos/ --recipe course
    alpaca train photos/ --weights mobilenet_v2_no_top.h5 --positive alpaca

    DATASET is a folder with one sub-folder per class (of three or more, --positive is told from the
    others), or a TOML file that names photos in several folders, their classes and kinds, and which
    of them belong together.

    What a person decided of a photo wins over the folder it lies in. Photos that are gone, or have
    changed since, are skipped and named.

    Ctrl-C ends training early and keeps the best model so far; between folds it keeps the folds
    that are done.
    """
    if options["photos_root"] and not options["corrections"]:
        raise click.UsageError("--photos-root says where --corrections starts: give that too")
    if options["folds"] == 1:
        raise click.UsageError("--folds 1 leaves nothing to train on: give 2 or more, or none")
    if options["folds"] and options["validation"]:
        raise click.UsageError("--folds holds photos out in turn: leave out --validation")
    _check_tensorflow()
    output = output or f"runs/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    with Talk() as talk:
        document = _train(dataset, output, options, talk)
    report = os.path.join(output, "report.html")
    if as_json:
        found = {"bundle": output, "report": report, "card": document}
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    _print_card(document)
    click.echo(f"report      {report}")
    click.echo(f"bundle      {output}")
    manifest = shlex.quote(f"{document['labels'][1]}.jsonl")
    say(f"Next: alpaca label PHOTOS --model {shlex.quote(output)} --manifest {printable(manifest)}")


def _train(dataset: str, output: str, options: Mapping[str, Any], talk: Talk) -> dict[str, Any]:
    """Write a bundle and return its card. TensorFlow is started when the photos are read."""
    from alpaca_labeler.training import split

    talk.say(f"reading the photos in {printable(dataset)}")
    recipe, data = _read(dataset, output, options)
    group = split.groups(data)
    _name_contradictions(split.contradictions(data, group))
    talk.say("starting TensorFlow")
    _load_tensorflow()

    from alpaca_labeler.report.model_page import render
    from alpaca_labeler.training import experiment, export

    settings = experiment.Settings(
        recipe,
        None if options["weights"] == "none" else options["weights"],
        options["seed"],
        options["folds"],
        dataset,
        os.path.join(os.path.dirname(output), ".folds"),
    )
    try:
        outcome = experiment.train(data, group, settings, progress=talk.epoch, say=talk.say)
    except KeyboardInterrupt:
        if settings.folds:
            say(f"the folds that are done are kept in {settings.done}; the same command goes on")
        raise
    talk.say(outcome.kept)
    talk.say("writing the 8-bit model, its card and its report")
    document = export.export(outcome, data, output, group=group, write_report=render)
    experiment.forget_folds(settings, data, group)
    return document


def _read(dataset: str, output: str, options: Mapping[str, Any]) -> tuple[Recipe, Dataset]:
    """Return the recipe and the photos, after all that can be refused early is refused."""
    from alpaca_labeler.training import description, provenance
    from alpaca_labeler.training.recipe import load

    recipe = load(options["recipe"])
    if recipe.reader == "keras" and (
        not os.path.isdir(dataset)
        or any(options[name] for name in ("corrections", "folds", "validation"))
    ):
        raise click.UsageError(
            f"the recipe {recipe.name} lets Keras read and split a folder: name one, without "
            "--corrections, --folds and --validation"
        )
    provenance.check_free(output)
    description.attribute(description.read(dataset, options["positive"]).labels[1])
    tables = _tables(dataset, options["corrections"])
    data = load_photos(
        dataset,
        recipe.input_size,
        positive=options["positive"],
        validation=options["validation"],
        max_pixels=options["max_pixels"],
    )
    if tables:
        data = _corrected(data, tables, options["photos_root"])
    return recipe, data


def _tables(dataset: str, given: Sequence[str]) -> list[str]:
    """Return the tables with decisions. Raises `TableError` if one does not exist."""
    from alpaca_labeler.table.table import open_table

    around = dataset, os.path.dirname(dataset.rstrip("/"))
    places = [MANIFEST, *(os.path.join(folder, MANIFEST) for folder in around)]
    found = next(filter(os.path.isfile, places), MANIFEST)
    tables = [found if table == MANIFEST else table for table in given]
    for table in tables:
        open_table(table)
    return tables


def _corrected(data: Dataset, tables: Sequence[str], photos_root: str | None) -> Dataset:
    from alpaca_labeler.training import relabel

    done = relabel.add(data, tables, photos_root=photos_root)
    for line in done.skipped:
        say(f"skipped {printable(line)}")
    say(
        f"people's decisions in {', '.join(map(printable, tables))}: {done.relabelled} photos "
        f"relabelled, {done.confirmed} confirmed, {done.added} added"
    )
    return done.data


def _name_contradictions(found: list[tuple[str, str]]) -> None:
    for first, second in found[:SHOWN_PROBLEMS]:
        warn(
            f"warning: {printable(first)} and {printable(second)} show the same picture, but are "
            "of different classes; delete the wrong one"
        )
    if len(found) > SHOWN_PROBLEMS:
        warn(f"... and {len(found) - SHOWN_PROBLEMS:,} more such pairs")


@click.command()
@click.argument("bundle", type=BUNDLE)
@measuring_options
def evaluate(bundle: str, dataset: str, *, max_pixels: int, as_json: bool) -> None:
    """Measure a model on photos whose classes are known.

    \b
    alpaca evaluate runs/better photos/
    alpaca evaluate embedded photos.toml
    alpaca evaluate s3://bucket/models/alpaca/latest.json photos/ --json

    DATASET is as for `alpaca train`. The model labels as it does in use.

    Photos that the model was trained on say little and are left out, as far as the bundle's
    photos.csv names them. If it names all, all count, and a warning says so.
    """
    from alpaca_labeler.training import compare, provenance, split

    model = provenance.load(bundle)
    card = model.bundle.card
    check_classes(dataset, bundle, card.labels)
    data = load_photos(dataset, card.input_size, positive=card.labels[1], max_pixels=max_pixels)
    group = split.groups(data)
    with Progress("labelling") as progress:
        answers = compare.answer(model, data, at=progress.at)
    if model.record is None:
        say("the bundle does not say what it was trained on: all photos count")
    _evaluate(card.version, data, answers, group, as_json=as_json)


def _evaluate(version: str, data: Dataset, answers: Answers, group: Any, *, as_json: bool) -> None:
    from alpaca_labeler.training import metrics

    unseen = ~answers.seen
    flattering = not unseen.any()
    if flattering:
        say(f"warning: all {len(unseen)} photos were trained on: these figures flatter the model")
    counted = unseen | flattering
    truth, predicted = data.truth()[counted], answers.predicted[counted]
    figures = metrics.figures(
        truth, answers.probabilities[counted], predicted, seed=SEED, groups=group[counted]
    )
    photos = [photo for photo, counts in zip(data.photos, counted, strict=True) if counts]
    reviewed = answers.review[counted]
    kinds = metrics.by_kind([photo.kind for photo in photos], truth, predicted, reviewed)
    confusion = metrics.confusion(truth, predicted)
    review = metrics.review(truth, predicted, reviewed)
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
            **{name: None if math.isnan(value) else value for name, value in review.items()},
            "kinds": kinds,
        }
        click.echo(json.dumps(result, indent=2))
        return
    note = f"; {left_out} that the model was trained on are left out" if left_out else ""
    print_figures(f"{len(photos)} photos{note}", figures, data.labels)
    print_table(data.labels, confusion, kinds, review)


def _check_tensorflow() -> None:
    if importlib.util.find_spec("tensorflow") is None:
        if sys.version_info >= (3, 14):  # the limit of the extra `train` in pyproject.toml
            version = ".".join(map(str, sys.version_info[:2]))
            raise click.ClickException(NO_TENSORFLOW_YET.format(version))
        raise click.ClickException(NEEDS_TENSORFLOW)


def _load_tensorflow() -> None:
    from alpaca_labeler.training.quiet import quiet

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        with quiet():
            import keras  # noqa: F401
            import tensorflow as tf  # noqa: F401
    except ImportError as error:
        raise click.ClickException(f"{NEEDS_TENSORFLOW} ({error})") from error


def _print_card(card: Mapping[str, Any]) -> None:
    from alpaca_labeler.training.metrics import FIGURES, Figure

    metrics, labels = card["metrics"], card["labels"]
    figures = {
        name: Figure(*(math.nan if end is None else end for end in metrics[name].values()))
        for name in FIGURES
        if metrics[name]
    }
    print_figures("out-of-fold" if card["training"]["folds"] else "held out", figures, labels)
    print_table(labels, metrics["confusion"], card["kinds"], metrics)
    low, high = card["review_band"]
    click.echo(f"threshold   {card['threshold']:.4f}, review from {low:.4f} to {high:.4f}")
    click.echo(
        f"8-bit       {metrics['int8_disagreement']:.2%} of labels differ from the network's"
    )
    for weakness in card["weaknesses"]:
        click.echo(f"beware      {printable(weakness)}")
    click.echo(f"version     {card['version']}")
    click.echo(f"seconds     {card['training']['seconds']}")

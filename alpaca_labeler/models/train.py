"""`alpaca train` and `alpaca evaluate`: what is asked and answered. The work is in `training`."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shlex
import sys
import time
from typing import TYPE_CHECKING

import click

from alpaca_labeler.console import SHOWN_PROBLEMS, Progress, printable, quiet_option, say, warn
from alpaca_labeler.console.arguments import (
    BUNDLE,
    FOLDER,
    NAME_OR_FILE,
    NEW_FOLDER,
    Place,
    photos_root_option,
)
from alpaca_labeler.errors import install
from alpaca_labeler.models.options import (
    dataset_argument,
    load_photos,
    load_photos_for,
    measuring_options,
)
from alpaca_labeler.models.talk import Talk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

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
    "--output",
    type=NEW_FOLDER,
    metavar="FOLDER",
    help="Folder for the model and its report. Default: runs/<time>.",
)
@click.option(
    "--positive",
    metavar="CLASS",
    help="The class to find; needed if there are three or more, as the others become one. Default: "
    "the one that the other negates ('not …'), else the last.",
)
@click.option(
    "--validation",
    type=FOLDER,
    metavar="FOLDER",
    help="Photos to judge by, in folders like DATASET's. Default: a fifth of DATASET.",
)
@click.option(
    "--corrections",
    multiple=True,
    type=TABLE,
    metavar="MANIFEST",
    is_flag=False,
    flag_value=MANIFEST,
    help="Learn from what people decided in `alpaca review`: a manifest, or the s3:// prefix of "
    "one. Without a name: manifest.jsonl here, or in or beside DATASET. Repeatable.",
)
@photos_root_option
@click.option(
    "--folds",
    default=0,
    type=click.IntRange(0, 100),
    metavar="N",
    help="Judge every photo by one of N more models that have not seen it.",
)
@click.option(
    "--recipe",
    default="default",
    show_default=True,
    type=NAME_OR_FILE,
    metavar="NAME",
    help="How to train: default, embedded (the built-in model's), course, or a file.",
)
@click.option(
    "--weights",
    default="imagenet",
    show_default=True,
    type=NAME_OR_FILE,
    metavar="NAME",
    help="Where the network starts: imagenet (downloaded once), a weights file, or none.",
)
@click.option(
    "--seed",
    default=SEED,
    show_default=True,
    type=click.IntRange(0, 2**32 - 1),
    metavar="N",
    help="The same seed, photos and recipe make the same model.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the card and where it is, as JSON.")
@quiet_option
def train(dataset: str, output: str | None, *, as_json: bool, **options: Any) -> None:
    """Train a model on two folders of photos.

    \b
    alpaca train photos/ --output runs/first   # photos/cat and photos/dog
    alpaca train animals/ --positive cat       # cat, against all other folders
    alpaca train photos/ --corrections         # with what people decided
    alpaca train photos/train --validation photos/valid
    alpaca train farm.toml --folds 5

    DATASET is a folder with one sub-folder of photos per class. 50 photos per class are worth a
    try, and take minutes. The model and a report of how good it is go to a folder of their own;
    `alpaca label --model` labels with it.

    DATASET can also be a TOML file that names several folders, their classes and kinds of photos,
    and which photos belong together.

    What a person decided of a photo wins over the folder it lies in. Ctrl-C ends training early
    and keeps the best model so far; with --folds it keeps nothing.
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
    )
    outcome = experiment.train(data, group, settings, progress=talk.epoch, say=talk.say)
    talk.say(outcome.kept)
    talk.say("writing the 8-bit model, its card and its report")
    return export.export(outcome, data, output, group=group, write_report=render)


def _read(dataset: str, output: str, options: Mapping[str, Any]) -> tuple[Recipe, Dataset]:
    """Return the recipe and the photos, after all that can be refused early is refused."""
    from alpaca_labeler.training import description, provenance, recipe

    chosen = recipe.load(options["recipe"])
    provenance.check_free(output)
    positive = options["positive"]
    description.attribute(description.read(dataset, positive).labels[1])
    tables = _tables(dataset, options["corrections"])
    data = load_photos(
        dataset, chosen.input_size, positive=positive, validation=options["validation"]
    )
    return chosen, _corrected(data, tables, options["photos_root"]) if tables else data


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

    corrected, counts = relabel.add(data, tables, photos_root=photos_root)
    for line in corrected.skipped[len(data.skipped) :]:
        say(f"skipped {printable(line)}")
    say(
        f"people's decisions in {', '.join(map(printable, tables))}: "
        f"{', '.join(f'{count} {what}' for what, count in counts.items())}"
    )
    return corrected


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
def evaluate(bundle: str, dataset: str, *, as_json: bool) -> None:
    """Measure a model on photos whose classes are known.

    \b
    alpaca evaluate runs/better photos/
    alpaca evaluate embedded farm.toml
    alpaca evaluate s3://bucket/models/alpaca/latest.json photos/ --json

    DATASET is as for `alpaca train`. The model labels as it does in use.

    Photos that the model was trained on, by the photos.csv in its bundle, count if its
    cross-validation judged them; otherwise they are left out. If that leaves none, all count, and a
    warning says so.
    """
    from alpaca_labeler.training import compare, metrics, provenance, split

    model = provenance.load(bundle)
    data = load_photos_for(model.bundle.card, dataset)
    group = split.groups(data)
    with Progress("labelling") as progress:
        judged, sound = compare.answer(model, data, at=progress.at)
    if model.record is None:
        say("the bundle does not say what it was trained on: all photos count")
    flattering = not sound.any()
    counted = sound | flattering
    photos, left_out = int(counted.sum()), int((~counted).sum())
    if flattering:
        say(f"warning: all {photos} photos were trained on: these figures flatter the model")
    kinds = [photo.kind for photo, counts in zip(data.photos, counted, strict=True) if counts]
    measured = metrics.measured(judged[counted], group[counted], kinds, seed=SEED)
    if as_json:
        about = {
            "version": model.bundle.card.version,
            "photos": photos,
            "left_out": left_out,
            "flattering": flattering,
            "skipped": data.skipped,
        }
        click.echo(json.dumps(about | measured, indent=2))
        return
    note = f"; {left_out} that the model was trained on are left out" if left_out else ""
    _print_measured(f"{photos} photos{note}", measured, data.labels)


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
    _print_measured(
        "out-of-fold" if card["training"]["folds"] else "held out", card, card["labels"]
    )
    low, high = card["review_band"]
    click.echo(f"threshold   {card['threshold']:.4f}, review from {low:.4f} to {high:.4f}")
    disagreement = card["metrics"]["int8_disagreement"]
    click.echo(f"8-bit       {100 * disagreement:.2f} % of labels differ from the network's")
    for weakness in card["weaknesses"]:
        click.echo(f"beware      {printable(weakness)}")
    click.echo(f"version     {card['version']}")
    click.echo(f"seconds     {card['training']['seconds']}")


def _print_measured(name: str, measured: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Print `metrics.measured`: the figures and what they mean, and what the photos were called."""
    from alpaca_labeler.training.metrics import MEANINGS

    metrics, kinds = measured["metrics"], measured["kinds"]
    click.echo(f"{name} (in brackets: the 95 % interval)")
    for key, meaning in MEANINGS.items():
        if figure := metrics[key]:
            text = f"{figure['value']:.3f}"
            if figure["low"] is not None:
                text += f" ({figure['low']:.3f} to {figure['high']:.3f})"
            click.echo(f"  {key.replace('_', ' '):18} {text:23}  {meaning.format(*labels)}")
    width = max(len(name) for name in [*labels, *kinds])
    for label, (negative, positive) in zip(labels, metrics["confusion"], strict=True):
        click.echo(f"{label:{width}}  {negative:5} called {labels[0]}, {positive:5} {labels[1]}")
    for kind, found in kinds.items():
        photos, right = found["photos"], found["right"]
        click.echo(
            f"  {kind:{width}}  {right:4} of {photos:4} right {100 * right / photos:5.1f} %"
            f"  for review {100 * found['needs_review'] / photos:3.0f} %"
        )
    caught = metrics["errors_in_review"]
    errors = "no errors" if caught is None else f"{100 * caught:.0f} % of the errors"
    click.echo(f"review      {100 * metrics['needs_review']:.1f} % of the photos, with {errors}")

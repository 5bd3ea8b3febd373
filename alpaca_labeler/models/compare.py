"""`alpaca compare`: two models side by side. The counting is done in `training.compare`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from alpaca_labeler.console import Progress, printable, say
from alpaca_labeler.console.arguments import BUNDLE
from alpaca_labeler.models.options import (
    MAX_PIXELS,
    check_classes,
    load_photos,
    measuring_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alpaca_labeler.training.compare import Comparison, Side
    from alpaca_labeler.training.dataset import Extra


@click.command()
@click.argument("old", type=BUNDLE)
@click.argument("new", type=BUNDLE)
@measuring_options
def compare(
    old: str,
    new: str,
    dataset: str,
    *,
    extras: tuple[Extra, ...],
    groups: tuple[str, ...],
    seed: int,
    max_pixels: int,
    as_json: bool,
) -> None:
    """Say which of two models is better.

    \b
    alpaca compare embedded runs/better photos/
    alpaca compare s3://bucket/models/alpaca/latest.json runs/better photos/
    alpaca compare embedded runs/better photos/ --json | jq -r .verdict

    DATASET is a folder with a sub-folder for each class.

    A bundle is a folder, an s3:// prefix or latest.json, or the word embedded. Both label the
    photos as they would in use. For photos that a model was trained on, its cross-validation
    counts if it has one; otherwise they are left out. photos.csv in the bundle says which.

    The verdict is better or worse if McNemar's exact test, two-sided, gives p < 0.05: two equal
    models would differ as much by chance less than once in 20 times. Otherwise it is undecided,
    and more photos may decide it. Do not compare on photos that were picked because OLD got them
    wrong: they favour NEW whatever it is worth.

    Exit code: 0 for any verdict, 1 if the models cannot be compared, 2 for wrong usage.
    """
    from alpaca_labeler.training.compare import document

    found = measure(
        old, new, dataset, extras=extras, groups=groups, seed=seed, max_pixels=max_pixels
    )
    if as_json:
        click.echo(json.dumps(document(found), indent=2))
        return
    for line in describe(found):
        click.echo(line)


def measure(
    old: str,
    new: str,
    dataset: str,
    *,
    extras: tuple[Extra, ...] = (),
    groups: tuple[str, ...] = (),
    seed: int = 42,
    max_pixels: int = MAX_PIXELS,
) -> Comparison:
    """Compare two bundles on a folder of photos; warn if the figures flatter them."""
    from alpaca_labeler.training import provenance
    from alpaca_labeler.training.compare import compare

    models = provenance.load(old), provenance.load(new)
    labels = models[0].bundle.card.labels
    check_classes(dataset, old, labels)
    with Progress("labelling") as progress:
        found = compare(
            *models,
            lambda size: load_photos(
                dataset, size, extras=extras, positive=labels[1], max_pixels=max_pixels
            ),
            groups=groups,
            seed=seed,
            at=progress.at,
        )
    if found.flattering:
        say(
            f"warning: none of the {len(found.photos)} photos is new to both models: these figures "
            "flatter them"
        )
    return found


def describe(found: Comparison) -> Iterator[str]:
    """Yield a comparison as lines of text; only long names make one wider than 80."""
    yield from _sides(found)
    yield ""
    yield f"{'':21}{'old':24}new"
    for name, before in found.old.figures.items():
        after = found.new.figures[name]
        if not math.isnan(before.value + after.value):
            yield f"{name.replace('_', ' '):21}{before!s:24}{after}"
    gain = found.difference
    yield (
        f"accuracy, new - old  {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}), "
        "photos in pairs"
    )
    yield ""
    yield f"{'':21}{'new right':>10}{'new wrong':>11}"
    yield f"{'old right':21}{found.both_right:10,}{len(found.only_old):11,}"
    yield f"{'old wrong':21}{len(found.only_new):10,}{found.both_wrong:11,}"
    yield ""
    yield from _kinds(found)
    for who, places in (("new", found.only_new), ("old", found.only_old)):
        if len(places):
            yield ""
            yield from _differing(found, who, places)
    yield ""
    yield f"McNemar's exact test, two-sided: p = {found.p_value:.3g}"
    yield f"verdict              {found.verdict}"


def _sides(found: Comparison) -> Iterator[str]:
    for name, side in (("old", found.old), ("new", found.new)):
        yield f"{name:21}{side.version}"
        yield f"{'':21}{_basis(side, len(found.photos))}"
    left_out = f", {found.left_out:,} left out that a model was trained on" * bool(found.left_out)
    yield f"{'photos':21}{len(found.photos):,}{left_out}"


def _basis(side: Side, count: int) -> str:
    if not side.recorded:
        return "does not say what it was trained on"
    answers = side.answers
    parts = {
        "new to it": int((~answers.seen).sum()),
        "answered by its cross-validation": int(answers.folds.sum()),
        "trained on": int((~answers.sound).sum()),
    }
    said = ", ".join(
        f"{'all' if number == count else format(number, ',')} {text}"
        for text, number in parts.items()
        if number
    )
    return f"photos: {said}"


def _kinds(found: Comparison) -> Iterator[str]:
    kinds = {printable(kind): counts for kind, counts in found.kinds().items()}
    width = max(19, *map(len, kinds))
    yield (
        f"{'kind':{width}}{'photos':>9}{'old right':>11}{'new right':>11}{'only old':>10}"
        f"{'only new':>10}"
    )
    for kind, counts in kinds.items():
        old, new = (counts[f"{side}_right"] / counts["photos"] for side in ("old", "new"))
        yield (
            f"{kind:{width}}{counts['photos']:9,}{old:11.1%}{new:11.1%}"
            f"{counts['only_old']:10,}{counts['only_new']:10,}"
        )


def _differing(found: Comparison, who: str, places: Any) -> Iterator[str]:
    labels = [printable(label) for label in found.labels]
    width = max(map(len, labels))
    yield f"only {who} is right: {len(places):,}, each with the probability of {labels[1]}"
    yield f"  {'old':8}{'new':8}{'truth':{width}}  photo"
    for place in places:
        old, new = (side.answers.probabilities[place] for side in (found.old, found.new))
        yield (
            f"  {old:.4f}  {new:.4f}  {labels[found.truth[place]]:{width}}  "
            f"{printable(found.photos[place].name)}"
        )

"""`alpaca compare`: two models side by side. The counting is done in `training.compare`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from alpaca_labeler.console import Progress, counted, printable, say
from alpaca_labeler.console.arguments import BUNDLE
from alpaca_labeler.models.options import load_photos_for, measuring_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


@click.command()
@click.argument("old", type=BUNDLE)
@click.argument("new", type=BUNDLE)
@measuring_options
def compare(old: str, new: str, dataset: str, *, as_json: bool) -> None:
    """Say which of two models is better.

    \b
    alpaca compare embedded runs/better photos/
    alpaca compare s3://bucket/models/alpaca/latest.json runs/better photos/
    alpaca compare embedded runs/better photos/ --json | jq -r .verdict

    DATASET is as for `alpaca train`.

    A bundle is a folder, an s3:// prefix or latest.json, or the word embedded. Both label the
    photos as they would in use. For photos that a model was trained on, its cross-validation
    counts if it has one; otherwise they are left out. photos.csv in the bundle says which.

    The verdict is better or worse if McNemar's exact test, two-sided, gives p < 0.05: two equal
    models would differ as much by chance less than once in 20 times. Otherwise it is undecided,
    and more photos may decide it. Do not compare on photos that were picked because OLD got them
    wrong: they favour NEW whatever it is worth.

    Exit code: 0 for any verdict, 1 if the models cannot be compared, 2 for wrong usage.
    """
    from alpaca_labeler.training import provenance
    from alpaca_labeler.training.compare import compare

    models = provenance.load(old), provenance.load(new)
    cards = [model.bundle.card for model in models]
    if cards[0].labels != cards[1].labels:
        raise click.ClickException(
            " and ".join(
                f"{card.version} tells {card.labels[0]!r} from {card.labels[1]!r}" for card in cards
            )
            + ": only models of the same classes, in the same order, can be compared"
        )
    data = load_photos_for(cards[0], dataset)
    with Progress("labelling") as progress:
        found = compare(*models, data, at=progress.at)
    for model in models:
        if model.record is None:
            version = model.bundle.card.version
            say(f"{version} does not say what it was trained on: all photos count as new to it")
    if found["flattering"]:
        say(
            f"warning: none of the {found['total']['photos']} photos is new to both models: these "
            "figures flatter them"
        )
    versions = {"old": cards[0].version, "new": cards[1].version}
    if as_json:
        click.echo(json.dumps(versions | found, indent=2))
        return
    for name, version in versions.items():
        click.echo(f"{name}  {version}")
    for line in _described(found):
        click.echo(line)


def _described(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a comparison as lines of text; only long names make one wider than 80."""
    if left_out := found["left_out"]:
        yield f"left out, because a model was trained on them: {counted(left_out, 'photo')}"
    yield ""
    rows = {printable(kind): counts for kind, counts in found["kinds"].items()}
    rows[""] = found["total"]
    width = max(19, *map(len, rows))
    yield f"{'':{width}}{'photos':>9}{'old right':>11}{'new right':>11}{'only old':>10}  only new"
    for kind, counts in rows.items():
        old, new = (counts[name] / counts["photos"] for name in ("old_right", "new_right"))
        yield (
            f"{kind or 'all':{width}}{counts['photos']:9,}{100 * old:9.1f} %{100 * new:9.1f} %"
            f"{counts['only_old']:10,}{counts['only_new']:10,}"
        )
    yield ""
    yield f"McNemar's exact test, two-sided: p = {found['p']:.3g}: {found['verdict']}"

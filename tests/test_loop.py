"""The whole loop: label, correct, train on it, compare, promote what is better, label again.

The first model calls every photo a cat. The photos to train on show red dogs and blue cats, those
that people really have show green dogs too.
"""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from alpaca_labeler.main import main
from alpaca_labeler.model import bundle
from alpaca_labeler.table.table import open_table
from tests.support import pets_photos
from tests.support.bundles import make
from tests.support.pets_photos import BLUE, CATS, DOGS, GREEN, RED, paint

pytestmark = [pytest.mark.filterwarnings(pets_photos.KERAS_SAVES), pytest.mark.slow]

STORE = "s3://models/pets"
IN_USE = f"{STORE}/latest.json"


def alpaca(*words, code=0):
    """Run `alpaca WORDS` and return what it did; a traceback is never an answer."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def label(*words):
    return json.loads(alpaca("label", *words, "--workers", 1, "--json").stdout)


def rows():
    """Source-ref: row of the table, in which decisions count at once."""
    return {row.source_ref: row for row in open_table("manifest.jsonl").rows()}


def class_of(name):
    return CATS if "blue" in name else DOGS


def correct():
    """Correct the labels that are wrong, as the review page does; return those photos' names."""
    wrong = [row for name, row in rows().items() if row.label != class_of(name)]
    now = datetime.now(UTC)
    said = [row.decided(class_of(row.source_ref), "ada", now) for row in wrong]
    open_table("manifest.jsonl").append(said)
    return {row.source_ref for row in wrong}


@pytest.fixture
def farm(tmp_path, monkeypatch):
    """Photos the model knows, photos of the field, and photos that nobody trains on or picks."""
    monkeypatch.chdir(tmp_path)
    for name, colour, count, first in (
        (f"known/{CATS}/blue", BLUE, 20, 0),
        (f"known/{DOGS}/red", RED, 8, 0),
        ("field/red", RED, 1, 100),
        ("field/green", GREEN, 7, 100),
        ("field/blue", BLUE, 4, 100),
        (f"proof/{DOGS}/green", GREEN, 24, 200),
        (f"proof/{CATS}/blue", BLUE, 6, 300),
    ):
        for number in range(count):
            path = tmp_path / f"{name} {number}.png"
            paint(path, dog=colour != BLUE, number=first + number, colour=colour)
    (tmp_path / "tiny.toml").write_text(pets_photos.TINY)
    return tmp_path


def test_what_people_correct_is_learnt_proven_and_rolled_out(farm, served):
    pytest.importorskip("tensorflow")
    from alpaca_labeler.training import dataset, recipe

    served.create_bucket(Bucket="models")
    tiny = recipe.load("tiny.toml")
    pets_photos.save_base(dataset.load("known", 32).pixels, tiny, farm / "base.weights.h5")
    make(farm / "runs/old", labels=(CATS, DOGS), attribute="dogs", calibration=(0.0, -9.0))
    old = bundle.load("runs/old").card.version
    alpaca("models", "publish", "runs/old", STORE)

    assert label("field", "--model", IN_USE)["labels"].keys() == {CATS, DOGS}
    wrong = correct()
    assert wrong == {name for name in rows() if class_of(name) == DOGS}

    words = ["--recipe", "tiny.toml", "--weights", "base.weights.h5", "--output", "runs/new"]
    alpaca("train", "known", *words, "--corrections")
    new = bundle.load("runs/new").card.version
    with open("runs/new/photos.csv", encoding="utf-8", newline="") as file:
        learnt = {line["file"]: line for line in csv.DictReader(file) if line["corrected"]}
    assert learnt.keys() == {f"corrected/{name}" for name in wrong}
    assert {line["label"] for line in learnt.values()} == {DOGS}

    found = json.loads(alpaca("compare", "runs/old", "runs/new", "proof", "--json").stdout)
    assert (found["verdict"], found["total"]["photos"]) == ("better", 30)

    alpaca("models", "publish", "runs/new", STORE, "--no-promote")
    assert bundle.load(IN_USE).card.version == old
    alpaca("models", "promote", STORE, new)
    assert bundle.load(IN_USE).card.version == new

    assert label("field", "--model", IN_USE)["unchanged"] == len(wrong)
    assert {row.model for name, row in rows().items() if name not in wrong} == {new}
    assert [name for name, row in rows().items() if row.label != class_of(name)] == []

    paint(farm / "field" / "green late.png", dog=True, number=400, colour=GREEN)
    report = label("field", "--model", IN_USE)
    assert report["unchanged"] == 12
    assert sum(report["new"].values()) == 1

"""One table, one question: a second model never replaces the first one's labels silently."""

from __future__ import annotations

import json

import pytest

from alpaca_labeler.model import bundle
from tests.support import bundles


@pytest.fixture
def goats(tmp_path):
    labels = ("sheep", "goat")
    return bundles.make(tmp_path / "goats", labels=labels, attribute="goat", calibration=(0.0, 9.0))


@pytest.fixture
def retrained(tmp_path):
    return bundles.make(tmp_path / "retrained", calibration=(0.0, -9.0))


def rows(folder, name="manifest.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def models(folder):
    return {row["labeler"]["answer"]["model"] for row in rows(folder)}


def test_a_model_with_other_classes_is_refused_before_anything_is_written(folder, run, goats):
    run("photos")
    before = rows(folder)
    said = run("photos", "--model", goats, code=1).output
    assert "manifest.jsonl answers another question: it holds alpaca, not alpaca" in said
    assert "this model says goat or sheep" in said
    assert "--manifest goat.jsonl" in said
    assert rows(folder) == before
    run("photos", "--model", goats, "--dry-run", code=1)
    run("photos", "--model", goats, "--manifest", "goat.jsonl")
    assert len(rows(folder, "goat.jsonl")) == 3
    assert rows(folder) == before


def test_the_built_in_model_never_replaces_one_that_was_chosen_by_hand(folder, run, retrained):
    run("photos", "--model", retrained)
    before = rows(folder)
    [version] = models(folder)
    said = run("photos", code=1).output
    assert f"was labelled by another model, {version}" in said
    assert rows(folder) == before
    run("photos", "--model", retrained)
    assert models(folder) == {version}


def test_a_model_that_is_named_labels_again(folder, run, retrained):
    run("photos")
    run("photos", "--model", retrained)
    assert bundle.load().card.version not in models(folder)
    run("photos", "--model", "embedded")
    assert models(folder) == {bundle.load().card.version}


def test_a_model_in_the_environment_was_chosen(folder, run, retrained, monkeypatch):
    monkeypatch.setenv("ALPACA_LABEL_MODEL", retrained)
    run("photos")
    run("photos")
    assert bundle.load().card.version not in models(folder)

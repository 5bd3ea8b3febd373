"""A bundle is whole and unchanged, or it is refused by name."""

from __future__ import annotations

import json
import math

import pytest

from alpaca_labeler.model import bundle
from alpaca_labeler.model.bundle import BundleError
from tests.support.bundles import MODEL, document, write

DIGEST = document()["version"].split("-")[1]


def test_a_whole_bundle_is_loaded_by_folder_or_card(tmp_path, monkeypatch):
    folder = write(tmp_path / "model", note="for people")
    made = bundle.load(folder)
    assert made.model == MODEL
    assert made.document["note"] == "for people"
    assert bundle.load(f"{folder}/") == bundle.load(f"{folder}/model.json") == made
    monkeypatch.chdir(folder)
    assert bundle.load("model.json") == made


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        *({"labels": labels} for labels in (["one"], "ab", ["", "alpaca"], ["a", "a"])),
        {"labels": ["a" * 256, "alpaca"]},
        *({"threshold": threshold} for threshold in (1.5, math.nan, None)),
        *({"review_band": band} for band in ([0.8, 0.2], [-0.1, 0.2])),
        *({"input_size": size} for size in (0, 100_000, math.inf)),
        *({"calibration": [scale, 0]} for scale in (math.nan, math.inf)),
        *({"attribute": name} for name in "al/paca source-ref failure labeler a-metadata".split()),
        *({"preprocessing": "another"}, {"sha256": "0" * 64}),
        {"version": "20260101T000000Z-000000000000"},
        *({"version": f"{start}-{DIGEST}"} for start in ("\x1b[2J", "../up")),
    ],
    ids=str,
)
def test_a_wrong_card_is_refused_and_named(tmp_path, changes):
    folder = write(tmp_path / "my-model", **changes)
    with pytest.raises(BundleError, match="my-model"):
        bundle.load(folder)


CHANGED = {"threshold": 0.4, "review_band": [0.1, 0.8], "labels": ["alpaca", "not alpaca"]}
CHANGED |= {"calibration": [2.0, 0.0], "input_size": 224}


@pytest.mark.parametrize("name", CHANGED)
def test_a_card_changed_by_hand_is_refused(tmp_path, name):
    folder = write(tmp_path / "my-model")
    changed = document() | {name: CHANGED[name]}
    (tmp_path / "my-model/model.json").write_text(json.dumps(changed))
    with pytest.raises(BundleError, match=r"my-model.*was changed after"):
        bundle.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "[" * 100_000, "\xff", None])
@pytest.mark.parametrize("name", ["model.json", "model.tflite"])
def test_a_file_that_is_missing_or_another_is_refused_and_named(tmp_path, name, text):
    folder = write(tmp_path / "my-model")
    path = tmp_path / "my-model" / name
    path.unlink() if text is None else path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BundleError, match="my-model"):
        bundle.load(folder)


def test_a_model_of_another_content_is_refused(tmp_path):
    folder = write(tmp_path / "my-model")
    (tmp_path / "my-model/model.tflite").write_bytes(b"another")
    with pytest.raises(BundleError, match=r"my-model/model\.tflite: its sha256"):
        bundle.load(folder)


def point(folder, content):
    (folder / "latest.json").write_text(content)
    return str(folder / "latest.json")


def test_a_pointer_leads_to_its_neighbour(tmp_path, monkeypatch, aws):
    version = document()["version"]
    whole = bundle.load(write(tmp_path / version))
    pointer = point(tmp_path, json.dumps({"version": version}))
    assert bundle.load(pointer) == whole
    monkeypatch.chdir(tmp_path)
    assert bundle.load("latest.json") == whole
    aws.create_bucket(Bucket="models")
    for name in ("latest.json", f"{version}/model.json", f"{version}/model.tflite"):
        aws.upload_file(name, "models", f"a/{name}")
    assert bundle.load("s3://models/a/latest.json") == whole


VERSIONS = ("../a-0", "/etc/a-0", "a-0/../..", "s3://b/a-0", "", 7, "a-0\n")
POINTERS = [(json.dumps({"version": one}), ".*not a model version") for one in VERSIONS]
POINTERS += [(text, ": not a model pointer") for text in ("", "[]", "{}", "null", "[" * 100_000)]


@pytest.mark.parametrize(("content", "why"), POINTERS)
def test_a_pointer_leads_nowhere_else(tmp_path, content, why):
    with pytest.raises(BundleError, match=rf"latest\.json{why}"):
        bundle.load(point(tmp_path, content))


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "/none", "none.json", ""])
def test_a_uri_that_leads_to_nothing_is_refused(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError):
        bundle.load(uri)


def test_the_embedded_bundle_is_whole_and_small():
    made = bundle.load()
    assert made.card.labels == ("not alpaca", "alpaca")
    assert len(made.model) <= 4 * 2**20

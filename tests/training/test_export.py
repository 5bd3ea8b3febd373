import json
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from ai_edge_litert.interpreter import Interpreter
from click.testing import CliRunner

from alpaca_labeler.main import main
from alpaca_labeler.model import bundle
from alpaca_labeler.model.classifier import Classifier
from alpaca_labeler.report.model_page import render
from alpaca_labeler.training import description, export
from alpaca_labeler.training.description import DatasetError
from alpaca_labeler.training.keras import convert, fit


@pytest.fixture(scope="module")
def outcome(trained):
    return trained.outcome


@pytest.fixture(scope="module")
def folder(trained):
    return trained.folder


def write(outcome, data, folder):
    """Export with every photo in a group of its own."""
    group = np.arange(len(data.photos))
    return export.export(outcome, data, str(folder), group=group, write_report=render)


@pytest.fixture
def converted(folder, monkeypatch):
    """The 8-bit model is at hand: nothing needs to be converted again."""
    model = (folder / "model.tflite").read_bytes()
    monkeypatch.setattr(convert, "to_litert", lambda *_: model)


@pytest.fixture
def contrary(outcome, data, monkeypatch):
    """A serving model that differs from the network on every photo that it was trained on."""
    exact = fit.logits(outcome.fit.network, data, np.arange(len(data.photos)))
    says = outcome.decision.probabilities(exact) >= outcome.decision.threshold
    says[outcome.trained_on] = ~says[outcome.trained_on]
    answers = iter([SimpleNamespace(index=int(label)) for label in says])
    contrary = SimpleNamespace(predict=lambda _pixels: next(answers))
    monkeypatch.setattr(export, "Classifier", lambda _bundle: contrary)


def test_a_bundle_is_of_eight_bits_and_labels_as_its_network_does(folder, outcome, data):
    made = bundle.load(str(folder))
    [given] = Interpreter(model_content=made.model).get_input_details()
    assert given["dtype"] == np.uint8
    assert given["quantization"][0] == pytest.approx(1 / 127.5, rel=1e-3)
    classifier = Classifier(made)
    served = np.array([classifier.logit(pixels) for pixels in data.pixels])
    exact = fit.logits(outcome.fit.network, data, np.arange(len(data.photos)))
    assert np.ptp(exact) > 0.5
    assert np.abs(served - exact).max() < 0.2 * np.ptp(exact)
    assert made.card.labels == ("cat photos", "dogs")
    assert made.card.attribute == "dogs"


def test_the_folder_holds_all_there_is_and_the_card_tells_the_whole_story(folder, data):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    report_and_record = {"report.html", "photos.csv"}
    assert names == {"keras/model.keras", "model.json", "model.tflite", *report_and_record}
    assert [path.name for path in folder.parent.iterdir()] == ["first"]
    document = json.loads((folder / "model.json").read_text())
    assert document["dataset"]["fingerprint"] == data.fingerprint()
    assert len(document["dataset"]["skipped"]) == 1
    assert document["weaknesses"][0] == "hedgehogs"
    assert document["licence"] == {"model": "MIT"}
    assert document["training"]["recipe"]["name"] == "small"
    assert set(document["metrics"]["accuracy"]) == {"value", "low", "high"}
    assert document["version"].startswith(document["created"].translate({45: None, 58: None}))


@pytest.mark.usefixtures("converted", "contrary")
def test_a_model_that_quantises_badly_is_written_and_says_so(outcome, data, tmp_path):
    assert len(outcome.judged_on) == 4  # photos that were trained on count too
    of_two_sources = replace(data, groups={"sources.csv": {}})
    made = write(outcome, of_two_sources, tmp_path / "bad")
    assert made["metrics"]["int8_disagreement"] == 0.8
    [weakness] = made["weaknesses"]  # not that the sources are the same
    assert "8-bit arithmetic changes 80.0 % of the labels" in weakness
    assert bundle.load(str(tmp_path / "bad"))


@pytest.mark.usefixtures("converted")
def test_a_run_that_dies_while_writing_leaves_nothing(outcome, data, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_report", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(outcome, data, tmp_path / "half")
    assert not list(tmp_path.iterdir())


def test_a_class_name_becomes_an_attribute_unless_rows_need_it_themselves():
    names = {"alpaca": "alpaca", "Cat photos!": "cat-photos", "Vicuña": "vicuna", "羊": "label"}
    assert {label: description.attribute(label) for label in names} == names
    for label in ("failure", "Source ref", "labeler", "dog metadata"):
        with pytest.raises(DatasetError, match="--positive"):
            description.attribute(label)


def test_training_says_what_it_does_first_and_what_to_do_next_last(trained):
    said, printed = trained.result.stderr, trained.result.stdout
    assert said.startswith("reading the photos in ")
    for line in ("skipped dogs/broken.png", "fine-tuning   2/2   loss", " left", "kept: "):
        assert line in said
    [*_, last] = said.splitlines()
    assert last == f"Next: alpaca label PHOTOS --model {trained.folder} --manifest dogs.jsonl"
    assert "of all photos are labelled right" in printed
    assert "photos from elsewhere will do worse" in printed
    assert f"report      {trained.folder}/report.html\nbundle      {trained.folder}\n" in printed


def test_evaluating_counts_the_photos_that_were_held_out(trained, pets):
    words = ["evaluate", str(trained.folder), str(pets)]
    result = CliRunner().invoke(main, [*words, "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["photos"], answer["left_out"]) == (len(trained.outcome.judged_on), 16) == (4, 16)
    card = json.loads((trained.folder / "model.json").read_text())
    assert answer["metrics"]["accuracy"] == card["metrics"]["accuracy"]
    assert "accuracy" in CliRunner().invoke(main, words).stdout

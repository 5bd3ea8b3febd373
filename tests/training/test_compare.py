"""Two models side by side: what is counted, what is left out, and what may be concluded."""

import json
import math
from itertools import product

import pytest
from click.testing import CliRunner

from alpaca_labeler.main import main
from alpaca_labeler.models.compare import compare as command
from alpaca_labeler.models.train import evaluate as evaluate_command
from alpaca_labeler.training import compare, dataset, provenance
from alpaca_labeler.training.compare import mcnemar
from tests.support.bundles import make
from tests.support.pets_photos import paint

ALWAYS, NEVER = (0.0, 9.0), (0.0, -9.0)
"""Calibrations that make every photo an alpaca, or none."""


@pytest.fixture(scope="session")
def farm(tmp_path_factory):
    """Nine photos called alpaca and one called not alpaca; all are of neither."""
    folder = tmp_path_factory.mktemp("farm")
    for number in range(9):
        paint(folder / "alpaca" / f"{number}.png", dog=False, number=number)
    paint(folder / "not alpaca" / "0.png", dog=True, number=0)
    return folder


@pytest.fixture(scope="session")
def sha256(farm):
    """Name of a photo: its sha256."""
    return {photo.name: photo.sha256 for photo in dataset.load(str(farm), 32).photos}


@pytest.fixture
def always(tmp_path):
    return make(tmp_path / "always", calibration=ALWAYS)


@pytest.fixture
def never(tmp_path):
    return make(tmp_path / "never", day=2, calibration=NEVER)


def call(*arguments, what=command):
    return CliRunner().invoke(main, [what.name, *map(str, arguments)])


def answer(*arguments, what=command):
    result = call(*arguments, "--json", what=what)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_mcnemar_is_the_two_sided_binomial_test_of_one_half():
    for old, new in product(range(9), repeat=2):
        likely = {k: math.comb(old + new, k) / 2 ** (old + new) for k in range(old + new + 1)}
        uneven = sum(chance for chance in likely.values() if chance <= likely[old])
        assert mcnemar(old, new) == pytest.approx(uneven), (old, new)
    assert mcnemar(0, 1000) == 2.0**-999
    assert mcnemar(10_000, 10_000) == 1


@pytest.mark.slow
def test_two_models_are_counted_in_pairs_and_the_test_and_the_direction_decide(always, never, farm):
    found = answer(never, always, farm)
    assert (found["verdict"], found["p"]) == ("better", mcnemar(1, 9))
    total = {"photos": 10, "old_right": 1, "new_right": 9, "only_old": 1, "only_new": 9}
    alpacas = {"photos": 9, "old_right": 0, "new_right": 9, "only_old": 0, "only_new": 9}
    assert found["total"] == total
    assert found["kinds"]["alpaca"] == alpacas
    assert found["kinds"]["not alpaca"]["only_old"] == 1
    result = call(always, never, farm)
    assert result.exit_code == 0
    assert result.stdout.endswith("two-sided: p = 0.0215: worse\n")
    same = answer(always, always, farm)
    assert (same["verdict"], same["p"]) == ("undecided", 1)


def test_each_model_sees_the_photos_at_its_own_size(farm, monkeypatch, tmp_path):
    class Sized:
        def __init__(self, made):
            self.size = made.card.input_size

        def predict(self, pixels):
            assert pixels.shape == (self.size, self.size, 3)
            return type("Prediction", (), {"probability": 0.5})

    monkeypatch.setattr(compare, "Classifier", Sized)
    small = make(tmp_path / "small", day=3, input_size=32)
    found = answer("embedded", small, farm)["total"]
    assert (found["old_right"], found["new_right"], found["only_new"]) == (9, 9, 0)


def test_models_and_photos_of_other_classes_are_refused(always, never, farm, pets, tmp_path):
    models, photos = "only models of the same classes, in the same order", "'cat photos' and 'dogs'"
    for day, labels in enumerate([("cat", "dog"), ("alpaca", "not alpaca")], start=3):
        other = make(tmp_path / str(day), day=day, labels=labels)
        refused(models, call(always, other, farm))
    refused(f"its classes are {photos}", call(always, never, pets))
    refused(f"its classes are {photos}", call(always, pets, what=evaluate_command))


def refused(says, result):
    assert result.exit_code == 1
    assert says in result.stderr


@pytest.mark.slow
def test_photos_trained_on_are_left_out_unless_cross_validation_answers_for_them(
    never, farm, sha256, tmp_path
):
    uses = {"0": ("trained", ""), "1": ("held out", "0.9"), "2": ("trained", "0.2")}
    known = {sha256[f"alpaca/{name}.png"]: use for name, use in uses.items()}
    new = make(tmp_path / "new", calibration=ALWAYS, record=known)
    found = answer(never, new, farm)
    assert (found["total"]["photos"], found["left_out"], found["flattering"]) == (9, 1, False)
    assert found["total"]["only_new"] == 7  # cross-validation has called one no alpaca
    assert (found["verdict"], found["p"]) == ("undecided", mcnemar(1, 7))
    result = call(never, new, farm)
    assert f"{found['old']} does not say what it was trained on" in result.stderr
    assert "left out, because a model was trained on them: 1 photo" in result.stdout


def test_if_all_photos_were_trained_on_all_count_with_a_warning(always, farm, sha256, tmp_path):
    known = dict.fromkeys(sha256.values(), ("trained", ""))
    new = make(tmp_path / "new", calibration=ALWAYS, record=known)
    result = call(always, new, farm)
    assert "none of the 10 photos is new to both models" in result.stderr
    result = call(new, farm, "--json", what=evaluate_command)
    assert "warning: all 10 photos were trained on: these figures flatter" in result.stderr
    assert json.loads(result.stdout)["flattering"]
    assert "does not say what it was trained on" in call(always, farm, what=evaluate_command).stderr


def test_evaluation_counts_what_no_model_was_trained_on(farm, sha256, tmp_path):
    # The second was answered for by cross-validation.
    known = {sha256["alpaca/0.png"]: ("trained", ""), sha256["alpaca/1.png"]: ("trained", "0.1")}
    new = make(tmp_path / "new", calibration=ALWAYS, record=known)
    found = answer(new, farm, what=evaluate_command)
    assert (found["photos"], found["left_out"], found["flattering"]) == (9, 1, False)
    assert found["metrics"]["confusion"] == [[0, 1], [1, 7]]
    text = call(new, farm, what=evaluate_command)
    assert "9 photos; 1 that the model was trained on are left out" in text.stdout
    assert "does not say" not in text.stderr


def test_the_text_fits_a_terminal_and_controls_none(always, never, farm, tmp_path):
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "alpaca").symlink_to(farm / "alpaca")
    hostile = tmp_path / "strange" / "not alpaca" / "kind \x1b[2J of \u202ebeast"
    paint(hostile / "\x1b[31mred\n.png", dog=True, number=50)
    result = call(always, never, tmp_path / "strange")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if "beast" not in line]
    assert len(lines) < len(result.stdout.splitlines())
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output


def test_answers_are_those_of_the_labeler(farm):
    from alpaca_labeler.pipeline.labeler import Labeler

    model = provenance.load("embedded")
    data = dataset.load(str(farm), model.bundle.card.input_size)
    said, sound = compare.answer(model, data)
    labeler = Labeler()
    for place, photo in enumerate(data.photos):
        prediction = labeler.predict(photo.path)
        assert said.probabilities[place] == prediction.probability
        assert said.predicted[place] == prediction.index
        assert said.reviewed[place] == prediction.needs_review
    assert sound.all()

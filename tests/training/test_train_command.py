import builtins
import json
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from alpaca_labeler.handler.labeler import Labeler
from alpaca_labeler.main import main
from alpaca_labeler.models.train import NEEDS_TENSORFLOW, NO_TENSORFLOW_YET, evaluate, train
from alpaca_labeler.training import dataset


def call(command, *arguments):
    return CliRunner().invoke(main, [command.name, *map(str, arguments)])


def test_training_shows_its_progress_and_its_figures(trained):
    result = trained.result
    assert "fine-tuning   2/2   loss" in result.stderr
    assert "skipped dogs/broken.png" in result.stderr
    assert max(map(len, result.stderr.splitlines())) <= 80
    assert " left" in result.stderr
    assert "accuracy" in result.stdout
    assert f"bundle      {trained.folder}" in result.stdout


def test_evaluating_counts_the_photos_that_were_held_out(trained, pets):
    result = call(evaluate, trained.folder, pets, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["photos"] == len(trained.outcome.judged.indices) == 4
    assert answer["left_out"] == 16
    assert sum(map(sum, answer["confusion"])) == 4
    assert "accuracy" in call(evaluate, trained.folder, pets).stdout


def test_evaluating_measures_a_bundle_without_a_record_on_all_photos(trained, pets, tmp_path):
    for name in ("model.tflite", "model.json"):
        shutil.copy(trained.folder / name, tmp_path)
    answer = json.loads(call(evaluate, tmp_path, pets, "--json").stdout)
    assert answer["photos"] == 20
    served = Labeler(str(tmp_path))
    right = sum(
        served.predict(photo.path).index == photo.label
        for photo in dataset.load(str(pets), 32).photos
    )
    assert answer["confusion"][0][0] + answer["confusion"][1][1] == right


def test_evaluating_on_other_classes_is_refused(trained, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    result = call(evaluate, trained.folder, tmp_path)
    assert result.exit_code == 1
    assert "Error:" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_a_wrong_argument_is_one_line_of_error(pets, tmp_path):
    pytest.importorskip("tensorflow")
    for arguments, complaint in (
        ([pets, "--recipe", "curse"], "no such recipe"),
        ([pets / "dogs"], "exactly two sub-folders, one per class; found none"),
        ([pets, "--positive", "bird"], "--positive bird"),
        ([pets / "cat photos" / "00.png"], "not the description of a data set"),
        ([pets, "--output", pets], "choose another --output"),
    ):
        result = call(train, *arguments)
        assert result.exit_code == 1, complaint
        assert complaint in result.stderr
    for usage in (
        [pets, "--folds", 1],
        [pets, "--folds", 2, "--validation", pets],
        [pets, "--recipe", "course", "--folds", 2],
    ):
        assert call(train, *usage).exit_code == 2
    assert call(train, pets, "--photos-root", tmp_path).exit_code == 2
    result = call(train, pets, "--corrections", tmp_path / "none.jsonl")
    assert result.exit_code == 2
    assert "none.jsonl" in result.stderr


@pytest.mark.slow
def test_a_class_that_cannot_be_an_attribute_is_refused_before_training(pets, tmp_path):
    pytest.importorskip("tensorflow")
    shutil.copytree(pets / "dogs", tmp_path / "photos" / "failure")
    shutil.copytree(pets / "dogs", tmp_path / "photos" / "a success")
    result = call(train, tmp_path / "photos", "--positive", "failure", "--folds", 9)
    assert result.exit_code == 1
    assert "'failure' cannot be the one to find" in result.stderr
    assert "photos of" not in result.stderr


@pytest.mark.parametrize(
    ("python", "remedy"),
    [((3, 13, 1), NEEDS_TENSORFLOW), ((3, 14, 0), NO_TENSORFLOW_YET.format("3.14"))],
)
def test_without_tensorflow_training_says_what_to_install(pets, monkeypatch, python, remedy):
    real = builtins.__import__

    def no_tensorflow(name, *rest):
        if name in {"keras", "tensorflow"}:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_tensorflow)
    monkeypatch.setattr(sys, "version_info", python)
    result = call(train, pets)
    assert result.exit_code == 1
    assert remedy in result.stderr


def test_help_and_evaluation_need_no_tensorflow():
    code = (
        "import sys; from alpaca_labeler.models.train import train, evaluate;"
        "import alpaca_labeler.training.metrics, alpaca_labeler.training.relabel;"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from alpaca_labeler.main import main
from alpaca_labeler.models import talk
from alpaca_labeler.models.train import NEEDS_TENSORFLOW, NO_TENSORFLOW_YET, train

MODULE = importlib.import_module(train.callback.__module__)


def call(command, *arguments):
    return CliRunner().invoke(main, [command.name, *map(str, arguments)])


def test_a_wrong_argument_is_one_line_of_error(pets, tmp_path):
    for arguments, complaint in (
        ([pets, "--recipe", "curse"], "no such recipe; choose one of course, default, embedded"),
        ([pets / "dogs"], "there is no class in it"),
        ([pets, "--positive", "bird"], "there is no class 'bird' in it"),
        ([pets / "cat photos" / "00.png"], "not the description of a data set"),
        ([pets, "--output", pets], "not an empty folder; choose another --output"),
        ([pets, "--output", pets / "dogs/00.png/m"], "00.png cannot be written to; choose another"),
        ([pets, "--corrections", tmp_path / "none.jsonl"], "none.jsonl: there is no such file"),
    ):
        result = call(train, *arguments)
        assert result.exit_code == 1, complaint
        assert complaint in result.stderr
    for usage in (
        ["--folds", 1],
        ["--folds", 2, "--validation", pets],
        ["--photos-root", tmp_path],
    ):
        assert call(train, pets, *usage).exit_code == 2


@pytest.mark.parametrize("place", [".", "photos/pets", "photos"])
def test_the_manifest_is_found_by_itself(pets, tmp_path, monkeypatch, place):
    """Here, in the data set, or beside it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pets, "photos/pets")
    Path(place, "manifest.jsonl").write_bytes(b"")
    found = str(Path(place, "manifest.jsonl"))
    for words in (["--corrections"], ["--corrections", found]):
        result = call(train, "photos/pets/", *words)
        assert f"Error: {found}: no person has decided anything" in result.stderr


def test_json_is_the_card_and_where_it_is(pets, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "_train", lambda *_: {"version": "1"})
    found = json.loads(call(train, pets, "--output", tmp_path, "--json").stdout)
    report = str(tmp_path / "report.html")
    assert found == {"bundle": str(tmp_path), "report": report, "card": {"version": "1"}}


def test_nothing_is_silent_for_long(monkeypatch, capfd):
    monkeypatch.setattr(talk, "SILENCE", 0)
    with talk.Talk() as says:
        says.say("at work")
        time.sleep(1.5)
    assert re.fullmatch(r"at work\n(\.\.\. \d s so far\n)+", capfd.readouterr().err)


def test_what_is_wrong_with_the_photos_is_said_before_training(pets, tmp_path, monkeypatch):
    """One picture in both classes, exactly or nearly; a class that rows cannot be named after."""
    shutil.copytree(pets, tmp_path / "photos")
    shutil.copy(pets / "cat photos" / "00.png", tmp_path / "photos" / "dogs" / "copy.png")
    with Image.open(pets / "cat photos" / "01.png") as photo:
        photo.convert("RGB").save(tmp_path / "photos" / "dogs" / "scan.jpg", quality=60)
    shutil.copy(pets / "dogs" / "02.png", tmp_path / "photos" / "dogs" / "same.png")
    monkeypatch.setattr(MODULE, "_load_tensorflow", lambda: sys.exit(3))
    result = call(train, tmp_path / "photos")
    assert result.exit_code == 3
    for first, second in (("00.png", "copy.png"), ("01.png", "scan.jpg")):
        same = f"cat photos/{first} and dogs/{second} show the same picture"
        assert f"warning: {same}, but are of different classes" in result.stderr
    assert result.stderr.count("warning") == 2
    (tmp_path / "photos" / "dogs").rename(tmp_path / "photos" / "failure")
    result = call(train, tmp_path / "photos", "--positive", "failure", "--folds", 9)
    assert result.exit_code == 1
    assert "'failure' cannot be the one to find" in result.stderr
    assert "TensorFlow" not in result.stderr


@pytest.mark.parametrize(
    ("python", "remedy"),
    [((3, 13, 1), NEEDS_TENSORFLOW), ((3, 14, 0), NO_TENSORFLOW_YET.format("3.14"))],
)
def test_without_tensorflow_training_says_what_to_install(pets, monkeypatch, python, remedy):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "version_info", python)
    result = call(train, pets)
    assert result.exit_code == 1
    assert remedy in result.stderr


def test_help_evaluation_and_comparison_need_no_tensorflow():
    code = (
        "import sys; import alpaca_labeler.models.train, alpaca_labeler.models.compare;"
        "from alpaca_labeler.training import compare, metrics, provenance, relabel;"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

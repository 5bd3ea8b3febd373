"""One table, one question: a second model never replaces the first one's labels silently."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from alpaca_labeler.main import main
from alpaca_labeler.model import bundle
from alpaca_labeler.table.table import open_table
from tests.support import bundles
from tests.support.rows import decide
from tests.support.runs import rows

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def goats(tmp_path):
    labels = ("sheep", "goat")
    return bundles.make(tmp_path / "goats", labels=labels, attribute="goat", calibration=(0.0, 9.0))


@pytest.fixture
def retrained(tmp_path):
    return bundles.make(tmp_path / "retrained", calibration=(0.0, -9.0))


@pytest.fixture
def alpaca(folder, monkeypatch):
    """Run `alpaca WORDS` in the folder, and return its output as one line."""
    monkeypatch.chdir(folder)

    def run(words, code=0):
        done = CliRunner().invoke(main, shlex.split(words))
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    return run


def models(name="manifest.jsonl"):
    return {row["labeler"]["answer"]["model"] for row in rows(name).values()}


def version(folder=bundle.EMBEDDED):
    return bundle.load(str(folder)).card.version


def test_a_model_with_other_classes_is_refused_before_anything_is_written(alpaca, goats):
    alpaca("label photos")
    before = rows("manifest.jsonl")
    for more in ("", " --dry-run"):
        said = alpaca(f"label photos --model {goats}{more}", code=1)
        assert "manifest.jsonl answers another question: it holds alpaca, not alpaca" in said
        assert "this model says goat or sheep" in said
        assert "--manifest goat.jsonl" in said
    alpaca(f"label photos --model {goats} --manifest goat.jsonl")
    assert len(rows("goat.jsonl")) == 3
    assert rows("manifest.jsonl") == before


def test_a_run_without_a_model_never_replaces_rows_of_one_that_was_chosen_by_hand(
    alpaca, retrained, goats
):
    for chosen in (retrained, goats):
        name = f"{Path(chosen).name}.jsonl"
        alpaca(f"label photos --model {chosen} --manifest {name}")
        before = rows(name)
        said = alpaca(f"label photos --manifest {name}", code=1)
        assert f"was labelled by another model, {version(chosen)}. Go on with it by --model" in said
        assert "in alpaca.toml beside the manifest; --model embedded labels again" in said
        assert rows(name) == before
    unnamed = json.loads(Path("retrained.jsonl").read_text().splitlines()[0])
    for names, known in (([""], "model, unknown"), (map(str, range(999)), ", and more")):
        lines = []
        for number, unnamed["labeler"]["answer"]["model"] in enumerate(names):
            lines.append(json.dumps(unnamed | {"source-ref": str(number)}) + "\n")
        Path("theirs.jsonl").write_text("".join(lines))
        said = alpaca("label photos --manifest theirs.jsonl", code=1)
        assert f"{known}. Go on with it by" in said
    alpaca("label photos --manifest retrained.jsonl --model embedded")
    assert models("retrained.jsonl") == {version()}


def test_it_goes_on_with_the_model_that_alpaca_toml_beside_the_manifest_names(
    folder, alpaca, retrained
):
    alpaca(f"label photos/cat.png --model {retrained} --manifest out/m.jsonl")
    for model in ("retrained", retrained):
        (folder / "out/alpaca.toml").write_text(f'[label]\nmodel = "{model}"\n')
        alpaca("label photos --manifest out/m.jsonl")
        assert len(rows("out/m.jsonl")) == 3
        assert models("out/m.jsonl") == {version(retrained)}


def test_only_the_command_line_replaces_rows_of_another_model(
    folder, alpaca, retrained, monkeypatch
):
    alpaca("label photos")
    table = open_table("manifest.jsonl")
    decide("manifest.jsonl", "photos/cat.png", "alpaca")
    before = [*table.rows()]
    (folder / "alpaca.toml").write_text('[label]\nmodel = "retrained"\n')
    for environment in ("", retrained):
        monkeypatch.setenv("ALPACA_LABEL_MODEL", environment)
        assert "retrained labels again with this one" in alpaca("label photos", code=1)
    assert [*table.rows()] == before
    alpaca("label photos --model retrained")
    # What kim said is in nobody's way.
    assert "nothing new among 3 photos" in alpaca("label photos")
    assert version(retrained) in models()


def test_a_stranger_who_runs_the_commands_of_the_readme_never_mixes_two_models(
    folder, alpaca, goats
):
    (folder / "photos").rename(folder / "holiday")
    (folder / "runs").mkdir()
    Path(goats).rename(folder / "runs/first")
    commands = re.findall(r"(?m)^alpaca (label holiday/.*?|manifest .*?) *(?:#.*)?$", README)
    assert sum("--model runs/first" in command for command in commands) == 1
    for command in [*commands, "label holiday/"]:
        alpaca(command)
    for wrong in ("label holiday/ --model runs/first", "label holiday/ --manifest cats.jsonl"):
        alpaca(wrong, code=1)
    assert models() == {version()}
    assert models("cats.jsonl") == {version("runs/first")}


def test_any_option_of_any_command_may_stand_in_alpaca_toml(folder, alpaca):
    (folder / "alpaca.toml").write_text("""
        [label]
        manifest = "out/m.jsonl"
        json = true
        [manifest.export]
        format = "csv"
        output = "labels.csv"
        only = []
        [report]
        allow = "photos"
    """)
    assert json.loads(alpaca("label photos"))["manifest"] == "out/m.jsonl"
    alpaca("manifest export out/m.jsonl")
    assert (folder / "labels.csv").read_text().count("\n") == 4
    alpaca("report out/m.jsonl --no-photos")


def test_the_file_in_the_manifests_folder_comes_before_the_one_in_the_current_folder(
    folder, alpaca, monkeypatch
):
    (folder / "out").mkdir()
    (folder / "alpaca.toml").write_text("[label]\njson = true\nworkers = 1\n")
    (folder / "out/alpaca.toml").write_text('[label]\njson = true\ncopy-to = "sorted"\n')
    found = json.loads(alpaca("label photos --manifest out/m.jsonl"))
    assert (found["sorted"]["photos"], found["manifest"]) == (3, "out/m.jsonl")
    assert (folder / "out/sorted/alpaca/photos/alpaca.jpg").exists()
    assert json.loads(alpaca("label photos"))["sorted"] is None
    monkeypatch.setenv("ALPACA_LABEL_COPY_TO", "elsewhere")
    alpaca("label photos --manifest out/m.jsonl")
    alpaca("label photos --manifest out/m.jsonl --copy-to last")
    assert (folder / "elsewhere").exists()
    assert (folder / "last").exists()


WRONG = {
    "label =": "alpaca.toml: cannot be read (Invalid value",
    "label = 3": "alpaca.toml: options of `alpaca label` stand below a line [label]",
    "[lable]": "alpaca.toml: alpaca has no lable; see alpaca -h",
    "[label]\nmodle = 1": "alpaca.toml: alpaca label has no modle; see alpaca label -h",
    "[label]\npaths = 1": "alpaca.toml: alpaca label has no paths; see alpaca label -h",
    "[label]\nworkers = 'lots'": "[label] workers: 'lots' is not a valid integer range.",
    "[label]\nworkers = true": "[label] workers: no such value. See alpaca label -h",
    "[label]\nworkers = [1]": "[label] workers: no such value.",
    "[label]\nprune = 'yes'": "[label] prune: true or false is meant.",
    "[label]\nmax-failure-rate = 2.0": "2.0 is not in the range",
    "[label]\nmodel = 's3://b/k'": "[label] model: give an address in S3 on the command line.",
    "[label]\nmodel = 'ftp://b/k'": "[label] model: ftp://b/k: ftp:// cannot be read",
    '[label]\nmanifest = "a\\u0000b"': "[label] manifest: embedded null byte. See",
    "[label]\ncopy-to = '/tmp/s'": "[label] copy-to: /tmp/s is outside the folder",
    "[label]\ncopy-to = 'a/../../s'": "is outside the folder; give it on the command line.",
    "[label]\ncopy-to = 'away/s'": "[label] copy-to: away/s is outside the folder",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_key_or_value_is_refused_with_the_files_name_and_the_remedy(folder, alpaca, text):
    (folder / "away").symlink_to("/tmp")
    (folder / "alpaca.toml").write_text(text)
    assert WRONG[text] in alpaca("label photos", code=2)
    assert not (folder / "manifest.jsonl").exists()
    alpaca("label -h")


def test_a_strangers_file_shows_none_of_our_photos(folder, alpaca):
    (folder / "theirs").mkdir()
    alpaca("label photos --manifest theirs/m.jsonl")
    for name in ('allow = ["/"]', 'photos-root = ".."', 'output = "../report.html"'):
        (folder / "theirs/alpaca.toml").write_text(f"[report]\n{name}\n")
        assert "is outside the folder" in alpaca("report theirs/m.jsonl", code=2)

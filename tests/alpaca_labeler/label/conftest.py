"""`alpaca label` in this process, in a folder with three photos."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

from alpaca_labeler.main import main


@pytest.fixture
def folder(tmp_path, photos):
    """Three photos in `photos/`."""
    (tmp_path / "photos").mkdir()
    for name in ("alpaca.jpg", "cat.png", "coffee.jpg"):
        shutil.copy(photos / name, tmp_path / "photos")
    return tmp_path


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run `alpaca label WORDS`."""
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0):
        done = CliRunner().invoke(main, ["label", *map(str, words)])
        assert done.exit_code == code, done.output
        return done

    return run


@pytest.fixture
def label(run):
    """Run it with one worker, and return its report."""
    return lambda *words, code=0: json.loads(
        run(*words, "--workers", 1, "--json", code=code).stdout
    )


@pytest.fixture
def summary(run):
    """Run it, and return the summary, with single blanks."""
    return lambda *words: " ".join(run(*words).stdout.split())

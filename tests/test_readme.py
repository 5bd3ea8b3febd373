"""Every command of the README, run as it is written, in the order of the page.

Except that `train` is also told to use the tests' recipe and base, which learn in seconds.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen

import pytest

from alpaca_labeler.training import dataset, recipe
from tests.support.pets_photos import KERAS_SAVES, TINY, paint, save_base
from tests.support.rows import decide

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
LINES = [line.partition(" #")[0].strip() for block in BLOCKS for line in block.splitlines()]
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
INLINE = re.findall(r"`(alpaca [^`\s]+ [^`\n]+|make sam-local)`", PROSE)
COMMANDS = [*dict.fromkeys(line for line in [*LINES, *INLINE] if line)]

OURS = [command for command in COMMANDS if command.startswith("alpaca ")]
OTHERS = [command for command in COMMANDS if not command.startswith("alpaca ")]
ENDLESS = {"alpaca review", "alpaca review cats.jsonl", "alpaca sandbox"}


@pytest.fixture
def place(tmp_path, monkeypatch, served):
    """A folder with what the README speaks of, and a bucket on the loopback."""
    for name in ("holiday", "tests/photos"):
        shutil.copytree(ROOT / "tests/photos", tmp_path / name)
    for number in range(16):
        for dog, name in ((False, "cat"), (True, "dog")):
            paint(tmp_path / f"photos/{name}/{number}.png", dog=dog, number=number)
            if number < 5:
                paint(tmp_path / f"proof/{name}/{number}.png", dog=dog, number=number + 100)
    (tmp_path / "bin").mkdir()
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "bin/alpaca").write_text(f"""#!/bin/sh
[ "$1" != train ] || set -- "$@" --recipe tiny.toml --weights base.weights.h5
exec "{sys.executable}" -m alpaca_labeler "$@"
""")
    (tmp_path / "bin/alpaca").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BROWSER", "true")  # opens nothing
    # Tracing doubles the time of trainings, whose lines other tests cover.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    served.create_bucket(Bucket="my-photos")
    served.upload_file(str(ROOT / "tests/photos/cat.png"), "my-photos", "2026/cat.png")
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings(KERAS_SAVES)
def test_each_command_works_as_written_after_those_above_it(place):
    trains = find_spec("tensorflow") is not None
    if trains:
        pixels = dataset.load(str(place / "photos"), 32).pixels
        save_base(pixels, recipe.load(str(place / "tiny.toml")), place / "base.weights.h5")
    for command in OURS if trains else [c for c in OURS if not re.search("runs/|cats.jsonl", c)]:
        if "--corrections" in command:  # confirm a label, as a person does on the page
            decide(place / "cats.jsonl", "holiday/cat.png", "cat")
        words = shlex.split(command)
        process = Popen(words, cwd=place, stdout=PIPE, stderr=STDOUT, text=True, process_group=0)
        if command in ENDLESS:
            assert process.stdout
            assert process.stdout.readline()
            time.sleep(1)
            os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, f"{command}: {output}"
        assert "Traceback" not in output
    if not trains:
        pytest.skip("no TensorFlow: what needs a model of one's own was left out")


@pytest.mark.parametrize("command", OTHERS)
def test_the_workflow_runs_the_other_commands(command):
    """They set up machines and containers, so they are not for a test."""
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert command in workflow + (ROOT / ".ci/run").read_text(encoding="utf-8")

"""Every command of the README, run as it is written, in the order of the page.

Except that `train` is also told to use the tests' recipe and base, which learn in seconds.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from alpaca_labeler import storage
from alpaca_labeler.table.table import open_table
from tests.support.aws import account
from tests.support.pets_photos import KERAS_SAVES, TINY, paint, save_base
from tests.support.stacks import server

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


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the README speaks of, and a bucket on the loopback."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("holiday", "tests/photos"):
        shutil.copytree(ROOT / "tests/photos", folder / name)
    for number in range(16):
        for dog, name in ((False, "cat"), (True, "dog")):
            paint(folder / f"photos/{name}/{number}.png", dog=dog, number=number)
            if number < 5:
                paint(folder / f"proof/{name}/{number}.png", dog=dog, number=number + 100)
    (folder / "bin").mkdir()
    (folder / "tiny.toml").write_text(TINY)
    (folder / "bin/alpaca").write_text(f"""#!/bin/sh
[ "$1" != train ] || set -- "$@" --recipe tiny.toml --weights base.weights.h5
exec "{sys.executable}" -m alpaca_labeler "$@"
""")
    (folder / "bin/alpaca").chmod(0o755)
    with server() as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("HOME", str(folder))
        patch.setenv("BROWSER", "true")  # opens nothing
        with account(patch, endpoint):
            s3 = storage.client()
            s3.create_bucket(Bucket="my-photos")
            s3.upload_file(str(ROOT / "tests/photos/cat.png"), "my-photos", "2026/cat.png")
            yield folder


@pytest.fixture(scope="module")
def weights(place):
    """What training starts from."""
    pytest.importorskip("tensorflow")
    from alpaca_labeler.training import dataset, recipe

    pixels = dataset.load(str(place / "photos"), 32).pixels
    save_base(pixels, recipe.load(str(place / "tiny.toml")), place / "base.weights.h5")


@pytest.mark.slow
@pytest.mark.filterwarnings(KERAS_SAVES)
@pytest.mark.parametrize("command", OURS)
def test_the_command_works_as_written(command, place, request):
    if "runs/" in command:
        request.getfixturevalue("weights")
    if "--corrections" in command:  # confirm a label, as a person does on the page
        table = open_table(str(place / "cats.jsonl"))
        row = next(row for row in table.rows() if row.label)
        table.append([row.decided(row.label, "kim", datetime.now(UTC))])
    process = subprocess.Popen(
        shlex.split(command),
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    if command in ENDLESS:
        assert process.stdout
        assert process.stdout.readline()
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize("command", OTHERS)
def test_the_workflow_runs_the_other_commands(command):
    """They set up machines and containers, so they are not for a test."""
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert command in workflow + (ROOT / ".ci/run").read_text(encoding="utf-8")

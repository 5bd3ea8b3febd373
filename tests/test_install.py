"""Every way to install it that the README names, in a clean environment, and every remedy.

It downloads TensorFlow three times: `make test-install` runs it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pets_photos import TINY, paint
from tests.test_wheel import NOT_SOURCE

ROOT = Path(__file__).parents[1]
ROWS = re.findall(
    r"(?m)^\| (?:and )?(.+?) \| `(pipx .+?)` \| `(pip .+?)` \|$",
    (ROOT / "README.md").read_text(encoding="utf-8"),
)
USES = {
    "train": "alpaca train pets --recipe tiny.toml --weights none --output runs/first",
    "read HEIC": "alpaca label heic",
    "the sandbox": "alpaca sandbox --upload photos",
}
pytestmark = pytest.mark.skipif("TEST_INSTALL" not in os.environ, reason="set TEST_INSTALL=1")


@pytest.fixture
def shell(tmp_path):
    """A shell in a checkout, whose Python has pip and nothing else; `pipx` is on the PATH."""
    from PIL import Image
    from pillow_heif import from_pillow

    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=NOT_SOURCE)
    shutil.copytree(ROOT / "tests/photos", checkout / "photos")
    (checkout / "heic").mkdir()
    from_pillow(Image.new("RGB", (640, 480), "red")).save(checkout / "heic/a.heic")
    for number in range(32):
        name = f"{'dog' if number % 2 else 'cat'}/{number}.png"
        paint(checkout / "pets" / name, dog=bool(number % 2), number=number)
    (checkout / "tiny.toml").write_text(TINY)
    for name in ("venv", "tools"):
        subprocess.run([sys.executable, "-m", "venv", tmp_path / name], check=True)
    subprocess.run([tmp_path / "tools/bin/pip", "install", "--quiet", "pipx"], check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pipx").symlink_to(tmp_path / "tools/bin/pipx")
    environment = {
        "PATH": f"{tmp_path}/venv/bin:{tmp_path}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_DEFAULT_PYTHON": sys.executable,
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_")},
    }

    def run(line, code=0):
        command = ["sh", "-c", f"exec 2>&1\n{line}"]
        done = subprocess.run(
            command, cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == code, f"{line}\n{done.stdout}"
        assert "Traceback" not in done.stdout
        return done.stdout

    return run


@pytest.mark.parametrize("way", ["pipx", "pip", "the remedies, after pip"])
def test_each_line_of_the_readme_and_each_remedy_works_in_a_clean_environment(shell, way):
    assert [row[0] for row in ROWS] == ["label, review, report", *USES]
    column = 1 if way == "pipx" else 2
    shell(ROWS[0][column])
    assert "8 of 8 photos labelled" in shell("alpaca label photos")
    for what, *lines in ROWS[1:]:
        said = shell(USES[what], code=1)
        [remedy] = re.findall(r"(?m): (pipx inject .*|\S*python\S* -m pip install .*)$", said)
        if way == "pipx":
            assert remedy == lines[0]
        shell(remedy if way.startswith("the") else lines[column - 1])
        shell(USES[what])

"""What is published: one wheel with one name, which works beside anybody's folders."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv*", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", ".aws-sam", "dist"
)
pytestmark = pytest.mark.slow  # it builds


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel that is made of it."""
    source = tmp_path_factory.mktemp("source") / "project"
    shutil.copytree(ROOT, source, symlinks=True, ignore=NOT_SOURCE)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    [sdist], [wheel] = (source / "dist").glob("*.tar.gz"), (source / "dist").glob("*.whl")
    return sdist, wheel


@pytest.fixture
def stranger(built, tmp_path):
    """A Python that imports the wheel first, and a folder of names that once collided."""
    with zipfile.ZipFile(built[1]) as wheel:
        wheel.extractall(tmp_path / "wheel")
    for name in ("handler/__init__", "training/__init__", "cli/__init__", "infra/__init__", "main"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a decoy was imported')")
    shutil.copytree(ROOT / "tests/photos", tmp_path / "photos")

    def run(*command):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": f"wheel:{tmp_path}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_wheel_has_one_top_level_name_and_all_data_and_the_sdist_no_links(built):
    with tarfile.open(built[0]) as sdist:
        assert not [member.name for member in sdist if member.issym() or member.islnk()]
    with zipfile.ZipFile(built[1]) as wheel:
        names = {*wheel.namelist()}
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"alpaca_labeler"}
    data = {
        path.relative_to(ROOT).as_posix()
        for room in ("handler", "training", "alpaca_labeler")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and path.name != "NOTES.md"
        if not path.name.startswith("requirements")  # of the function alone
    }
    assert "alpaca_labeler/model/embedded/model.tflite" in data
    assert {f"alpaca_labeler/{name.removeprefix('alpaca_labeler/')}" for name in data} <= names


def test_the_command_and_the_api_work_beside_folders_named_like_its_modules(stranger):
    assert "8 photos" in stranger("-m", "alpaca_labeler", "label", "photos", "--workers", "1")
    stranger("-m", "alpaca_labeler", "report")
    stranger("-m", "alpaca_labeler", "review", "--help")
    assert "0." in stranger("-m", "alpaca_labeler", "--version")
    code = "import alpaca_labeler as a; print(a.Labeler().predict('photos/goat.jpg'), a.__file__)"
    assert "not alpaca" in (said := stranger("-c", code))
    assert said.endswith("/wheel/alpaca_labeler/__init__.py\n")

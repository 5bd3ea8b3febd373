"""Tiny data sets that anything can learn, and a recipe that learns them in seconds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner, Result

from alpaca_labeler.main import main
from alpaca_labeler.training import dataset
from alpaca_labeler.training import recipe as recipes
from tests.support.pets_photos import CATS, DOGS, KERAS_SAVES, SMALL, paint, small_base

KERAS = ("augment", "experiment", "export", "fit", "network")
WITH_TENSORFLOW = {f"test_{name}.py" for name in KERAS}
"""They import it, which takes five seconds of a processor, so all of their tests are slow."""


def pytest_ignore_collect(collection_path, config):
    if collection_path.name in WITH_TENSORFLOW and "not slow" in config.option.markexpr:
        return True
    return None


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(KERAS_SAVES))
            if item.path.name in WITH_TENSORFLOW or "trained" in item.fixturenames:
                item.add_marker("slow")


@pytest.fixture(scope="session")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of cats and eight of dogs, one stray file, one broken photo."""
    folder = tmp_path_factory.mktemp("pets")
    for dog, name, count in ((False, CATS, 12), (True, DOGS, 8)):
        for number in range(count):
            paint(folder / name / f"{number:02}.png", dog=dog, number=number)
    (folder / CATS / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / DOGS / "broken.png").write_bytes((folder / DOGS / "00.png").read_bytes()[:100])
    return folder


@pytest.fixture(scope="session")
def data(pets) -> dataset.Dataset:
    return dataset.load(str(pets), 32)


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recipes") / "small.toml"
    file.write_text(SMALL)
    return file


@pytest.fixture(scope="session")
def small(small_file) -> recipes.Recipe:
    return recipes.load(str(small_file))


DESCRIPTION = f"""
photos = [{{folder = "{CATS}", class = "{CATS}"}}, {{folder = "{DOGS}", class = "{DOGS}"}}]
[card]
weaknesses = ["hedgehogs"]
licence = {{model = "MIT"}}
version = "none of your own"
"""


@dataclass(frozen=True)
class Trained:
    """What `alpaca train` left behind, and what it held in its hands."""

    folder: Path
    result: Result
    outcome: Any
    data: dataset.Dataset


@pytest.fixture(scope="session")
def trained(pets, small_file, tmp_path_factory) -> Trained:
    """One training and one export for all tests that look at either: each takes many seconds."""
    keras = pytest.importorskip("keras")
    from alpaca_labeler.training import export

    folder = tmp_path_factory.mktemp("runs") / "first"
    description = tmp_path_factory.mktemp("described") / "pets.toml"
    description.write_text(DESCRIPTION)
    exporting = Mock(wraps=export.export)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "export", exporting)
        patch.setattr(keras.applications, "MobileNetV2", small_base)
        patch.chdir(pets)  # where the description's paths start
        words = ["--recipe", str(small_file), "--weights", "none", "--output", str(folder)]
        result = CliRunner().invoke(main, ["train", str(description), *words])
    assert result.exit_code == 0, result.output
    outcome, data, _ = exporting.call_args.args
    return Trained(folder, result, outcome, data)

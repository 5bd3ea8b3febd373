"""Tiny data sets that anything can learn, and a recipe that learns them in seconds."""

from dataclasses import replace
from pathlib import Path

import pytest
from pets_photos import CATS, DOGS, TINY, paint

from training import recipe as recipes

_KERAS_SAVES = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
"""Keras 3.15 reads TensorFlow 2.21's variables in a way that NumPy 2 deprecates."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(_KERAS_SAVES))


@pytest.fixture(scope="session")
def pets(tmp_path_factory) -> Path:
    """Twelve photos of cats and eight of dogs, one stray file, one broken photo."""
    folder = tmp_path_factory.mktemp("pets")
    for number in range(12):
        paint(folder / CATS / f"{number:02}.png", dog=False, number=number)
    for number in range(8):
        paint(folder / DOGS / f"{number:02}.png", dog=True, number=number)
    (folder / CATS / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / DOGS / "broken.png").write_bytes((folder / DOGS / "00.png").read_bytes()[:100])
    return folder


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="session")
def tiny(tiny_file) -> recipes.Recipe:
    return recipes.load(str(tiny_file))


@pytest.fixture(scope="session")
def gradient(tiny) -> recipes.Recipe:
    """The same with a head that learns by gradient."""
    return replace(tiny, head=replace(tiny.head, method="gradient"))

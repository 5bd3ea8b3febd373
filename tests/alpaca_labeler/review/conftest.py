"""A manifest of six rows, for the tests of the review's server side."""

from __future__ import annotations

import pytest

from alpaca_labeler.model.bundle import Card
from tests.support.reviews import CARD, draw, failure, row, write

NEWER = Card("2-b", *[getattr(CARD, name) for name in Card.__slots__[1:]])


@pytest.fixture
def folder(tmp_path):
    """Six rows: two dogs, two cats, one of them doubtful, and two failures."""
    sizes = {}
    for name in ("a/dog.png", "a/Köter.png", "b/cat.png", "cat2.png", "late.png"):
        draw(tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
    write(
        tmp_path,
        row("a/dog.png", 5.0, size=sizes["a/dog.png"]),
        row("a/Köter.png", 1.0, size=sizes["a/Köter.png"]),
        row("b/cat.png", -0.2, size=sizes["b/cat.png"]),
        row("cat2.png", -3.0, size=sizes["cat2.png"], card=NEWER),
        failure("broken.jpg"),
        failure("late.png", size=sizes["late.png"], code="unreadable"),
    )
    return tmp_path

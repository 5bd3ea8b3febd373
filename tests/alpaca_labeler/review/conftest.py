"""A manifest of five rows, for the tests of the review's server side."""

from __future__ import annotations

import pytest

from alpaca_labeler.model.bundle import Card
from tests.support.reviews import CARD, draw, failure, of, row, write

NEWER = Card("2-b", *[getattr(CARD, name) for name in Card.__struct_fields__[1:]])

PHOTOS = ("a/dog.png", "a/Köter.png", "b/cat.png", "cat2.png")


@pytest.fixture
def folder(tmp_path):
    """Five rows: two dogs, two cats, one of them doubtful, and a failure."""
    photos = {name: tmp_path / name for name in PHOTOS}
    for path in photos.values():
        draw(path)
    logits = zip(PHOTOS, (5.0, 1.0, -0.2), strict=False)
    write(
        tmp_path,
        *(of(photos[name], row(name, logit)) for name, logit in logits),
        of(photos["cat2.png"], row("cat2.png", -3.0, card=NEWER)),
        failure("broken.jpg"),
    )
    return tmp_path

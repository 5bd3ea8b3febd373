"""The benchmark measures what it says: the same photos, the same pixels, the same labels."""

from pathlib import Path

import pytest
from PIL import Image

from alpaca_labeler.model import bundle
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.pipeline.labeler import Labeler
from tests.benchmarks import contestants, harness


@pytest.mark.parametrize("longest", [480, 1500])
def test_photos_have_the_size_they_are_called_by_and_all_label_them_alike(tmp_path, longest):
    floor, library = contestants.floor(tmp_path), contestants.labeler(tmp_path)
    labeler, card = Labeler(), bundle.load().card
    made = harness.photos(longest, 8, tmp_path)
    assert len({Path(path).read_bytes() for path in made}) == 8
    for path in made:
        with Image.open(path) as image:
            assert max(image.size) == longest
        wanted = labeler.predict(path)
        assert decide(card, floor(path)) == wanted  # of the very pixels
        assert library(path) == wanted.probability

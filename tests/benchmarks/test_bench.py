"""The benchmark measures what it says: the same photos, the same pixels, the same labels."""

import os

import pytest
from PIL import Image

from alpaca_labeler.model import bundle
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.pipeline.labeler import Labeler
from tests.benchmarks import contestants, harness
from tests.benchmarks.bench_labelling import Server


def test_the_floor_and_the_library_label_as_the_product_does(photos):
    floor, library = contestants.floor(photos), contestants.labeler(photos)
    labeler, card = Labeler(), bundle.load().card
    for path in map(str, photos.glob("*.jpg")):
        wanted = labeler.predict(path)
        assert decide(card, floor(path)) == wanted  # of the very pixels
        assert library(path) == wanted.probability


@pytest.mark.parametrize("longest", [480, 1500])
def test_photos_have_the_size_they_are_called_by(tmp_path, longest):
    made = harness.photos(longest, 3, tmp_path)
    assert len(made) == 3
    for path in made:
        with Image.open(path) as image:
            assert max(image.size) == longest


def test_a_contestant_answers_over_its_pipes(photos, tmp_path):
    floor = Server("floor", tmp_path, os.sched_getaffinity(0))
    try:
        assert floor.answer() == {"ready": True}
        answer = floor.label([str(path) for path in photos.glob("*.jpg")])
        assert len(answer["labels"]) == len([*photos.glob("*.jpg")])
        assert answer["seconds"] > 0
        assert answer["megabytes"] > 20
    finally:
        floor.end()


def test_ratios_are_of_rounds_and_tables_are_of_markdown():
    assert harness.ratio({"a": [1.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0]}, "a", "b") == 2
    rows = [("a", 1.234), ("bcdef", None), ("g", 12345)]
    lines = ["| what | s |", "| --- | --: |", "| a | 1.23 |", "| bcdef | - |", "| g | 12,345 |"]
    assert harness.table(("what", "s"), rows).splitlines() == lines

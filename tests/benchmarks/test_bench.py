"""The benchmark measures what it says: the same photos, the same pixels, the same labels."""

import os

import pytest
from PIL import Image

from alpaca_labeler.model import bundle
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.pipeline.labeler import Labeler
from tests.benchmarks import bench_folder, contestants, harness
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


@pytest.mark.slow
def test_a_resumed_run_finds_nothing_to_do(tmp_path):
    found = bench_folder.measure(400, 1, tmp_path)
    assert min(ran.megabytes for ran in found.values()) > 5


def test_ratios_are_of_rounds_and_tables_are_aligned():
    assert harness.ratio({"a": [1.0, 4.0, 9.0], "b": [1.0, 2.0, 3.0]}, "a", "b") == 2
    assert harness.table(("what", "s"), [("a", 1.234), ("bcdef", None), ("g", 12345)]) == (
        "| what  |      s |\n"
        "| ----- | -----: |\n"
        "| a     |   1.23 |\n"
        "| bcdef |      - |\n"
        "| g     | 12,345 |"
    )

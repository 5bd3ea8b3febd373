"""The benchmark measures what it says: the same photos, the same pixels, the same labels."""

import os

import pytest
from PIL import Image

from alpaca_labeler.handler import bundle
from alpaca_labeler.handler.classifier import decide
from alpaca_labeler.handler.labeler import Labeler
from tests.benchmarks import (
    bench_commands,
    bench_photos,
    bench_report,
    bench_stages,
    contestants,
)
from tests.benchmarks.bench import Server


def jpegs(folder):
    return sorted(str(path) for path in folder.glob("*.jpg"))


def test_the_floor_sees_the_very_pixels_of_the_product(photos):
    floor, labeler = contestants.floor(photos), Labeler()
    for path in jpegs(photos):
        assert decide(labeler.card, floor.label(path)) == labeler.predict(path)


def test_the_library_is_measured_with_its_own_labels(photos):
    measured, card = contestants.labeler(photos), bundle.load().card
    for path in jpegs(photos):
        # The logit is that of a probability of four digits.
        assert decide(card, measured.label(path)).index == Labeler().predict(path).index


def test_stages_repeat_the_steps_of_the_library(photos):
    stages = bench_stages.profile(jpegs(photos), rounds=1)  # asserts that the pixels are the same
    assert max(stages, key=stages.__getitem__) in {"decode, scaled", "infer, int8"}


@pytest.mark.parametrize("longest", [480, 1500])
def test_photos_have_the_size_they_are_called_by(tmp_path, longest):
    made = bench_photos.make(longest, 3, tmp_path)
    assert len(made.paths) == 3
    for path in made.paths:
        with Image.open(path) as image:
            assert max(image.size) == longest
    assert made.kilobytes == pytest.approx(sum(os.path.getsize(path) for path in made.paths) / 3000)


def test_a_contestant_answers_over_its_pipes_and_the_missing_say_why(photos, tmp_path):
    cores = os.sched_getaffinity(0)
    floor, missing = Server("floor", tmp_path, cores), Server("litert", tmp_path, cores)
    try:
        assert floor.answer() == {"ready": True}
        answer = floor.ask(photos=jpegs(photos))
        assert len(answer["logits"]) == len(jpegs(photos))
        assert answer["seconds"] > 0
        assert floor.ask(batch=4, times=1)["megabytes"] > 20
        assert "skipped" in missing.answer()
    finally:
        floor.end()
        missing.end()


@pytest.mark.slow
def test_a_resumed_run_finds_nothing_to_do(tmp_path):
    top, table = bench_commands.labelled_before(1_500, tmp_path)
    cores = {min(os.sched_getaffinity(0))}
    ran = bench_commands.resume(top, table, cores)
    assert ran.seconds > 0
    assert ran.megabytes > 20
    with open(table, "ab") as file:  # a row short: one photo is found, and the manifest changes
        file.truncate(table.stat().st_size // 2)
    with pytest.raises(AssertionError):
        bench_commands.resume(top, table, cores)


def test_tables_are_aligned():
    assert bench_report.table(("what", "s"), [("a", 1.234), ("bcdef", None), ("g", 12345)]) == (
        "| what  |      s |\n"
        "| ----- | -----: |\n"
        "| a     |   1.23 |\n"
        "| bcdef |      - |\n"
        "| g     | 12,345 |"
    )

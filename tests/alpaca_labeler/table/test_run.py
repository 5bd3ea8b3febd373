"""A labelling run: what it knows of a folder's photos, and what it writes of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table.facts import Answer, Failure
from alpaca_labeler.table.log import Log
from alpaca_labeler.table.run import EVER, RETENTION, TRIED_AGAIN, Run
from tests.support.rows import reading, rows_of

pytestmark = pytest.mark.usefixtures("folder")
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
DATE = "2026-01-31T11:59:58.000000001Z"


class Clock:
    now = NOON

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state(name, date=DATE):
    return ImageVersion(name, 10, date)


def read(name, content="sha256:aa", label="alpaca", *, model="m1", date=DATE):
    return reading(name, "", content, label, model=model, size=10, last_modified=date)


def label(clock, *rows, model="m1", decoder=""):
    """Run over photos that are there; return which of them were new."""
    with Run("manifest.jsonl", clock) as run:
        run.load(model, decoder)
        new = []
        for row in rows:
            image = run.named(state(row.source_ref, row.read.last_modified))
            if not run.has(image):
                run.append(row)
                new.append(row.source_ref)
        run.settle()
    return new


def decide(clock, name, to="goat"):
    [row] = [row for row in rows_of("manifest.jsonl") if row.source_ref == name]
    with Log("manifest.jsonl") as table:
        table.append([row.decided(to, "kim", clock(), index=0, attribute="alpaca")])


def labels():
    return {row.source_ref: row.label for row in rows_of("manifest.jsonl") if not row.hidden}


def test_what_changed_is_new_and_to_another_model_what_no_person_decided(clock):
    label(clock, read("a.jpg"), read("b.jpg", "sha256:bb"))
    assert label(clock, read("a.jpg", date="2026-02-01T00:00:00Z")) == ["a.jpg"]
    assert label(clock, read("b.jpg", "sha256:bb", model="m2"), model="m2") == ["b.jpg"]
    decide(clock, "a.jpg")
    assert label(clock, read("a.jpg", date="2026-02-01T00:00:00Z", model="m2"), model="m2") == []
    assert labels()["a.jpg"] == "goat"


def test_the_last_reading_counts_even_if_the_clock_was_set_back(clock):
    label(clock, read("a.jpg"))
    clock.now -= timedelta(days=400)
    label(clock, read("a.jpg", "sha256:bb", "goat", date="2025-01-01T00:00:00Z"))
    assert labels() == {"a.jpg": "goat"}


def test_a_copy_under_another_name_keeps_what_a_person_called_it_and_did_not_take_back(clock):
    label(clock, read("a.jpg"))
    decide(clock, "a.jpg")
    label(clock, read("b.jpg"), read("c.jpg", "sha256:cc"))
    assert labels() == {"a.jpg": "goat", "b.jpg": "goat", "c.jpg": "alpaca"}
    decide(clock, "a.jpg", None)
    decide(clock, "b.jpg", None)
    label(clock, read("d.jpg"))
    assert {*labels().values()} == {"alpaca"}


@pytest.mark.parametrize(
    ("failure", "decoder", "again"),
    [
        (Failure("corrupt", "cut", "pillow 12"), "pillow 12", False),
        (Failure("corrupt", "cut", "pillow 11"), "pillow 12", True),
        (Failure("unreadable", "no permission"), "pillow 12", True),
        (Failure("too-many-pixels", "64 x 64"), "pillow 12", True),
        (Failure("too-large", "9 bytes"), "pillow 12", True),
        (Failure("empty", "no bytes"), "pillow 12", False),
    ],
)
def test_a_failure_is_tried_again_if_that_may_help(clock, failure, decoder, again):
    label(clock, replace(read("a.jpg"), answer=Answer("m1", failure=failure)), decoder=decoder)
    with Run("manifest.jsonl", clock) as run:
        run.load("m1", decoder)
        assert run.has(state("a.jpg")) is not again
        assert run.had_failed(state("a.jpg")) is (failure.code in TRIED_AGAIN)


@pytest.mark.parametrize("until", [None, EVER])
def test_what_is_gone_is_erased_after_a_time_or_at_once(folder, clock, until):
    label(clock, read("a.jpg"), read("b.jpg", "sha256:bb"))
    (folder / "b.jpg").touch()
    with Run("manifest.jsonl", clock) as run:
        run.load("m1")
        run.prune(run.gone())
        run.settle(until)
    assert (b"a.jpg" in (folder / "manifest.jsonl").read_bytes()) is (until is None)
    clock.now += RETENTION + timedelta(seconds=1)
    label(clock)
    assert b"a.jpg" not in (folder / "manifest.jsonl").read_bytes()

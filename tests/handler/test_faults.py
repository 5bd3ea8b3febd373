"""Whatever fails, whenever, each object ends with exactly one row, and the right one.

The quick runs are part of every test run. The full one, of 2,000 objects a seed:

    FAULT_OBJECTS=2000 FAULT_SEEDS=1,2,3,4,5 pytest tests/handler/test_faults.py -k every_object
"""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta

import pytest

from alpaca_labeler import storage
from alpaca_labeler.storage.upload import Upload
from alpaca_labeler.table import bucket, facts, row
from tests.support.simulation import World

OBJECTS = int(os.environ.get("FAULT_OBJECTS", "300"))
SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1,2,3").split(",")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_every_object_ends_with_exactly_one_correct_row(seed, monkeypatch):
    World(seed, OBJECTS).run(monkeypatch).verify()


@pytest.mark.parametrize("seed", range(20))
def test_of_a_key_that_is_overwritten_a_hundred_times_in_two_seconds_the_last_counts(
    seed, monkeypatch
):
    world = World(seed, 1, rate=0)
    world.patch(monkeypatch)

    def tick():
        world.now += timedelta(milliseconds=world.rng.randrange(5))
        return world.now

    world.s3.clock, began = tick, world.now
    for _ in range(100):
        world.change("over.jpg")
        while world.rng.random() < 0.3 and world.queue:
            assert world.deliver([world.take()]) == set()
    assert world.now - began < timedelta(seconds=2)
    while world.queue:
        assert world.deliver([world.take()]) == set()
    world.come_to_rest()
    world.verify()


# --- the test can fail: each of these bugs is caught ---------------------------------------------


def carry_on_after(patch, error, owner, name):
    real = getattr(owner, name)

    def act(*arguments):
        with contextlib.suppress(error):
            real(*arguments)

    patch.setattr(owner, name, act)


def believe_a_refused_commit(patch):
    carry_on_after(patch, storage.Conflict, Upload, "commit")


def commit_without_a_condition(patch):
    real = Upload.commit

    def commit(self):
        self._condition = {}
        real(self)

    patch.setattr(Upload, "commit", commit)


def delete_parts_before_the_commit(patch):
    real = bucket._Gathered.rows

    def rows(self, uris):
        yield from real(self, uris)
        storage.delete(self.merged)

    patch.setattr(bucket._Gathered, "rows", rows)


def let_the_first_read_win(patch):
    patch.setattr(row, "_read_order", lambda row: row.read is not None)


def believe_that_a_part_was_written(patch):
    carry_on_after(patch, storage.StorageError, bucket, "write")


def believe_the_clock_of_who_decides(patch):
    patch.setattr(row, "later", lambda now, _than: facts.timestamp(now))


BUGS = [
    *(believe_a_refused_commit, commit_without_a_condition, delete_parts_before_the_commit),
    *(let_the_first_read_win, believe_that_a_part_was_written, believe_the_clock_of_who_decides),
]


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_seeded_bug_is_caught(bug, monkeypatch):
    for seed in range(1, 31):
        with monkeypatch.context() as patch:
            bug(patch)
            try:
                World(seed, 40).run(patch).verify()
            except AssertionError:
                return
    raise AssertionError("the bug went unnoticed")

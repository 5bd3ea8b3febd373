"""Whatever fails, whenever, each object ends with exactly one row, and the right one.

The quick runs are part of every test run. The full one, of 2,000 objects a seed:

    FAULT_OBJECTS=2000 FAULT_SEEDS=1,2,3,4,5 pytest tests/handler/test_faults.py -k every_object
"""

from __future__ import annotations

import contextlib
import os

import pytest

from alpaca_labeler.handler import compaction, merge, parts, storage
from tests.support.simulation import World

OBJECTS = int(os.environ.get("FAULT_OBJECTS", "300"))
SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1,2,3").split(",")]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_object_ends_with_exactly_one_correct_row(seed, monkeypatch):
    world = World(seed, OBJECTS).run(monkeypatch)
    world.verify()
    print(
        f"seed {seed}: {world.objects} objects, {world.deliveries} deliveries, "
        f"{world.client.calls} calls of which {world.client.faults} failed, {world.crashes} "
        f"crashes, {world.client.refused} conditions refused, {world.runs} compactions"
    )


# --- the test can fail: each of these bugs is caught ---------------------------------------------


def believe_a_refused_commit(patch):
    real = storage.write_if_unchanged

    def write(*arguments, **more):
        with contextlib.suppress(storage.Conflict):
            real(*arguments, **more)

    patch.setattr(storage, "write_if_unchanged", write)


def commit_without_a_condition(patch):
    def write(uri, data, _etag, content_type, *, mark):
        where = storage._where(uri)
        storage._call(
            uri, "put_object", **where, Body=data, ContentType=content_type, Metadata={"mark": mark}
        )

    patch.setattr(storage, "write_if_unchanged", write)


def delete_parts_before_the_commit(patch):
    real = compaction._Gathered.rows

    def rows(self, uris):
        yield from real(self, uris)
        storage.delete(self.merged)

    patch.setattr(compaction._Gathered, "rows", rows)


def let_the_last_row_win(patch):
    patch.setitem(merge.merge.__kwdefaults__, "choose", lambda rows: rows[-1])


def believe_that_a_part_was_written(patch):
    real = parts.write

    def write(*arguments):
        with contextlib.suppress(storage.StorageError):
            real(*arguments)

    patch.setattr(parts, "write", write)


@pytest.mark.parametrize(
    "bug",
    [
        believe_a_refused_commit,
        commit_without_a_condition,
        delete_parts_before_the_commit,
        let_the_last_row_win,
        believe_that_a_part_was_written,
    ],
    ids=lambda bug: bug.__name__,
)
def test_a_seeded_bug_is_caught(bug, monkeypatch):
    for seed in range(1, 31):
        with monkeypatch.context() as patch:
            bug(patch)
            try:
                World(seed, 40).run(patch).verify()
            except AssertionError as caught:
                print(f"{bug.__name__}: seed {seed}, {caught}")
                return
    raise AssertionError("the bug went unnoticed")

"""Whatever fails, whenever, each object ends with exactly one row, and the right one.

The quick runs are part of every test run. The full one, of 2,000 objects a seed:

    FAULT_OBJECTS=2000 FAULT_SEEDS=1,2,3,4,5 pytest tests/handler/test_faults.py -k every_object
"""

from __future__ import annotations

import contextlib
import itertools
import os

import pytest

from alpaca_labeler import storage
from alpaca_labeler.table import compaction, merge, pair, parts
from tests.support.simulation import World

pytestmark = pytest.mark.slow
OBJECTS = int(os.environ.get("FAULT_OBJECTS", "300"))
SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1,2,3").split(",")]


def world_of(seed, objects, *, divided):
    """A table that stays whole, or one that is divided when a fifth of it is there.

    Of the calls of a divided table, which are many more, fewer fail: else no run would ever end.
    """
    if divided:
        return World(seed, objects, rate=0.04, divide_bytes=100 * objects)
    return World(seed, objects)


@pytest.mark.parametrize("divided", [False, True], ids=["whole", "divided"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_object_ends_with_exactly_one_correct_row(seed, divided, monkeypatch):
    world = world_of(seed, OBJECTS, divided=divided).run(monkeypatch)
    world.verify()
    assert world.divided == divided
    print(
        f"seed {seed}, {'divided' if divided else 'whole'}: {world.objects} objects, "
        f"{world.deliveries} deliveries, {world.client.calls} calls of which "
        f"{world.client.faults} failed, {world.crashes} crashes, "
        f"{world.client.refused} conditions refused, {world.runs} compactions"
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


def delete_parts_before_all_shards_are_committed(patch):
    real = compaction._each_shard

    def each_shard(rows):
        yield from itertools.islice(real(rows), 12)

    patch.setattr(compaction, "_each_shard", each_shard)


def take_every_shard_for_done(patch):
    patch.setattr(compaction, "_name", lambda uris, _whole: f"{len(uris)}.same")


def empty_the_undivided_pair_without_a_condition(patch):
    def clear(self):
        for uri in self.uris:
            where = storage._where(uri)
            storage._call(uri, "put_object", **where, Body=b"")

    patch.setattr(pair.Pair, "clear", clear)


def empty_the_undivided_pair_before_its_rows_are_committed(patch):
    real = compaction._Moving.rows

    def rows(self):
        yield from real(self)
        self.finish()

    patch.setattr(compaction._Moving, "rows", rows)


def forget_the_undivided_pair(patch):
    patch.setattr(compaction._Moving, "rows", lambda _self: iter(()))


WHOLE_BUGS = [
    believe_a_refused_commit,
    commit_without_a_condition,
    delete_parts_before_the_commit,
    let_the_last_row_win,
    believe_that_a_part_was_written,
]
SHARD_BUGS = [
    *WHOLE_BUGS,
    delete_parts_before_all_shards_are_committed,
    take_every_shard_for_done,
    empty_the_undivided_pair_without_a_condition,
    empty_the_undivided_pair_before_its_rows_are_committed,
    forget_the_undivided_pair,
]


@pytest.mark.parametrize(
    ("bug", "divided"),
    [(bug, False) for bug in WHOLE_BUGS] + [(bug, True) for bug in SHARD_BUGS],
    ids=lambda value: getattr(value, "__name__", f"divided={value}"),
)
def test_a_seeded_bug_is_caught(bug, divided, monkeypatch):
    for seed in range(1, 31):
        with monkeypatch.context() as patch:
            bug(patch)
            try:
                world_of(seed, 40, divided=divided).run(patch).verify()
            except AssertionError as caught:
                print(f"{bug.__name__}: seed {seed}, {caught}")
                return
    raise AssertionError("the bug went unnoticed")

import itertools
import json

import pytest

from alpaca_labeler.handler import compaction, manifest_row, merge, parts, storage
from alpaca_labeler.handler.compaction import Compacted
from tests.support.fake_s3 import FakeS3
from tests.support.rows import failure, human, label

RESULTS = "s3://results/labels/"
NAMES = ("manifest.jsonl", "failures.jsonl")


@pytest.fixture
def s3(monkeypatch):
    fake = FakeS3()
    monkeypatch.setattr(storage, "client", lambda: fake)
    return fake


def compact(**more):
    return compaction.compact(RESULTS, pause=0, **more)


def table(s3):
    """Return the rows of (manifest, failures)."""
    return tuple(
        [
            manifest_row.parse(line)
            for line in s3.objects["results", f"labels/{name}"].body.splitlines()
        ]
        for name in NAMES
    )


def waiting(s3):
    return [key for _, key in s3.objects if key.startswith("labels/parts/")]


def test_parts_become_one_row_an_image_and_are_deleted(s3):
    parts.write(RESULTS, [label("b"), failure("c")])
    parts.write(RESULTS, [label("a"), label("b", minute=3)])
    assert compact() == Compacted(committed=True, parts=2, labels=2, failures=1)
    assert table(s3) == ([label("a"), label("b")], [failure("c")])
    assert waiting(s3) == []


def test_nothing_to_do_writes_nothing(s3):
    assert compact() == Compacted()
    assert s3.objects == {}


def test_an_unchanged_result_commits_nothing(s3):
    parts.write(RESULTS, [label("a"), failure("b")])
    compact()
    before = {name: s3.objects["results", f"labels/{name}"] for name in NAMES}
    parts.write(RESULTS, [label("a", minute=9), failure("b", minute=9)])
    done = compact()
    assert (done.committed, done.parts) == (False, 1)
    assert all(s3.objects["results", f"labels/{name}"] is before[name] for name in NAMES)
    assert waiting(s3) == []


def test_an_image_moves_between_the_two_objects_with_its_newest_version(s3):
    parts.write(RESULTS, [failure("a", 1), label("b", 1)])
    compact()
    parts.write(RESULTS, [label("a", 2), failure("b", 2)])
    compact()
    assert table(s3) == ([label("a", 2)], [failure("b", 2)])


def test_a_persons_row_stays_until_the_image_changes(s3):
    parts.write(RESULTS, [label("a")])
    parts.write(RESULTS, [human("a")])
    compact()
    parts.write(RESULTS, [label("a", minute=30)])
    compact()
    assert table(s3)[0] == [human("a")]
    parts.write(RESULTS, [label("a", 2)])
    compact()
    assert table(s3)[0] == [label("a", 2)]


def test_a_run_takes_the_oldest_parts_first(s3):
    from datetime import UTC, datetime

    for minute in (3, 1, 2):
        s3.clock = lambda minute=minute: datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
        parts.write(RESULTS, [label(f"{minute}.jpg")])
    compact(max_parts=2)
    assert table(s3)[0] == [label("1.jpg"), label("2.jpg")]
    assert len(waiting(s3)) == 1


def test_a_part_that_cannot_be_read_stays_and_stops_nothing(s3):
    parts.write(RESULTS, [label("a")])
    s3.put_object("results", "labels/parts/odd.jsonl", b"not JSON\n")
    done = compact()
    assert done.parts == 1
    assert "odd.jsonl: line 1" in done.broken[0]
    assert waiting(s3) == ["labels/parts/odd.jsonl"]


def test_a_part_that_cannot_be_had_now_is_left_for_the_next_run(s3, monkeypatch):
    uris = [parts.write(RESULTS, [label(name)]) for name in ("a", "b")]
    real = storage.read

    def read(uri, max_bytes):
        if uri == uris[0]:
            raise storage.Transient("SlowDown")
        return real(uri, max_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "read", read)
        assert compact().parts == 1
        with pytest.raises(storage.Transient):  # a reader is told: rows would be missing
            [*compaction.table(RESULTS)]
    assert table(s3)[0] == [label("b")]
    assert compact().parts == 1
    assert table(s3)[0] == [label("a"), label("b")]


def test_a_table_that_somebody_edited_may_be_out_of_order_and_double(s3):
    lines = [label("b"), label("a"), label("b", minute=1), failure("c")]
    s3.put_object("results", "labels/manifest.jsonl", b"".join(map(manifest_row.encode, lines)))
    compact()
    assert table(s3) == ([label("a"), label("b")], [failure("c")])
    assert compact() == Compacted()


def test_a_damaged_table_is_an_error_that_names_the_line(s3):
    s3.put_object("results", "labels/manifest.jsonl", manifest_row.encode(label("a")) + b"{oops\n")
    with pytest.raises(manifest_row.ManifestError, match=r"labels/manifest\.jsonl: line 2"):
        compact()


def test_a_reader_need_not_wait_for_compaction(s3):
    parts.write(RESULTS, [failure("a", 1), label("c")])
    compact()
    parts.write(RESULTS, [label("a", 2), label("b")])
    rows = [label("a", 2), label("b"), label("c")]
    assert [*compaction.table(RESULTS)] == [(manifest_row.encode(row), False) for row in rows]
    assert len(waiting(s3)) == 1


def test_a_table_beyond_one_object_is_refused_before_it_is_sent(s3, monkeypatch):
    monkeypatch.setattr(compaction, "MAX_OBJECT_BYTES", 100)
    parts.write(RESULTS, [label("a")])
    with pytest.raises(compaction.TooManyRows, match="results prefix of its own"):
        compact()
    assert len(waiting(s3)) == 1


class Killed(BaseException):
    pass


def killed_at(s3, monkeypatch, operations):
    """Stop a run when it has made so many calls; tell whether it was stopped."""
    left = itertools.count(operations, -1)

    class Dying:
        def __getattr__(self, name):
            if next(left) == 0:
                raise Killed
            return getattr(s3, name)

    with monkeypatch.context() as patch:
        dying = Dying()
        patch.setattr(storage, "client", lambda: dying)
        try:
            compact()
        except Killed:
            return True
        return False


@pytest.mark.parametrize("calls", range(12))
def test_a_run_may_stop_at_any_call_and_the_next_one_makes_it_good(s3, monkeypatch, calls):
    parts.write(RESULTS, [failure("a", 1), label("b", 1), label("c", 1)])
    compact()
    parts.write(RESULTS, [label("a", 2), failure("b", 2)])
    parts.write(RESULTS, [failure("d", 1)])
    stopped = killed_at(s3, monkeypatch, calls)
    assert stopped == (calls < 8)  # list, 2 parts, 2 objects, 2 commits, deletion
    compact()
    assert table(s3) == ([label("a", 2), label("c", 1)], [failure("b", 2), failure("d", 1)])
    assert waiting(s3) == []
    assert compact() == Compacted()


def test_an_image_left_in_both_objects_is_put_right_without_any_part(s3):
    parts.write(RESULTS, [failure("a", 1)])
    compact()
    # What two runs that met between their commits, one of which died, can leave behind.
    newer = manifest_row.encode(label("a", 2))
    s3.put_object("results", "labels/manifest.jsonl", newer, Metadata={"mark": "of another"})
    assert compact().committed
    assert table(s3) == ([label("a", 2)], [])
    assert compact() == Compacted()


def test_a_part_that_another_run_merged_meanwhile_is_not_missed(s3, monkeypatch):
    parts.write(RESULTS, [label("a")])
    real = compaction._oldest

    def listed_too_early(*arguments):
        found = real(*arguments)
        monkeypatch.setattr(compaction, "_oldest", real)
        compact()
        return found

    monkeypatch.setattr(compaction, "_oldest", listed_too_early)
    assert compact() == Compacted(labels=1)
    assert table(s3) == ([label("a")], [])


@pytest.mark.parametrize("name", NAMES)
def test_a_lost_race_is_read_again_and_merged_again(s3, monkeypatch, name):
    parts.write(RESULTS, [label("a"), failure("b")])
    compact()
    parts.write(RESULTS, [label("c"), failure("d")])
    real = storage.write_if_unchanged
    raced = []

    def write(uri, *arguments, **more):
        if uri.endswith(name) and not raced:
            raced.append(uri)
            parts.write(RESULTS, [label("e"), failure("f")])
            compact()
        real(uri, *arguments, **more)

    monkeypatch.setattr(storage, "write_if_unchanged", write)
    compact()
    assert raced
    assert table(s3) == (
        [label("a"), label("c"), label("e")],
        [failure("b"), failure("d"), failure("f")],
    )
    assert waiting(s3) == []
    assert compact() == Compacted()


def test_races_that_are_always_lost_end_in_an_error_and_lose_nothing(s3, monkeypatch):
    parts.write(RESULTS, [label("a")])
    compact()
    parts.write(RESULTS, [label("b")])

    def lose(uri, *_, **__):
        raise storage.Conflict(uri)

    monkeypatch.setattr(storage, "write_if_unchanged", lose)
    with pytest.raises(storage.Conflict):
        compact()
    assert len(waiting(s3)) == 1


def test_runs_of_rows_larger_than_memory_are_sorted_through_files():
    rows = [(f"{number * 7919 % 5000:05}", b"%d\n" % number) for number in range(5000)]
    lines = [
        (ref, manifest_row.encode({"source-ref": ref, "line": line.decode()})) for ref, line in rows
    ]
    assert [*merge.sort(iter(lines), run_bytes=10_000)] == sorted(lines)


def test_the_table_reads_as_json_lines_on_real_s3_calls(aws):
    aws.create_bucket(Bucket="results")
    parts.write(RESULTS, [label("ü b"), failure("c")])
    assert compact().committed
    body = aws.get_object(Bucket="results", Key="labels/manifest.jsonl")["Body"].read()
    assert [json.loads(line) for line in body.splitlines()] == [label("ü b")]
    assert compact() == Compacted()
    assert [*storage.list_objects(RESULTS + parts.PREFIX)] == []

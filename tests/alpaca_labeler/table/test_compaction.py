import errno
import hashlib
import io
import itertools
import json
import tempfile
import time

import pytest

from alpaca_labeler import storage
from alpaca_labeler.table import compaction, manifest_row, merge, pair, parts
from alpaca_labeler.table.compaction import Compacted
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
    done = compact()
    assert (done.committed, done.parts, done.labels, done.failures) == (True, 2, 2, 1)
    assert done.models == ("1-a",)
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
    monkeypatch.setattr(pair, "MAX_OBJECT_BYTES", 100)
    parts.write(RESULTS, [label("a")])
    with pytest.raises(pair.TooManyRows, match="results prefix of its own"):
        compact()
    assert len(waiting(s3)) == 1


class Killed(BaseException):
    pass


def killed_at(s3, monkeypatch, operations, act=compact):
    """Stop a run before it makes one call more than `operations`; tell whether it was stopped."""
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
            act()
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


def test_an_image_left_in_both_objects_is_repaired_without_any_part(s3):
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
    real = compaction._Found

    def listed_too_early(*arguments):
        found = real(*arguments)
        monkeypatch.setattr(compaction, "_Found", real)
        compact()
        return found

    monkeypatch.setattr(compaction, "_Found", listed_too_early)
    done = compact()
    assert (done.committed, done.parts, done.labels) == (False, 0, 1)
    assert table(s3) == ([label("a")], [])


@pytest.mark.parametrize("name", NAMES)
def test_a_lost_race_is_read_again_and_merged_again(s3, monkeypatch, name):
    parts.write(RESULTS, [label("a"), failure("b")])
    compact()
    parts.write(RESULTS, [label("c"), failure("d")])
    real = storage.write_if_unchanged
    raced: list[str] = []

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


# --- when it pays --------------------------------------------------------------------------------

DAY = 86_400


def a_table_of(count):
    parts.write(RESULTS, [label(f"{number:03}") for number in range(count)])
    compact()


def test_a_few_new_rows_wait_until_merging_pays(s3):
    a_table_of(100)
    parts.write(RESULTS, [label(f"new {number}") for number in range(4)])
    assert compact(max_age=DAY) == Compacted(waiting=1)
    parts.write(RESULTS, [label("new 4"), label("new 5")])
    assert compact(max_age=DAY).parts == 2
    assert waiting(s3) == []


def test_a_part_that_has_waited_for_long_is_merged_whatever_it_costs(s3):
    from datetime import UTC, datetime, timedelta

    a_table_of(100)
    s3.clock = lambda: datetime.now(UTC) - timedelta(seconds=DAY - 60)
    parts.write(RESULTS, [label("new")])
    assert compact(max_age=DAY).parts == 0
    assert compact(max_age=DAY - 120).parts == 1


@pytest.mark.usefixtures("s3")
def test_a_compaction_started_by_hand_always_merges():
    a_table_of(100)
    parts.write(RESULTS, [label("new")])
    assert compact().parts == 1


# --- space ---------------------------------------------------------------------------------------


def never_spill(monkeypatch):
    """Fail if more than a few rows are sorted."""

    def spill(run):
        raise AssertionError(f"{len(run)} rows are sorted through a file")

    monkeypatch.setitem(merge.sort.__kwdefaults__, "run_bytes", 5000)
    monkeypatch.setattr(merge, "_spill", spill)


def test_what_a_compaction_wrote_is_never_sorted_again(s3, monkeypatch):
    a_table_of(100)
    # A crash between the two commits: each object is ours, but they are not of one merge.
    rows = b"".join(manifest_row.encode(failure(f"{number:03}", 2)) for number in range(50))
    s3.put_object("results", "labels/failures.jsonl", rows, Metadata={"mark": "of-another"})
    parts.write(RESULTS, [label("new")])
    never_spill(monkeypatch)
    done = compact()
    assert (done.labels, done.failures) == (51, 50)


def test_an_object_that_only_claims_to_be_sorted_is_refused_by_name(s3):
    rows = manifest_row.encode(label("b")) + manifest_row.encode(label("a"))
    s3.put_object("results", "labels/manifest.jsonl", rows, Metadata={"mark": "copied"})
    with pytest.raises(manifest_row.ManifestError, match=r"manifest\.jsonl: .* out of order"):
        compact()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("act", [compact, lambda: [*compaction.table(RESULTS)]])
def test_a_full_disk_is_reported_as_what_it_is(s3, monkeypatch, number, act):
    a_table_of(100)

    class Full(io.BytesIO):
        def write(self, _data):
            raise OSError(number, "full")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    parts.write(RESULTS, [label("new")])
    with pytest.raises(compaction.NoSpace, match="TMPDIR") as caught:
        act()
    held = {key: len(stored.body) for (_, key), stored in s3.objects.items()}
    needed = 2 * held.pop("labels/manifest.jsonl") + sum(held.values())
    assert f"{RESULTS}, up to {needed:,} bytes" in str(caught.value)


@pytest.mark.usefixtures("s3")
def test_a_disk_error_of_another_kind_is_not_reported_as_a_full_disk(monkeypatch):
    a_table_of(1)

    def fail():
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(OSError, match="broken"):
        [*compaction.table(RESULTS)]


# --- shards --------------------------------------------------------------------------------------


@pytest.fixture
def sixteen(monkeypatch):
    monkeypatch.setattr(pair, "DIGITS", 1)


def divide(**more):
    return compact(divide_bytes=1000, **more)


def in_shards(s3, kind):
    """Return the rows of each shard that there is."""
    return {
        key.removeprefix(f"labels/{kind}/").removesuffix(".jsonl"): [
            manifest_row.parse(line) for line in stored.body.splitlines()
        ]
        for (_, key), stored in s3.objects.items()
        if key.startswith(f"labels/{kind}/")
    }


def lines(rows):
    return [(manifest_row.encode(row), "failure" in row) for row in rows]


MANY = [(label if number % 3 else failure)(f"{number:03}") for number in range(60)]


def test_a_table_that_outgrows_one_object_is_divided(s3):
    parts.write(RESULTS, MANY)
    before = compact()
    parts.write(RESULTS, [label("new")])
    after = divide()
    assert (before.labels, before.failures) == (40, 20)
    assert (after.labels, after.failures, after.parts) == (41, 20, 1)
    assert table(s3) == ([], [])  # of the undivided objects nothing is left
    rows = in_shards(s3, "manifest")
    assert sum(map(len, rows.values())) == 41
    for shard, found in (rows | in_shards(s3, "failures")).items():
        assert len(shard) == 2
        names = [row["source-ref"] for row in found]
        assert names == sorted(names)
        assert all(hashlib.sha256(name.encode()).hexdigest()[:2] == shard for name in names)
    assert [*compaction.table(RESULTS)] == lines([*MANY, label("new")])
    assert divide() == Compacted()


@pytest.mark.usefixtures("sixteen")
def test_a_divided_table_stays_divided_and_changes_only_the_shards_with_new_rows(s3):
    parts.write(RESULTS, MANY)
    divide()
    before = dict(s3.objects)
    parts.write(RESULTS, [label("001", 2)])
    done = compact()  # whatever the limit is now
    assert (done.labels, done.failures) == (40, 20)
    changed = [key for key in before if s3.objects.get(key) is not before[key]]
    shard = pair.shard_of("s3://photos/001")
    assert sorted(changed) == [
        ("results", f"labels/failures/{shard}.jsonl"),
        ("results", f"labels/manifest/{shard}.jsonl"),
    ]
    assert divide() == Compacted()


@pytest.mark.usefixtures("s3", "sixteen")
def test_an_image_moves_between_labels_and_failures_of_its_shard():
    parts.write(RESULTS, MANY)
    divide()
    swapped = [(failure if number % 3 else label)(f"{number:03}", 2) for number in range(60)]
    parts.write(RESULTS, swapped)
    assert [*compaction.table(RESULTS)] == lines(swapped)
    done = compact()
    assert (done.labels, done.failures) == (20, 40)
    assert [*compaction.table(RESULTS)] == lines(swapped)


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize("calls", [*range(0, 73, 3), 400])
def test_a_run_over_shards_may_stop_at_any_call(s3, monkeypatch, calls):
    parts.write(RESULTS, MANY)
    compact()
    parts.write(RESULTS, [label("000", 2), failure("001", 2), label("new")])
    expected = [label("000", 2), failure("001", 2), *MANY[2:], label("new")]
    stopped = killed_at(s3, monkeypatch, calls, divide)
    assert stopped == (calls < 400)
    assert [*compaction.table(RESULTS)] == lines(expected)
    divide()
    assert waiting(s3) == []
    assert table(s3) == ([], [])
    assert [*compaction.table(RESULTS)] == lines(expected)
    assert divide() == Compacted()


@pytest.mark.usefixtures("sixteen")
def test_a_run_that_is_out_of_time_is_continued_by_the_next(s3, monkeypatch):
    parts.write(RESULTS, MANY)
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    done = divide(seconds=5)
    assert (done.committed, done.parts, done.waiting) == (True, 0, 1)
    begun = dict(s3.objects)
    assert 0 < len(in_shards(s3, "manifest")) < 10
    parts.write(RESULTS, [label("later")])  # does not make the others begin again
    done = divide()
    assert (done.parts, done.waiting) == (1, 1)
    assert all(s3.objects.get(key) is begun[key] for key in begun if "/parts/" not in key[1])
    assert divide().parts == 1
    assert [*compaction.table(RESULTS)] == lines([*MANY, label("later")])


@pytest.mark.usefixtures("sixteen")
def test_what_a_run_that_saw_no_shard_has_written_is_moved(s3):
    parts.write(RESULTS, MANY)
    divide()
    s3.put_object("results", "labels/manifest.jsonl", manifest_row.encode(label("late")))
    assert [*compaction.table(RESULTS)] == lines([*MANY, label("late")])
    assert compact().committed
    assert table(s3) == ([], [])
    assert [*compaction.table(RESULTS)] == lines([*MANY, label("late")])


@pytest.mark.usefixtures("sixteen")
def test_a_reader_finds_what_moved_into_shards_after_it_looked(s3, monkeypatch):
    parts.write(RESULTS, MANY)
    compact()
    real = storage.download

    def download(uri, file):
        monkeypatch.setattr(storage, "download", real)
        divide()
        return real(uri, file)

    monkeypatch.setattr(storage, "download", download)
    assert [*compaction.table(RESULTS)] == lines(MANY)
    assert table(s3) == ([], [])


@pytest.mark.usefixtures("s3")
def test_a_reader_does_not_miss_an_image_that_moves_while_it_reads(monkeypatch):
    parts.write(RESULTS, [label("a"), failure("b")])
    compact()
    real = storage.download

    def download(uri, file):
        if uri.endswith("failures.jsonl"):
            monkeypatch.setattr(storage, "download", real)
            parts.write(RESULTS, [label("b", 2)])
            compact()
        return real(uri, file)

    monkeypatch.setattr(storage, "download", download)
    assert [*compaction.table(RESULTS)] == lines([label("a"), label("b", 2)])


@pytest.mark.usefixtures("s3", "sixteen")
@pytest.mark.parametrize("act", [compact, divide], ids=["whole", "divided"])
def test_the_mark_of_the_table_changes_with_its_content_only(act):
    parts.write(RESULTS, MANY)
    first = act().mark
    parts.write(RESULTS, [label("001", minute=9)])  # the same again
    assert act().mark == first
    parts.write(RESULTS, [label("001", 2)])
    assert act().mark != first


@pytest.mark.usefixtures("s3")
def test_a_prefix_without_labels_is_not_an_empty_table():
    with pytest.raises(storage.NotFound, match=r"s3://results/labels/: there are no labels"):
        [*compaction.table(RESULTS)]


def test_the_table_reads_as_json_lines_on_real_s3_calls(aws):
    aws.create_bucket(Bucket="results")
    parts.write(RESULTS, [label("ü b"), failure("c")])
    assert compact().committed
    body = aws.get_object(Bucket="results", Key="labels/manifest.jsonl")["Body"].read()
    assert [json.loads(line) for line in body.splitlines()] == [label("ü b")]
    assert compact() == Compacted()
    assert [*storage.list_objects(RESULTS + parts.PREFIX)] == []

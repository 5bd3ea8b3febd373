"""Counts of a table: true, in one reading and in flat memory."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.table import counts
from alpaca_labeler.table.counts import FOLDERS, OTHERS, Counts
from alpaca_labeler.table.row import Row
from tests.support.rows import failure, human, label


def counted(*rows, **sizes):
    found = Counts(**sizes)
    for row in rows:
        found.add(row)
    return found


def test_labels_people_and_failures_are_counted():
    found = counted(label("a"), label("b", probability=0.2), human("c"), failure("d"), Row("e"))
    assert (found.rows, found.progress.decided, found.failed, found.unlabelled) == (5, 1, 1, 1)
    assert found.labels == {(1, "alpaca"): 1, (0, "not"): 2}
    assert {code: reason.count for code, reason in found.reasons.items()} == {"corrupt": 1}
    said = counted(human("a", was="alpaca"), human("b", was="not"), human("c")).progress
    assert (said.decided, said.changed, said.confirmed) == (3, 1, 2)


def test_photos_are_counted_by_folder():
    found = counted(label("a.jpg"), label("farm/b.jpg"), failure("farm/c.jpg"))
    assert found.folders == {"s3://photos": [1, 0, 0, 0], "s3://photos/farm": [1, 0, 1, 0]}
    found = counted(*(label(f"{number}/a.jpg") for number in range(FOLDERS + 7)))
    assert len(found.folders) == FOLDERS + 1
    assert found.folders[OTHERS] == [7, 0, 0, 0]


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(0, 9))
def test_the_least_certain_are_those_nearest_to_the_threshold(percents, size):
    rows = [label(f"{place}", probability=each / 100) for place, each in enumerate(percents)]
    expected = sorted(rows, key=lambda row: abs(row.probability - 0.5))
    decided = human("decided")  # by a person: not uncertain
    assert counted(decided, *rows, least=size).least_certain() == expected[:size]


def test_each_class_has_a_sample_of_its_own():
    rows = [label("a"), label("b", probability=0.2), label("c"), failure("d")]
    assert counted(*rows, sample=5).sampled() == ([rows[0], rows[2]], [rows[1]])


@given(st.integers(0, 300), st.integers(0, 9))
def test_a_sample_is_in_order_and_has_as_many_rows_as_asked(rows, size):
    drawn = sampled(rows, size)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == min(rows, size)


def test_every_row_is_equally_likely_to_be_sampled(monkeypatch):
    drawn: Counter[int] = Counter()
    for seed in range(2000):
        monkeypatch.setattr(counts, "_SEED", seed)
        drawn.update(sampled(50, 5))
    # Each is expected 200 times, with a standard deviation of 13.4: five of them either way.
    assert sorted(drawn) == list(range(50))
    assert 133 < min(drawn.values()) <= max(drawn.values()) < 267


def sampled(rows, size):
    sample, _ = counted(*(label(f"{number}") for number in range(rows)), sample=size).sampled()
    return [int(row.source_ref.rpartition("/")[2]) for row in sample]

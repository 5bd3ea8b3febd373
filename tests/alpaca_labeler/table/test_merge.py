"""Sorted streams of rows into one, whatever came before."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import manifest_row, merge
from alpaca_labeler.table.manifest_row import Failure, ManifestError

START = datetime(2026, 1, 1, tzinfo=UTC)


def line(name, version=1, model=1, minute=0):
    """A row of a history in which sequencers and dates agree."""
    image = ImageVersion(
        f"s3://b/{name}",
        version,
        f"2026-01-01T00:00:{version:02d}Z",
        f"e{version}",
        None,
        f"{version:04X}",
    )
    made = START + timedelta(minutes=minute)
    row = manifest_row.failure_row(image, Failure("empty", ""), f"{model}-a", made)
    return row["source-ref"], manifest_row.encode(row)


histories = st.lists(
    st.builds(
        line, st.sampled_from("abcü"), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2)
    ),
    max_size=12,
)


def merged(*streams):
    return [line for line, _ in merge.merge(*(merge.sort(stream) for stream in streams))]


def keyed(lines):
    return list(merge.read(io.BytesIO(b"".join(lines)), "merged"))


@given(histories)
def test_merging_again_changes_nothing(rows):
    once = merged(rows)
    assert merged(keyed(once)) == merged(keyed(once), rows) == once


@given(histories, histories, histories)
def test_the_order_of_merging_does_not_matter(a, b, c):
    everything = merged(a, b, c)
    assert merged(keyed(merged(a, b)), c) == merged(a, keyed(merged(b, c))) == everything
    assert merged(c, b, a) == everything


@given(histories)
def test_every_image_has_one_row(rows):
    names = [name for name, _ in keyed(merged(rows))]
    assert names == sorted({name for name, _ in rows})


@given(histories, st.integers(1, 2000))
def test_sorting_with_temporary_files_is_sorting(rows, run_bytes):
    assert list(merge.sort(rows, run_bytes=run_bytes)) == sorted(rows, key=itemgetter(0))


def test_sorting_is_stable_over_temporary_files():
    rows = [line("a", minute=minute) for minute in range(50)]
    assert list(merge.sort(rows, run_bytes=1000)) == rows


def test_a_choice_is_given_rows_in_the_order_of_their_streams():
    seen: list[str] = []

    def choose(rows):
        seen.extend(manifest_row.created(row) for row in rows)
        return rows[0]

    streams = [[line("a", minute=minute)] for minute in (2, 0, 1)]
    list(merge.merge(*streams, choose=choose))
    assert [moment[14:16] for moment in seen] == ["02", "00", "01"]


def test_the_line_of_the_chosen_row_is_copied_byte_by_byte():
    spaced = b'{"source-ref":"a", "x":1}\n'
    other = b'{"x":2,"source-ref":"a"}\n'
    [(found, is_failure)] = merge.merge(
        [("a", other)], [("a", spaced)], choose=lambda rows: rows[1]
    )
    assert found == spaced
    assert not is_failure


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"source-ref":"a"}\n{"source-', "m.jsonl: line 2: not JSON"),
        (b'\n\n{"source-ref":"a"}\nhello\n', "m.jsonl: line 4: not JSON"),
        (b'{"source-ref":"a"}\n{}\n', "m.jsonl: line 2: no `source-ref`"),
        (b'{"source-ref":"a"}\n' + b"x" * (merge.MAX_LINE_BYTES + 1), "m.jsonl: line 2 is longer"),
        (b"\0\0\0\0\n", "m.jsonl: line 1: not JSON"),
    ],
)
def test_a_broken_line_is_named_with_its_file(text, message):
    with pytest.raises(ManifestError, match=message.replace(".", r"\.")):
        list(merge.read(io.BytesIO(text), "m.jsonl"))


def test_blank_lines_and_a_missing_last_newline_are_no_matter():
    text = b'\n{"source-ref":"a"}\r\n \n{"source-ref":"b"}'
    assert [name for name, _ in merge.read(io.BytesIO(text), "m")] == ["a", "b"]

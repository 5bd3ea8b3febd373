"""The form of a row, and which of several rows stands for an image."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.model import bundle
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import manifest_row
from alpaca_labeler.table.manifest_row import Failure, ManifestError

CARD = bundle.Card(
    "20260101T000000Z-abc",
    "alpaca",
    ("not alpaca", "alpaca"),
    0.5,
    (0.2, 0.8),
    256,
    "",
    (1.0, 0.0),
    "",
)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
VERSION = ImageVersion(
    "s3://photos/farm/red flower+ü.jpg", 123456, "2026-01-31T11:59:58Z", "etag", None, "0A"
)


def test_a_label_row_is_written_letter_by_letter_like_this():
    row = manifest_row.label_row(VERSION, (1024, 768), decide(CARD, 3.5872), CARD, NOON)
    assert manifest_row.encode(row).decode() == (
        '{"source-ref":"s3://photos/farm/red flower+ü.jpg","alpaca":1,"alpaca-metadata":'
        '{"class-name":"alpaca","confidence":0.9731,"type":"groundtruth/image-classification",'
        '"job-name":"labeling-job/20260101T000000Z-abc","human-annotated":"no",'
        '"creation-date":"2026-01-31T12:00:00.000000"},'
        '"labeler":{"model-version":"20260101T000000Z-abc","probability":0.9731,"threshold":0.5,'
        '"needs-review":false,"etag":"etag","version-id":null,"sequencer":"0A",'
        '"last-modified":"2026-01-31T11:59:58Z","size":123456,"width":1024,"height":768}}\n'
    )


def test_a_failure_row_is_written_letter_by_letter_like_this():
    row = manifest_row.failure_row(
        ImageVersion("a.jpg", 0), Failure("empty", "no bytes"), "1-a", NOON
    )
    assert manifest_row.encode(row).decode() == (
        '{"source-ref":"a.jpg","failure":{"code":"empty","message":"no bytes",'
        '"creation-date":"2026-01-31T12:00:00.000000"},"labeler":{"model-version":"1-a",'
        '"etag":null,"version-id":null,"sequencer":null,"last-modified":null,"size":0}}\n'
    )


def test_a_message_that_quotes_a_name_that_is_not_utf_8_can_be_written():
    row = manifest_row.failure_row(VERSION, Failure("corrupt", "bad\udcff.jpg"), "1-a", NOON)
    assert json.loads(manifest_row.encode(row))["failure"]["message"] == "bad\\udcff.jpg"


def test_dates_are_written_in_utc():
    assert manifest_row.timestamp(NOON.astimezone(timezone(timedelta(hours=9)))) == (
        "2026-01-31T12:00:00.000000"
    )


@given(st.text(min_size=1).filter(lambda text: text.isprintable() or "\n" in text))
def test_a_row_is_one_line_and_reads_back(name):
    row = manifest_row.failure_row(ImageVersion(name), Failure("empty", name), "1-a", NOON)
    line = manifest_row.encode(row)
    assert line.count(b"\n") == 1
    assert manifest_row.parse(line) == row


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"null", b"{}", b'{"source-ref": 7}', b"\xff", b'{"a":1}{"b":2}']
)
def test_a_line_that_is_not_a_row_is_refused(line):
    with pytest.raises(ManifestError):
        manifest_row.parse(line)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["failure", "labeler", "x-metadata", "x"]), json_values))
def test_any_row_of_another_tool_can_be_read_and_ranked(extra):
    row = {"source-ref": "a", **extra}
    for read in (
        manifest_row.created,
        manifest_row.model_version,
        manifest_row.version_of,
        manifest_row.is_human,
    ):
        read(row)
    assert manifest_row.winner([row, {"source-ref": "a"}]) in [row, {"source-ref": "a"}]


# --- which row wins ------------------------------------------------------------------------------


def row(number=1, *, seq=None, lm=None, model="1-a", human=False, failed=False, minute=0, vid=None):
    """A row of the image's version `number`."""
    version = ImageVersion(
        "s3://b/a.jpg", number, lm or f"2026-01-01T00:00:{number:02d}Z", f"e{number}", vid, seq
    )
    made = NOON + timedelta(minutes=minute)
    if failed:
        return manifest_row.failure_row(version, Failure("corrupt", ""), model, made)
    found = manifest_row.label_row(version, (1, 1), decide(CARD, 1.0), CARD, made)
    found["labeler"]["model-version"] = model
    if human:
        found["alpaca-metadata"]["human-annotated"] = "yes"
    return found


UNSEEN = manifest_row.failure_row(
    ImageVersion("s3://b/a.jpg"), Failure("unreadable", ""), "1-a", NOON + timedelta(minutes=9)
)
SECOND = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("wins", "loses"),
    [
        pytest.param(row(2), row(1), id="newer version"),
        pytest.param(row(2), row(1, human=True), id="newer version over a person's older one"),
        pytest.param(row(2, failed=True), row(1), id="a newer version's failure"),
        pytest.param(row(2), row(1, model="9-f", minute=9), id="newer version over newer model"),
        pytest.param(row(1, lm=SECOND, seq="0B"), row(2, lm=SECOND, seq="0A"), id="sequencer"),
        pytest.param(row(1, seq="0B"), row(2, seq="0A"), id="sequencer before the date"),
        pytest.param(row(1, lm=SECOND, seq="0A"), row(2, lm=SECOND, seq="09FF"), id="padded right"),
        pytest.param(row(2), row(1, seq="FF"), id="date, where one has no sequencer"),
        pytest.param(row(1, lm=SECOND, minute=1), row(2, lm=SECOND), id="read later in a second"),
        pytest.param(row(human=True), row(model="9-f", minute=9), id="person over model"),
        pytest.param(
            row(human=True, seq="0A"),
            row(failed=True, lm="2026-01-01T00:00:09Z", seq="0A"),
            id="person over an announcement of the same version that nothing was found of",
        ),
        pytest.param(
            row(human=True, minute=2), row(human=True, minute=1), id="person's last label"
        ),
        pytest.param(row(), row(failed=True, model="9-f"), id="label over failure"),
        pytest.param(row(model="2-a"), row(model="1-a", minute=9), id="newer model"),
        pytest.param(row(minute=1), row(minute=2), id="what was first, of equals"),
    ],
)
def test_winner(wins, loses):
    assert manifest_row.winner([wins, loses]) is wins
    assert manifest_row.winner([loses, wins]) is wins


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        pytest.param([row(2), row(1)], 1, id="what was seen last, whatever the dates"),
        pytest.param([row(model="9-f"), row(model="1-a")], 1, id="the model asked last"),
        pytest.param([row(human=True), row(model="9-f")], 0, id="a person of the same version"),
        pytest.param([row(1, human=True), row(2)], 1, id="a person of another version"),
        pytest.param([row(human=True), row(human=True, minute=1)], 1, id="a person's last label"),
        pytest.param([row(), row(failed=True)], 1, id="a failure seen last"),
        pytest.param([row(human=True), UNSEEN], 0, id="a person of a file that is out of reach"),
        pytest.param([row(1, human=True), row(2), UNSEEN], 2, id="but not of its earlier version"),
    ],
)
def test_latest(rows, place):
    assert manifest_row.latest(rows) is rows[place]


any_row = st.builds(
    row,
    st.integers(1, 3),
    seq=st.sampled_from([None, "0A", "0B", "0a", "0A00"]),
    lm=st.sampled_from([None, SECOND]),
    model=st.sampled_from(["1-a", "2-b"]),
    human=st.booleans(),
    failed=st.booleans(),
    minute=st.integers(0, 2),
    vid=st.sampled_from([None, "v"]),
)


@given(st.lists(any_row, min_size=1, max_size=6), st.randoms())
def test_the_winner_does_not_depend_on_the_order(rows, random):
    won = manifest_row.winner(rows)
    random.shuffle(rows)
    assert manifest_row.encode(manifest_row.winner(rows)) == manifest_row.encode(won)


def content(etag="e1", day=1, **facts):
    """A row of an image whose content is `etag`, uploaded on a day of January."""
    size = int(etag[1:])
    return row(size, lm=f"2026-01-{day:02d}T00:00:00Z", **facts)


@given(st.permutations(range(3)))
def test_the_same_content_uploaded_again_keeps_a_persons_label(order):
    said = content(human=True, minute=3)
    rows = [content(seq="0A"), said, content(day=9, seq="0B", model="9-f", minute=5)]
    won = manifest_row.winner([rows[place] for place in order])
    assert manifest_row.is_human(won)
    assert won["labeler"]["last-modified"] == "2026-01-09T00:00:00Z"
    assert won["labeler"]["sequencer"] == "0B"
    assert won["alpaca-metadata"] == said["alpaca-metadata"]


def test_a_local_copy_with_another_date_keeps_a_persons_label():
    said = content(human=True)
    won = manifest_row.latest([said, content(day=9)])
    assert won["alpaca-metadata"] == said["alpaca-metadata"]
    assert won["labeler"]["last-modified"] == "2026-01-09T00:00:00Z"
    assert manifest_row.latest([content(day=9, human=True), content(day=1)])["labeler"][
        "last-modified"
    ] == ("2026-01-01T00:00:00Z")


def test_a_row_that_does_not_know_the_content_is_told_by_date_and_size():
    said = row(human=True)
    said["labeler"]["etag"] = None
    won = manifest_row.winner([row(), said])
    assert manifest_row.is_human(won)
    assert won["labeler"]["etag"] == "e1"
    assert manifest_row.winner([row(2), said]) == row(2)


def gone(until_day):
    """The row of a photo that is gone, all uploads up to a day of January."""
    return manifest_row.gone(content(), f"2026-01-{until_day:02d}T00:00:00Z")


def in_steps(rows, cut):
    return manifest_row.winner([manifest_row.winner(rows[:cut]), *rows[cut:]])


LATE = [content(human=True), content(failed=True), content(seq="0A", model="9-f")]


@given(st.permutations([gone(5), *LATE]), st.integers(1, 4))
def test_no_late_row_brings_back_a_photo_that_is_gone(rows, cut):
    assert manifest_row.is_gone(manifest_row.winner(rows))
    assert in_steps(rows, cut) == manifest_row.winner(rows)


@given(st.permutations([gone(5), content(day=6, minute=9), *LATE[:2]]), st.integers(1, 4))
def test_a_photo_that_is_uploaded_again_has_the_label_of_before(rows, cut):
    won = manifest_row.winner(rows)
    assert manifest_row.is_human(won)
    assert in_steps(rows, cut) == won
    assert manifest_row.winner([won, content(), gone(4)]) == won
    assert manifest_row.winner([won, content("e2", day=7)]) == content("e2", day=7)
    assert manifest_row.is_gone(manifest_row.winner([won, gone(8)]))


def test_the_winner_carries_its_versions_sequencer():
    first, announced = row(minute=1), row(seq="0A", minute=2)
    winner = manifest_row.winner([announced, first])
    assert manifest_row.version_of(winner).sequencer == "0A"
    assert manifest_row.created(winner) == manifest_row.created(first)
    assert manifest_row.version_of(first).sequencer is None


# A version is read while it is the current one, so its rows are made before the next version's.
true_row = st.builds(
    lambda number, announced, model, read: row(
        number,
        lm=f"2026-01-01T00:00:{number // 3:02d}Z",
        seq=f"{number:02X}" if announced else None,
        model=f"{model}-a",
        minute=10 * number + read,
    ),
    st.integers(1, 6),
    st.booleans(),
    st.integers(1, 2),
    st.integers(0, 3),
)
true_rows = st.lists(true_row, min_size=1, max_size=5)


@given(true_rows, true_rows)
def test_of_what_can_happen_the_newest_version_wins_in_whatever_order_it_is_merged(a, b):
    at_once = manifest_row.winner(a + b)
    assert at_once["labeler"]["size"] == max(each["labeler"]["size"] for each in a + b)
    assert manifest_row.winner([manifest_row.winner(a), *b]) == at_once
    assert manifest_row.winner([*a, manifest_row.winner(b)]) == at_once


@given(st.lists(any_row, min_size=1, max_size=6))
def test_the_winner_wins_again_over_everything_it_has_beaten(rows):
    won = manifest_row.winner(rows)
    assert manifest_row.winner([won]) is won
    assert manifest_row.encode(manifest_row.winner([*rows, won])) == manifest_row.encode(won)

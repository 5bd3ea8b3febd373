"""One row of a photo: its merge, what follows from it, and the rows of other tools."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.table.facts import moment, timestamp
from alpaca_labeler.table.row import ManifestError, Row, merge, merged
from tests.support.rows import ground_truth, reading

NAME = "s3://photos/a.jpg"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
MOMENTS_ELSEWHERE = ["2026-01-31T12:00:00", "2026-01-31T13:00:00+01:00", "2026-01-31T12:00Z"]

# Few values each, so that histories meet in every way: equal dates, former contents, both labels.
moments = st.sampled_from(
    [
        *("", "9999-12-31T23:59:59.999999", "31/01/2026", "2026-02-01"),
        *("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000001Z", "2026-01-31T12:00:01Z"),
        "2026-01-31T13:00:00+01:00",
    ]
)
contents = st.sampled_from(["sha256:aa", "sha256:bb", ""])
labels = st.sampled_from(["alpaca", "not alpaca"])
texts = st.sampled_from([None, "", "A1", "A10", "0b"])


def line(**labeler: object) -> bytes:
    return json.dumps({"source-ref": NAME, "labeler": labeler}).encode()


reads = st.builds(
    lambda **read: {key: value for key, value in read.items() if value is not None},
    at=moments,
    content=contents,
    etag=texts,
    sequencer=texts,
    **{"last-modified": st.sampled_from([None, "2026-01-31T11:59:58Z", "2026-01-31T11:59:59Z"])},
)
answers = st.builds(
    lambda model, label, p: {"model": model, "label": label, "probability": p, "index": 1},
    st.sampled_from(["m1", "m2"]),
    labels,
    st.sampled_from([0.1, 0.9]),
) | st.just({"model": "m1", "failure": {"code": "corrupt", "message": "cut short"}})
decisions = st.builds(
    lambda at, who, label: {"at": at, "who": who, "label": label},
    moments,
    st.sampled_from(["kim", "ann"]),
    labels | st.none(),
)


lines = (
    st.builds(lambda read, answer: line(read=read, answer=answer), reads, answers)
    | st.builds(lambda content, said: line(people={content: said}), contents, decisions)
    | st.builds(lambda at: line(gone=at), moments)
    | st.builds(
        lambda *said: json.dumps(ground_truth(NAME, *said)).encode(),
        moments,
        labels,
        st.sampled_from(["yes", "no"]),
    )
    | st.just(json.dumps({"source-ref": NAME, "boxes": 3}).encode())
)
histories = st.lists(lines, min_size=1, max_size=7)


@given(histories, st.data())
def test_rows_merge_to_the_same_in_any_order_and_any_grouping(history, data):
    rows = [Row.from_line(each) for each in history]
    expected = merged(rows)
    shuffled = data.draw(st.permutations(rows))
    # Compacted at any point: some are merged, written, read, and meet the rest, some of them twice.
    cut = data.draw(st.integers(0, len(rows)))
    compacted = [Row.from_line(merged(shuffled[:cut]).to_line())] if cut else []
    assert merged([*shuffled[cut:], *compacted, *data.draw(st.permutations(shuffled))]) == expected


@given(histories)
def test_a_merged_row_is_what_the_table_of_facts_says(history):
    row = merged(map(Row.from_line, history))
    oracle = Oracle(history)
    assert (row.label, row.failure and row.failure.code) == oracle.says()
    assert row.hidden == oracle.is_hidden()
    assert (row.decision and row.decision.who) == oracle.who()


@given(histories)
def test_a_line_says_what_its_row_says(history):
    row = merged(map(Row.from_line, history))
    assert Row.from_line(row.to_line()) == row
    assert Row.from_line(row.to_line()).to_line() == row.to_line()


class Oracle:
    """The three facts, kept as lists of all that was ever said, and decided when asked."""

    def __init__(self, history: list[bytes]) -> None:
        self.reads: list[tuple[Any, dict[str, Any], dict[str, Any]]] = []
        self.said: list[tuple[str, datetime, str, dict[str, Any]]] = []
        self.gone = [moment_of("")]
        for each in map(json.loads, history):
            block = each.get("labeler", {})
            if (metadata := each.get("animal-metadata")) is not None:
                at, label = metadata["creation-date"], metadata["class-name"]
                index = int(label == "alpaca")
                said = {"label": label, "index": index, "attribute": "animal"}
                if metadata["human-annotated"] == "yes":
                    self.decide("", said | {"at": at})
                else:
                    p = 0.7 if index else 0.3
                    self.read({"at": at}, said | {"probability": p, "needs-review": False})
            if "read" in block:
                answer = block["answer"]
                self.read(block["read"], answer | {"needs-review": False})
            for content, said in block.get("people", {}).items():
                self.decide(content, said)
            self.gone.append(moment_of(block.get("gone", "")))

    def read(self, read: dict[str, Any], answer: dict[str, Any]) -> None:
        order = (
            moment_of(read["at"]),
            read.get("last-modified") or "",
            (read.get("sequencer") or "").upper().ljust(64, "0"),
        )
        self.reads.append((order, read, answer))

    def decide(self, content: str, said: dict[str, Any]) -> None:
        self.said.append((content, moment_of(said["at"]), said.get("who", ""), said))

    def last_read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if not self.reads:
            return {}, {}
        last = max(order for order, *_ in self.reads)
        equal = [(read, answer) for order, read, answer in self.reads if order == last]
        # The greater text, whichever that is.
        rows = [Row.from_line(line(read=read, answer=answer)) for read, answer in equal]
        return equal[rows.index(merged(rows))]

    def standing(self) -> list[dict[str, Any]]:
        content = self.last_read()[0].get("content")
        about = [s for s in self.said if not content or s[0] in {content, ""}]
        last = max((at for _, at, *_ in about), default=None)
        return [said for _, at, _, said in about if at == last]

    def says(self) -> tuple[str | None, str | None]:
        equal = self.standing()
        said = self.among(equal)
        if said and said["label"] is not None:
            return said["label"], None
        answer = self.last_read()[1]
        if "failure" in answer:
            return None, answer["failure"]["code"]
        return answer.get("label"), None

    def among(self, equal: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Of decisions of one moment the greater text: any of them, but always the same."""
        if not equal:
            return None
        rows = [Row.from_line(line(people={"x": said})) for said in equal]
        return equal[rows.index(merged(rows))]

    def who(self) -> str | None:
        said = self.among(self.standing())
        return said.get("who", "") if said and said["label"] is not None else None

    def is_hidden(self) -> bool:
        gone = max(self.gone)
        read = self.last_read()[0]
        return gone > moment_of("") and gone >= moment_of(read.get("at", ""))


def moment_of(value: str) -> datetime:
    earliest = datetime(1, 1, 1, tzinfo=UTC)
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return earliest
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found if found.year <= 9000 else earliest


def read_row(content, at=NOON, **more):
    return reading(NAME, timestamp(at), content, **more)


@given(
    histories, st.datetimes(timezones=st.just(UTC), max_value=NOON.replace(year=8999, tzinfo=None))
)
def test_whoever_decides_last_is_believed_whatever_the_clocks_say(history, now):
    row = merged(map(Row.from_line, history))
    after = merge(row, row.decided("goat", "lee", now, index=0, attribute="alpaca"))
    assert (after.label, after.decision and after.decision.who) == ("goat", "lee")
    back = merge(after, after.decided(None, "lee", datetime(1990, 1, 1, tzinfo=UTC)))
    assert back.decision is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((other, "2026-01-31T12:00:00.000000Z") for other in MOMENTS_ELSEWHERE),
        *((ours, ours) for ours in ("2026-02-28T23:59:59.999999Z", "2024-02-29T00:00:00.000000Z")),
        # Shaped like ours, and no dates.
        *((f"{day}T12:00:00.000000Z", "") for day in ("2026-02-29", "2026-13-01", "0000-01-01")),
        *((f"2026-01-01T{time}.000000Z", "") for time in ("24:00:01", "12:60:00", "12:00:60")),
        *((no_date, "") for no_date in ("zzzz", "31/01/2026", "", None, 7)),
        *((late, "") for late in ("9999-12-31T23:59:59.999999", "9001-01-01T00:00:00.000000Z")),
    ],
)
def test_moments_compare_as_text_and_what_is_no_date_is_the_earliest(text, expected):
    assert moment(text) == expected


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_of_ours_is_read_as_it_was_written(at):
    assert moment(timestamp(at)) == timestamp(at)


def test_a_written_row_is_one_that_ground_truth_reads():
    row = read_row("sha256:aa")
    row = merge(row, row.decided("not alpaca", "kim", NOON))
    found = json.loads(row.to_line())
    assert found["alpaca"] == 0
    assert found["alpaca-metadata"] == {
        "class-name": "not alpaca",
        "confidence": 1.0,
        "type": "groundtruth/image-classification",
        "job-name": "labeling-job/review",
        "human-annotated": "yes",
        "creation-date": "2026-01-31T12:00:00.000001",
    }
    assert found["labeler"]["answer"]["label"] == "alpaca"
    assert "alpaca" not in json.loads(replace(row, gone=timestamp(NOON)).to_line())


def test_of_several_labels_the_image_label_counts_and_the_others_are_named():
    other = {"class-name": "sheep", "type": "groundtruth/image-classification"}
    row = {
        "source-ref": NAME,
        "boxes-metadata": {"type": "groundtruth/object-detection", "class-map": {"0": "x"}},
        "verdict-metadata": {"class-name": "correct", "type": "groundtruth/label-verification"},
        "animal": "1",
        "animal-metadata": {**other, "class-name": "alpaca", "confidence": 0.8},
        "second": 0,
        "second-metadata": other,
    }
    found = Row.from_line(json.dumps(row).encode())
    assert (found.label, found.index, found.attribute) == ("alpaca", 1, "animal")
    assert found.ambiguous == ("animal", "second")


@pytest.mark.parametrize("attribute", ["source-ref", "labeler", "x-metadata"])
def test_a_label_never_takes_the_place_of_the_names_of_a_row(attribute):
    answer = {"label": "a", "index": 1, "attribute": attribute}
    row = Row.from_line(json.dumps({"source-ref": NAME, "labeler": {"answer": answer}}).encode())
    assert Row.from_line(row.to_line()) == row


NO_UTF8 = b'{"source-ref": "a", "x": "\xff", "labeler": {"gone": "2026-01-31T12:00:00.000000Z"}}'
BAD = [b"{", b"[]", b"7", b'{"source-ref": 3}', b'{"a": 1}', b"\xff\xfe{\0", b'"x"', b"[" * 2000]


@pytest.mark.parametrize("bad", [*BAD, NO_UTF8])
def test_a_line_that_is_no_row_is_refused(bad):
    with pytest.raises(ManifestError):
        Row.from_line(bad)


KEYS = "read answer people gone at content failure label index x-metadata class-name type".split()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda some: st.lists(some) | st.dictionaries(st.sampled_from(KEYS), some),
    )
)
def test_whatever_a_row_holds_it_can_be_read_merged_and_written(junk):
    try:
        text = json.dumps({"source-ref": NAME, "labeler": junk, "x-metadata": junk})
        row = Row.from_line(text.encode())
    except ManifestError:
        return  # numbers, or halves of characters, that strict JSON refuses
    assert Row.from_line(merge(row, replace(row)).to_line()).source_ref == NAME

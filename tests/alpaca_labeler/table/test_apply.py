"""People's rows in a manifest: which are applied, and that no model's row ever displaces one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpaca_labeler import storage
from alpaca_labeler.model.bundle import Card
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import apply, compaction, corrections, manifest_row, parts
from alpaca_labeler.table.ledger import Ledger
from alpaca_labeler.table.manifest_row import Failure
from tests.support.aws import account
from tests.support.fake_s3 import FakeS3

RESULTS = "s3://results/labels/"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLASSES = ("not alpaca", "alpaca")


def at(second):
    return NOON + timedelta(seconds=second)


def image(name, number=1, *, seq=False):
    """A version of an image: a file if its name is not a URI."""
    on_s3 = storage.is_s3(name)
    return ImageVersion(
        name,
        size=number,
        last_modified=f"2026-01-01T00:00:{number:02d}" + ("Z" if on_s3 else ".000000000Z"),
        etag=f"e{number}" if on_s3 else None,
        sequencer=f"{number:04X}" if seq else None,
    )


def label(version, second=0, *, model="1-a", logit=1.0):
    card = Card(model, "alpaca", CLASSES, 0.5, (0.4, 0.6), 8, "", (1.0, 0.0), "")
    return manifest_row.label_row(version, (4, 3), decide(card, logit), card, at(second))


def failure(version, second=0, *, model="1-a", code="corrupt"):
    return manifest_row.failure_row(version, Failure(code, "broken"), model, at(second))


def person(row, index=0, second=30, name="ann"):
    """What a person says of the image that `row` is about."""
    said = {
        "class-name": CLASSES[index],
        "confidence": 1.0,
        "type": manifest_row.TASK_TYPE,
        "job-name": "labeling-job/review",
        "human-annotated": "yes",
        "creation-date": manifest_row.timestamp(at(second)),
    }
    return {
        "source-ref": row["source-ref"],
        "alpaca": index,
        "alpaca-metadata": said,
        "labeler": {**row["labeler"], "annotator": name},
    }


def by_name(*rows):
    said: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        said.setdefault(row["source-ref"], []).append(row)
    return said


class Local:
    """A manifest on this machine."""

    def __init__(self, folder):
        self.paths = str(folder / "manifest.jsonl"), str(folder / "failures.jsonl")

    def write(self, *rows, settle=True):
        with Ledger(*self.paths) as ledger:
            for row in rows:
                ledger.append(row)
            if settle:
                ledger.settle()

    def apply(self, *rows, dry_run=False):
        return apply.to_files(by_name(*rows), *self.paths, dry_run=dry_run)

    def table(self):
        rows = [manifest_row.parse(line) for line, _ in Ledger(*self.paths).table()]
        return {row["source-ref"]: row for row in rows}

    def content(self):
        return [Path(path).read_bytes() if Path(path).exists() else b"" for path in self.paths]


class Bucket:
    """A table in S3."""

    def write(self, *rows, **_):
        parts.write(RESULTS, rows)

    def apply(self, *rows, dry_run=False):
        return apply.to_bucket(by_name(*rows), RESULTS, dry_run=dry_run)

    def table(self):
        rows = [manifest_row.parse(line) for line, _ in compaction.table(RESULTS, missing_ok=True)]
        assert len({row["source-ref"] for row in rows}) == len(rows)
        return {row["source-ref"]: row for row in rows}

    def content(self):
        return [(each.source_ref, each.etag) for each in storage.list_objects(RESULTS)]


@pytest.fixture(params=["a file", "a bucket"])
def place(request, tmp_path, monkeypatch):
    """A manifest, and the name of an image that may stand in it."""
    if request.param == "a file":
        return Local(tmp_path), "a.jpg"
    fake = FakeS3()
    monkeypatch.setattr(storage, "client", lambda: fake)
    return Bucket(), "s3://photos/a.jpg"


# --- which rows are taken in ---------------------------------------------------------------------


def test_a_persons_row_replaces_a_models_once(place):
    table, name = place
    row = label(image(name))
    table.write(row)
    said = person(row)
    assert table.apply(said).rows == [said]
    assert table.table() == {name: said}
    before = table.content()
    again = table.apply(said)
    assert (again.rows, again.left) == ([], {apply.KNOWN: 1})
    assert table.content() == before


def test_a_failure_that_a_person_labels_is_no_longer_a_failure(place):
    table, name = place
    row = failure(image(name))
    table.write(row)
    table.apply(person(row, 1))
    assert table.table() == {name: person(row, 1)}
    assert not manifest_row.is_failure(table.table()[name])


def test_a_dry_run_says_the_same_and_writes_nothing(place):
    table, name = place
    row = label(image(name))
    table.write(row)
    before = table.content()
    assert table.apply(person(row), dry_run=True).rows == [person(row)]
    assert table.content() == before


@pytest.mark.parametrize("order", [1, -1])
def test_the_last_correction_counts_in_any_order_of_rows(place, order):
    table, name = place
    row = label(image(name))
    table.write(row)
    words = [person(row, 0, 1), person(row, 1, 3), person(row, 0, 2)][::order]
    table.apply(*words)
    assert table.table()[name] == person(row, 1, 3)
    table.apply(words[0], words[2])
    assert table.table()[name] == person(row, 1, 3)


def test_a_person_may_go_back_to_an_earlier_label_before_anything_is_compacted(place):
    table, name = place
    row = label(image(name))
    table.write(row)
    for second, index in enumerate((0, 1, 0)):
        table.apply(person(row, index, second))
    assert table.table()[name] == person(row, 0, 2)


def test_a_row_of_another_version_is_skipped(place):
    table, name = place
    old, new = label(image(name, 1)), label(image(name, 2), 9)
    table.write(new)
    plan = table.apply(person(old))
    assert (plan.rows, plan.left) == ([], {apply.OUTDATED: 1})
    assert table.table() == {name: new}


def test_a_row_of_a_photo_without_a_row_is_added(place):
    table, name = place
    said = person(label(image(name)))
    assert table.apply(said).rows == [said]
    assert table.table() == {name: said}


def test_a_row_of_another_tool_is_of_the_version_that_is_there(place):
    table, name = place
    row = label(image(name))
    bare = {key: value for key, value in person(row).items() if key != "labeler"}
    assert table.apply(bare).left == {apply.UNNAMED: 1}
    table.write(row)
    table.apply(bare)
    table.write(label(image(name), model="9-z", second=50))
    found = table.table()[name]
    assert {key: found[key] for key in bare} == bare
    assert manifest_row.same_version(found, row)
    assert found["labeler"]["model-class-name"] == manifest_row.label(row)


def test_a_manifest_of_another_tool_names_no_version(tmp_path):
    bare = {key: value for key, value in label(image("a.jpg")).items() if key != "labeler"}
    table = Local(tmp_path)
    table.write(bare)
    said = {key: value for key, value in person(label(image("a.jpg"))).items() if key != "labeler"}
    table.apply(said)
    assert table.table() == {"a.jpg": {**said, "labeler": {}}}


def test_many_rows_go_into_parts_that_compaction_can_read(place, monkeypatch):
    monkeypatch.setattr(corrections, "PART_ROWS", 3)
    table, name = place
    rows = [person(label(image(f"{name}{number}"))) for number in range(8)]
    table.apply(*rows)
    assert list(table.table().values()) == rows
    if isinstance(table, Bucket):
        assert len(table.content()) == 3
        assert compaction.compact(RESULTS, pause=0).labels == 8


def test_a_file_has_no_place_in_a_buckets_table(monkeypatch):
    monkeypatch.setattr(storage, "client", FakeS3)
    with pytest.raises(corrections.CorrectionsError, match=r"^a\.jpg: a file"):
        apply.to_bucket(by_name(person(label(image("a.jpg")))), RESULTS, dry_run=False)


def test_a_manifest_that_a_killed_run_left_is_settled_first(tmp_path):
    table = Local(tmp_path)
    old, new = label(image("a.jpg", 1)), label(image("a.jpg", 2), 1)
    table.write(old, failure(image("b.jpg")), new, settle=False)
    with open(table.paths[0], "ab") as file:
        file.write(b'{"source-ref":"to')
    assert table.apply(person(old), person(new), dry_run=True).rows == [person(new)]
    table.apply(person(old), person(new))
    assert table.table() == {"a.jpg": person(new), "b.jpg": failure(image("b.jpg"))}


GOOD = person(label(image("a.jpg")))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "alpaca": "1"}, "has no label"),
        ({**GOOD, "alpaca": True}, "has no label"),
        ({**GOOD, "alpaca-metadata": {"human-annotated": "yes"}}, "has no label"),
        ({"alpaca": 1}, "no `source-ref`"),
    ],
)
def test_a_correction_that_cannot_be_read_is_refused_with_its_line(tmp_path, row, message):
    path = tmp_path / "corrections.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + json.dumps(row) + "\n")
    with pytest.raises(
        corrections.CorrectionsError, match=r"corrections\.jsonl: line 3: "
    ) as caught:
        apply.read_corrections(str(path))
    assert message in str(caught.value)
    assert "take the line out" in str(caught.value)


# --- the promise: a person's row outranks a model's, whatever arrives later ----------------------


def announced(version):
    """The version as its event tells it: dated by the event, and not by the object's header."""
    return replace(version, last_modified=version.last_modified[:-3] + "59Z")


WRITTEN = {
    # Again, by any model, as `--relabel`, a redelivered event and a backfill do.
    "label": lambda now, choice, clock: label(now, clock, model=f"{choice}-a", logit=choice - 2),
    "fail": lambda now, choice, clock: failure(now, clock, model=f"{choice}-a"),
    # Gone, or too large: nothing is known but what the event said, ...
    "announce": lambda now, _, clock: failure(announced(now), clock, code="not-found"),
    # ... or nothing at all: a link into a disk that is away.
    "unseen": lambda now, _, clock: failure(ImageVersion(now.source_ref), clock, code="unreadable"),
}


def promise(table, name, steps, *, seq=False):
    """Do what can happen to one image; after each step the last correction must stand."""
    number, written, said = 1, [], {}
    for clock, (step, choice) in enumerate(steps):
        if step == "new version":
            number += 1
        elif step in WRITTEN:
            written.append(WRITTEN[step](image(name, number, seq=seq), choice, clock))
            table.write(written[-1], settle=choice != 2)
        elif step == "late" and written:
            table.write(written[choice % len(written)])
        elif step == "compact":
            compaction.compact(RESULTS, pause=0)
        row = table.table().get(name)
        if step == "say" and row and manifest_row.names_version(row):
            said[row["labeler"]["size"]] = person(row, choice % 2, clock)
            table.apply(said[row["labeler"]["size"]])
            row = table.table()[name]
        if row:
            correction = said.get(row["labeler"]["size"])
            assert manifest_row.is_human(row) == (correction is not None)
            assert correction is None or outcome(row) == outcome(correction)


def outcome(row):
    return row["alpaca"], manifest_row.created(row)


def steps(*names, size=14):
    one = st.tuples(st.sampled_from(names), st.integers(1, 3))
    return st.lists(one, min_size=3, max_size=size)


EVENTS = "label", "fail", "late", "compact", "say", "say", "new version"
IN_S3 = st.one_of(
    st.fixed_dictionaries({"steps": steps(*EVENTS), "seq": st.just(value=False)}),
    st.fixed_dictionaries({"steps": steps(*EVENTS, "announce"), "seq": st.just(value=True)}),
)
"""What happens, and whether S3 announces versions with a sequencer."""


@pytest.mark.slow
@settings(max_examples=300)
@given(IN_S3)
def test_in_a_bucket_nothing_displaces_a_persons_row(history):
    fake = FakeS3()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "client", lambda: fake)
        promise(Bucket(), "s3://photos/a.jpg", **history)


@pytest.mark.slow
@settings(max_examples=15)
@given(IN_S3)
def test_on_real_s3_calls_nothing_displaces_a_persons_row(history):
    from moto import mock_aws

    with pytest.MonkeyPatch.context() as patch, account(patch), mock_aws():
        storage.client().create_bucket(Bucket="results")
        promise(Bucket(), "s3://photos/a.jpg", **history)


@pytest.mark.slow
@settings(max_examples=300)
@given(steps("label", "fail", "unseen", "say", "say", "new version"))
def test_on_this_machine_nothing_displaces_a_persons_row(tmp_path_factory, steps):
    promise(Local(tmp_path_factory.mktemp("run")), "a.jpg", steps)

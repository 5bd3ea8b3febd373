"""What people decide about photos: written at once, taken back exactly, never lost."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.model.bundle import Card
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import corrections as module
from alpaca_labeler.table import jsonl, manifest_row
from alpaca_labeler.table.corrections import (
    Corrections,
    CorrectionsError,
    Label,
    Skipped,
    again,
    corrected,
    decision,
    withdrawal,
)
from alpaca_labeler.table.manifest_row import Failure

CARD = Card("1-a", "alpaca", ("not", "alpaca"), 0.5, (0.4, 0.6), 8, "", (1.0, 0.0), "")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
YES, NO = Label("alpaca", 1, "alpaca"), Label("alpaca", 0, "not")


def model_row(name="a.jpg", *, size=7, logit=2.0, minute=0, card=CARD):
    version = ImageVersion(
        name, size, "2026-01-01T00:00:00Z", etag=f"e{size}", version_id="v", sequencer="0A"
    )
    made = NOON + timedelta(minutes=minute)
    return manifest_row.label_row(version, (64, 48), decide(card, logit), card, made)


def said(name="a.jpg", label=NO, *, minute=1, size=7):
    return decision(model_row(name, size=size), label, "kim", NOON + timedelta(minutes=minute))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "corrections.jsonl")


def written(path):
    with open(path, "rb") as file:
        return [json.loads(line) for line in file]


# --- the row -------------------------------------------------------------------------------------


def test_a_decision_has_the_manifests_own_form():
    assert said() == {
        "source-ref": "a.jpg",
        "alpaca": 0,
        "alpaca-metadata": {
            "class-name": "not",
            "confidence": 1.0,
            "type": "groundtruth/image-classification",
            "job-name": "labeling-job/review",
            "human-annotated": "yes",
            "creation-date": "2026-01-01T12:01:00.000000",
        },
        "labeler": {
            "model-version": "1-a",
            "probability": 0.8808,
            "threshold": 0.5,
            "model-class-name": "alpaca",
            "model-needs-review": False,
            "model-creation-date": "2026-01-01T12:00:00.000000",
            "etag": "e7",
            "version-id": "v",
            "sequencer": "0A",
            "last-modified": "2026-01-01T00:00:00Z",
            "size": 7,
            "width": 64,
            "height": 48,
            "annotator": "kim",
        },
    }


def test_a_failure_can_be_decided_too():
    version = ImageVersion("a.jpg", 7, "2026-01-01T00:00:00Z")
    failed = manifest_row.failure_row(version, Failure("unreadable", "no"), "1-a", NOON)
    row = decision(failed, YES, "kim", NOON)
    assert not manifest_row.is_failure(row)
    assert manifest_row.version_of(row) == version
    assert manifest_row.winner([failed, row]) is row


@given(
    st.permutations(["old model", "new model", "person", "failure"]),
    st.lists(st.integers(-5, 5), min_size=4, max_size=4),
)
def test_within_one_version_a_persons_label_stands_in_any_order(order, minutes):
    newer = Card("2-b", *[getattr(CARD, name) for name in Card.__slots__[1:]])
    version = manifest_row.version_of(model_row())
    rows = {
        "old model": model_row(minute=minutes[0]),
        "new model": model_row(minute=minutes[1], card=newer),
        "person": said(minute=minutes[2]),
        "failure": manifest_row.failure_row(
            version, Failure("corrupt", ""), "3-c", NOON + timedelta(minutes=minutes[3])
        ),
    }
    shuffled = [rows[name] for name in order]
    assert manifest_row.winner(shuffled) == rows["person"]
    assert manifest_row.latest(shuffled) == rows["person"]


def test_a_newer_version_of_the_image_needs_a_new_review():
    newer = ImageVersion("a.jpg", 8, "2026-01-02T00:00:00Z", etag="e8", sequencer="0B")
    row = manifest_row.label_row(newer, (64, 48), decide(CARD, 2.0), CARD, NOON)
    assert manifest_row.winner([said(minute=60), row]) == row


@pytest.mark.parametrize("labeler", [None, 5, [], {"size": [1], "etag": {}, "width": 1.5}])
def test_a_row_of_another_tool_can_be_decided(labeler):
    row = decision({"source-ref": "x", "labeler": labeler}, YES, "kim", NOON)
    assert row["labeler"] == {"annotator": "kim"}


# --- the file ------------------------------------------------------------------------------------


def test_rows_are_appended_and_told_to_those_who_read_along(path):
    ours, theirs = Corrections(path), Corrections(path)
    assert ours.read_new() == module.Changes([], reset=False)
    first, second = said("ü\n.jpg"), said("b.jpg")
    ours.add_all([first])
    assert theirs.read_new().rows == [first]
    ours.add_all([second])
    assert theirs.read_new() == module.Changes([second], reset=False)
    assert theirs.read_new() == module.Changes([], reset=False)
    assert written(path) == [first, second]
    assert os.stat(path).st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_withdrawn_decision_does_not_count_whatever_was_merged_before():
    row = model_row()
    first, second = said(label=NO, minute=1), said(label=YES, minute=2)
    back = withdrawal(second, NOON + timedelta(minutes=3))
    later = said(label=NO, minute=4)
    assert {**row, "labeler": {**row["labeler"], "withdrawn": back["labeler"]["withdrawn"]}} == back
    for order in permutations([first, second, back]):
        assert corrected(row, order) == back  # none is in the manifest yet
        assert corrected(second, order) == back  # a run has merged the decision
        assert corrected(back, order) == back
        assert manifest_row.winner([row, *order]) == back
        assert manifest_row.winner([manifest_row.winner([row, order[0]]), *order[1:]]) == back
        assert corrected(row, [*order, later]) == later


def test_a_decision_counts_again_after_a_later_one_was_taken_back():
    first, second = said(label=NO, minute=1), said(label=YES, minute=2)
    once_more = again(first, NOON + timedelta(minutes=3))
    assert corrected(second, [first, second, once_more]) == once_more
    assert manifest_row.label(once_more) == "not"


def test_a_failure_is_a_failure_again_when_its_label_is_withdrawn():
    version = ImageVersion("a.jpg", 7, "2026-01-01T00:00:00Z", "e7")
    failed = manifest_row.failure_row(version, Failure("corrupt", "cut off"), "1-a", NOON)
    row = decision(failed, YES, "kim", NOON + timedelta(minutes=1))
    back = withdrawal(row, NOON + timedelta(minutes=2))
    assert (back["failure"], back["source-ref"]) == (failed["failure"], "a.jpg")
    assert manifest_row.winner([failed, row, back]) == back


def test_a_newer_model_labels_what_was_withdrawn():
    newer = Card("2-b", *[getattr(CARD, name) for name in Card.__slots__[1:]])
    row = model_row(card=newer, logit=-2.0, minute=9)
    back = withdrawal(said(minute=1), NOON + timedelta(minutes=2))
    for rows in permutations([row, back, said(minute=1)]):
        found = manifest_row.winner(rows)
        assert (found["labeler"]["model-version"], manifest_row.label(found)) == ("2-b", "not")
        assert manifest_row.winner([found, said(minute=1)]) == found


def test_a_decision_of_another_tool_that_is_withdrawn_has_no_label_until_the_next_run():
    bare = {key: value for key, value in said().items() if key != "labeler"}
    back = withdrawal(bare, NOON + timedelta(minutes=2))
    assert manifest_row.label(back) is None
    assert manifest_row.label(corrected(model_row(), [bare, back])) == "alpaca"


def test_a_reader_notices_a_file_that_was_changed_to_the_same_length(path):
    ours, theirs = Corrections(path), Corrections(path)
    ours.add_all([said("a"), said("b")])
    theirs.read_new()
    os.unlink(path)  # a file system may give the new file the old one's number
    ours.add_all([said("c"), said("d")])
    new = theirs.read_new()
    assert new.reset
    assert [row["source-ref"] for row in new.rows] == ["c", "d"]


def test_a_link_stays_a_link(path, tmp_path):
    os.symlink("real.jsonl", path)
    Corrections(path).add_all([said("a")])
    Corrections(path).add_all([said("b")])
    assert os.path.islink(path)
    assert [row["source-ref"] for row in written(tmp_path / "real.jsonl")] == ["a", "b"]


@pytest.mark.parametrize("share", [1, 12, 100, -2])
def test_a_truncated_end_is_skipped_and_cut_off_by_the_next_writer(path, share):
    Corrections(path).add_all([said("a")])
    with open(path, "ab") as file:
        file.write(manifest_row.encode(said("b"))[:share])
    assert [row["source-ref"] for row in Corrections(path).read_new().rows] == ["a"]
    Corrections(path).add_all([said("c")])
    assert [row["source-ref"] for row in written(path)] == ["a", "c"]


def test_a_deleted_file_is_read_as_empty(path):
    ours = Corrections(path)
    ours.add_all([said("a")])
    ours.read_new()
    os.unlink(path)
    assert ours.read_new() == module.Changes([], reset=True)
    ours.add_all([said("b")])
    assert [row["source-ref"] for row in ours.read_new().rows] == ["b"]


def test_rows_by_a_model_are_skipped_and_counted(path):
    Corrections(path).add_all([model_row("a"), said("b"), model_row("c")])
    skipped = Skipped()
    assert [name for name, _ in module.read(path, skipped)] == ["b"]
    assert skipped.rows == 2
    assert Corrections(path).read_new().rows == [said("b")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"notes\n", "not JSON"),
        (b'{"source-ref":"a","x":1,"x-metadata":{"human-annotated":"yes"}}\n', "has no label"),
        (b'{"source-ref":' + b'"x' * 2**20, "longer than"),
    ],
)
def test_a_file_of_another_kind_is_refused(path, text, says):
    with open(path, "wb") as file:
        file.write(text)
    with pytest.raises(CorrectionsError, match=f"corrections.jsonl: .*{says}"):
        Corrections(path).read_new()


def test_notes_without_an_end_are_not_written_to(path):
    with open(path, "wb") as file:
        file.write(b"my notes")
    with pytest.raises(CorrectionsError, match="another file with --corrections"):
        Corrections(path).add_all([said()])
    with open(path, "rb") as file:
        assert file.read() == b"my notes"


def test_a_path_that_is_not_a_regular_file_is_refused(path, tmp_path):
    with pytest.raises(CorrectionsError, match="not a regular file"):
        Corrections(str(tmp_path)).add_all([said()])
    os.mkfifo(path)
    with pytest.raises(CorrectionsError, match="not a regular file"):
        Corrections(path).add_all([said()])
    with pytest.raises(CorrectionsError, match="not a regular file"):
        Corrections(path).read_new()


# --- what can go wrong ---------------------------------------------------------------------------


def test_a_full_disk_leaves_what_was_there(path):
    Corrections(path).add_all([said("a")])
    before = os.stat(path).st_size
    code = (
        "import resource, signal, sys; from alpaca_labeler.table.corrections import *\n"
        "from alpaca_labeler.table import manifest_row\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({before + 40}, {before + 40}))\n"
        "try: Corrections(sys.argv[1]).add_all([manifest_row.parse(sys.stdin.buffer.read())])\n"
        "except CorrectionsError as error: print(error)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        input=manifest_row.encode(said("b")),
        capture_output=True,
        env=environment,
        check=True,
    )
    assert b"corrections.jsonl: File too large" in done.stdout, done.stderr
    assert os.stat(path).st_size == before
    assert signal.SIGXFSZ
    assert resource.RLIMIT_FSIZE is not None


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_write_that_fails_is_as_if_it_had_not_been(path, monkeypatch, call):
    def fails(handle, *_line):
        if call == "write":
            handle.write(b'{"source-ref":"half')
        raise OSError(errno.ENOSPC, "No space left on device")

    Corrections(path).add_all([said("a")])
    with monkeypatch.context() as patch:
        patch.setattr(jsonl if call == "write" else os, call, fails)
        with pytest.raises(CorrectionsError, match=r"corrections\.jsonl: No space left"):
            Corrections(path).add_all([said("b")])
    assert [row["source-ref"] for row in written(path)] == ["a"]


def test_a_file_that_is_kept_locked_is_said_to_be(path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    Corrections(path).add_all([said("a")])
    with jsonl.open_locked(path):
        with pytest.raises(CorrectionsError, match="another process has kept it locked"):
            Corrections(path).add_all([said("b")])
        with pytest.raises(CorrectionsError, match="another process has kept it locked"):
            Corrections(path).read_new()


WRITER = """
told = lambda number: None
import random, sys
from datetime import UTC, datetime
from alpaca_labeler.table.corrections import *
who, count, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rows = random.Random(who)
ours = Corrections(path)
for number in range(count):
    row = {"source-ref": f"{who}-{number}" + "x" * rows.randrange(200)}
    told(number)
    ours.add_all([decision(row, Label("a", 1, "a"), who, datetime.now(UTC))])
    ours.read_new()
"""


@pytest.mark.slow
def test_several_processes_lose_nothing_of_one_another(path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, f"person-{number}", "60", path],
        )
        for number in range(4)
    ]
    reader = Corrections(path)
    known: list[dict[str, Any]] = []
    while any(writer.poll() is None for writer in writers):
        new = reader.read_new()
        known = new.rows if new.reset else known + new.rows
    assert [writer.wait() for writer in writers] == [0] * 4
    new = reader.read_new()
    known = new.rows if new.reset else known + new.rows
    assert known == written(path)
    names = {row["source-ref"].rstrip("x") for row in known}
    assert names == {f"person-{who}-{number}" for who in range(4) for number in range(60)}


@pytest.mark.slow
def test_killed_at_any_moment_every_line_is_whole_and_none_that_was_confirmed_is_lost(path):
    code = WRITER.replace("lambda number: None", "lambda number: print(number, flush=True)")
    wait = random.Random(1)
    for number in range(6):
        who = f"person-{number}"
        process = subprocess.Popen(
            [sys.executable, "-c", code, who, "100000", path], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        told = [process.stdout.readline() for _ in range(wait.randrange(2, 60))]
        process.kill()
        process.communicate()
        Corrections(path).add_all([said(f"after {who}")])
        names = [row["source-ref"] for row in written(path)]
        assert f"after {who}" in names
        for number_told in told[:-1]:  # the number is said before its row is written
            assert any(name.startswith(f"{who}-{int(number_told)}") for name in names)

"""`alpaca manifest merge`: rows from elsewhere, into a folder and into a bucket."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from alpaca_labeler.main import main
from alpaca_labeler.table import bucket
from alpaca_labeler.table.facts import Decision, timestamp
from alpaca_labeler.table.row import CURRENT, Row
from alpaca_labeler.table.table import open_table
from tests.support.rows import ground_truth, reading, rows_of

NOW = datetime.now(UTC)
RESULTS = "s3://results/labels/"
CONTENT = "sha256:aa"


def merge(*words, code=0):
    done = CliRunner().invoke(main, ["manifest", "merge", *map(str, words)])
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    return done.stderr


def ours(name="a.jpg"):
    return reading(name, timestamp(NOW - timedelta(minutes=1)), CONTENT)


def theirs(name="a.jpg", label="goat", at=NOW, **more):
    return ground_truth(name, f"{at:%Y-%m-%dT%H:%M:%S.%f}", label, **more)


def write(*rows, end="\n"):
    lines = [r.to_line().decode()[:-1] if isinstance(r, Row) else json.dumps(r) for r in rows]
    Path("theirs.jsonl").write_text("\n".join(lines) + end)


@pytest.fixture(params=["folder", "bucket"])
def table(request, tmp_path, monkeypatch):
    """The table of one photo that a model has labelled."""
    monkeypatch.chdir(tmp_path)
    if request.param == "folder":
        (tmp_path / "manifest.jsonl").write_bytes(ours().to_line())
        return open_table("manifest.jsonl")
    request.getfixturevalue("aws").create_bucket(Bucket="results")
    bucket.write(RESULTS, [ours()])
    return open_table(RESULTS)


def rows(table):
    return {row.source_ref: row for row in table.rows()}


def state(table):
    """What merging must not change a second time."""
    path = Path("manifest.jsonl")
    return path.read_bytes() if path.exists() else rows_of(table.name)


def test_a_persons_label_counts_and_merged_again_nothing_changes(table):
    write(theirs(), theirs("b.jpg", "alpaca"), end="")
    assert merge("theirs.jsonl", table.name, "--dry-run") == "2 rows would be merged\n"
    assert [*rows(table)] == ["a.jpg"]
    assert merge("theirs.jsonl", table.name) == "2 rows merged\n"
    found, before = rows(table), state(table)
    assert (found["a.jpg"].label, found["a.jpg"].answer.label) == ("goat", "alpaca")
    assert [*found["a.jpg"].people] == [CONTENT]  # about the photo as it is now
    assert [*found["b.jpg"].people] == [CURRENT]  # as the next run will find it
    assert merge("theirs.jsonl", table.name) == "0 rows merged\n2 there already\n"
    assert (rows(table), state(table)) == (found, before)
    table.append([ours("b.jpg")])
    assert [*rows(table)["b.jpg"].people] == [CONTENT]


def test_what_a_person_decided_later_stays(table):
    table.append([ours().decided("alpaca", "kim", NOW + timedelta(hours=1), index=1)])
    write(theirs())
    assert merge("theirs.jsonl", table.name) == "0 rows merged\n1 there already\n"
    assert rows(table)["a.jpg"].label == "alpaca"


def test_several_labels_are_counted_and_named(table):
    both = {**theirs("n\x1b[2J"), **theirs("n\x1b[2J", "sheep", key="second")}
    other = {"source-ref": "b.jpg", "boxes": {}, "boxes-metadata": {"objects": []}}
    write({**other, **theirs()}, both, other)
    said = merge("theirs.jsonl", table.name)
    assert said == (
        "2 rows merged\n"
        "1 skipped: without an image's class\n"
        "1 row with several labels, of which the first counts: n\\x1b[2J\n"
    )
    assert [row.label for row in rows(table).values()] == ["goat", "goat"]


LATE = timestamp(NOW + timedelta(days=2))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"a": 1}, ["theirs.jsonl: line 2: no `source-ref`"]),
        (
            Row("b.jpg", people={CONTENT: Decision(LATE, "kim", "goat")}),
            ["2 of its rows are dated more than a day ahead", f"b.jpg ({LATE})", "c.jpg"],
        ),
    ],
)
def test_a_row_that_cannot_be_is_named_and_nothing_is_merged(table, wrong, why):
    write(theirs(), wrong, theirs("c.jpg", at=NOW + timedelta(days=900)))
    before = state(table)
    refused = merge("theirs.jsonl", table.name, code=1)
    assert [said for said in why if said not in refused] == []
    assert state(table) == before


def test_a_manifest_that_is_not_there_yet_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(theirs())
    assert merge("theirs.jsonl", "--dry-run") == "1 row would be merged\n"
    assert os.listdir() == ["theirs.jsonl"]
    assert merge("theirs.jsonl") == "1 row merged\n"
    assert rows(open_table("manifest.jsonl"))["a.jpg"].label == "goat"
    for name in ("theirs.jsonl", "./theirs.jsonl"):
        assert "the manifest itself" in merge("theirs.jsonl", name, code=2)
    assert "not a file" in merge("theirs.jsonl", tmp_path, code=2)
    os.symlink("manifest.jsonl", "link.jsonl")
    assert "the manifest itself" in merge("link.jsonl", code=2)

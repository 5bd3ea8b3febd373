"""One door to rows: a manifest with what lies beside it, or a bucket, read in one way."""

from __future__ import annotations

import json

import pytest

from alpaca_labeler.table import manifest_row, merge, parts
from alpaca_labeler.table.table import TableError, beside, open_table
from tests.alpaca_labeler.manifest.test_exports import FAILURE, row


def write(path, *rows):
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))


def test_a_bucket_and_a_file_give_the_same_rows(tmp_path, aws):
    rows = [row("s3://b/b.jpg"), row("s3://b/a.jpg")]
    aws.create_bucket(Bucket="results")
    parts.write("s3://results/labels/", [*rows, FAILURE])
    write(tmp_path / "manifest.jsonl", *rows)
    write(tmp_path / "failures.jsonl", FAILURE)
    there = [*open_table("s3://results/labels").rows()]
    assert [each["source-ref"] for each in there] == [
        "s3://b/a.jpg",
        "s3://b/b.jpg",
        "s3://b/f.jpg",
    ]
    assert [*open_table(str(tmp_path / "manifest.jsonl")).rows()] == there


def test_failures_of_one_manifest_are_not_anothers(tmp_path):
    write(tmp_path / "manifest.jsonl", row("a.jpg"))
    write(tmp_path / "bad.jsonl", row("b.jpg"))
    write(tmp_path / "failures.jsonl", {**FAILURE, "source-ref": "c.jpg"})
    write(tmp_path / "bad.failures.jsonl", {**FAILURE, "source-ref": "d.jpg"})

    def names(name):
        return [each["source-ref"] for each in open_table(str(tmp_path / name)).rows()]

    assert names("manifest.jsonl") == ["a.jpg", "c.jpg"]
    assert names("bad.jsonl") == ["b.jpg", "d.jpg"]
    assert beside("x/labels.v2.jsonl", "corrections") == "x/labels.v2.corrections.jsonl"
    assert beside("labels", "failures") == "labels.failures.jsonl"


def test_only_what_is_not_sorted_is_sorted(tmp_path, monkeypatch):
    real, sorted_ = merge.sort, []

    def sort(rows):
        sorted_.append(1)
        return real(rows)

    monkeypatch.setattr(merge, "sort", sort)
    path = tmp_path / "manifest.jsonl"
    for names, times in (
        (["a", "b\\", "c"], 1),
        (["a", "c"], 0),
        (["c", "a"], 1),
        (["./a", "b"], 1),
    ):
        sorted_.clear()
        path.write_bytes(b"".join(manifest_row.encode(row(name)) for name in names))
        found = [each["source-ref"] for each in open_table(str(path)).rows()]
        assert found == sorted(name.removeprefix("./") for name in names)
        assert len(sorted_) == times + 1  # there are always the corrections


def test_photos_are_where_their_manifest_is(tmp_path, monkeypatch):
    (tmp_path / "farm").mkdir()
    write(tmp_path / "farm/manifest.jsonl", row("a.jpg"))
    monkeypatch.chdir(tmp_path)
    table = open_table("farm/manifest.jsonl")
    assert table.place("in/a.jpg") == f"{tmp_path}/farm/in/a.jpg"
    assert table.place("/else/a.jpg") == "/else/a.jpg"
    assert table.place("s3://b/a.jpg") == "s3://b/a.jpg"
    assert open_table("farm/manifest.jsonl", photos_root="x").place("a.jpg") == "x/a.jpg"


def test_a_manifest_behind_a_link_is_that_manifest(tmp_path):
    (tmp_path / "there").mkdir()
    write(tmp_path / "there/pets.jsonl", row("a.jpg"))
    write(tmp_path / "there/pets.failures.jsonl", {**FAILURE, "source-ref": "b.jpg"})
    (tmp_path / "manifest.jsonl").symlink_to("there/pets.jsonl")
    table = open_table(str(tmp_path / "manifest.jsonl"))
    assert [each["source-ref"] for each in table.rows()] == ["a.jpg", "b.jpg"]
    assert table.place("a.jpg") == f"{tmp_path}/there/a.jpg"


def test_a_table_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(TableError, match="`alpaca label FOLDER` writes one"):
        open_table(str(tmp_path / "manifest.jsonl"))
    with pytest.raises(TableError, match="not a file; name a manifest"):
        open_table(str(tmp_path))

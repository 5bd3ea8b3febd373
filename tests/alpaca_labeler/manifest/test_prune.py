"""`alpaca manifest prune`: photos that are gone have no row, and with --erase no trace."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from alpaca_labeler.main import main
from alpaca_labeler.table import bucket
from alpaca_labeler.table.facts import timestamp
from alpaca_labeler.table.places import Places
from alpaca_labeler.table.table import open_table
from tests.support.rows import decide, reading

RESULTS = "s3://results/labels/"


def prune(*words, code=0):
    done = CliRunner().invoke(main, ["manifest", "prune", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


def row(name):
    return reading(name, timestamp(datetime.now(UTC)), f"sha256:{name}")


def names(where):
    return [each.source_ref for each in open_table(str(where)).rows()]


def everything(s3):
    """Key: content of every current object in the results."""
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket="results").get("Contents", ())]
    return {key: s3.get_object(Bucket="results", Key=key)["Body"].read() for key in keys}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two labelled photos, about one of which a person has decided, and which is then deleted."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "manifest.jsonl").write_bytes(row("a.jpg").to_line() + row("b.jpg").to_line())
    decide("manifest.jsonl", "a.jpg", "goat")
    (tmp_path / "a.jpg").unlink()
    return tmp_path


def test_a_dry_run_names_what_is_gone_and_writes_nothing(folder):
    before = (folder / "manifest.jsonl").read_bytes()
    assert prune("--dry-run", "--erase") == ("a.jpg\n", "1 row would be removed\n")
    found = {"removed": False, "photos": ["a.jpg"]}
    assert json.loads(prune("--dry-run", "--json")[0]) == found
    assert (folder / "manifest.jsonl").read_bytes() == before
    assert sorted(os.listdir(folder)) == ["b.jpg", "manifest.jsonl"]


@pytest.mark.parametrize("erase", [[], ["--erase"]])
def test_a_row_is_hidden_and_comes_back_unless_it_is_erased(folder, erase):
    assert prune(*erase) == ("", "1 row removed\n")
    assert names("manifest.jsonl") == ["b.jpg"]
    assert prune() == ("", "0 rows removed\n")
    assert (b"a.jpg" in (folder / "manifest.jsonl").read_bytes()) == (not erase)
    open_table("manifest.jsonl").append([row("a.jpg")])  # it is put back, and labelled again
    found = next(open_table("manifest.jsonl").rows())
    assert (found.source_ref, found.label) == ("a.jpg", "alpaca" if erase else "goat")


def test_what_cannot_be_erased_is_said(folder, monkeypatch):
    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(errno.EBUSY, "mounted alone")))
    assert prune()[1] == "1 row removed\n"
    assert "its rows are hidden and not erased" in prune("--erase", code=2)[1]
    assert b"a.jpg" in (folder / "manifest.jsonl").read_bytes()


@pytest.mark.parametrize("words", [["--dry-run"], [], ["--erase"]])
def test_a_manifest_that_was_parted_from_all_its_photos_is_not_emptied(folder, words):
    (folder / "b.jpg").unlink()
    before = (folder / "manifest.jsonl").read_bytes()
    assert "none of its 2 photos is there" in prune(*words, code=1)[1]
    assert (folder / "manifest.jsonl").read_bytes() == before


def test_a_row_that_names_no_object_is_said_by_name_and_no_fault(folder):
    (folder / "manifest.jsonl").write_bytes(row("s3://").to_line())
    assert prune(code=1)[1] == "Error: s3://: not of the form s3://bucket/key\n"


def test_a_photo_that_cannot_be_looked_for_is_not_gone(tmp_path):
    places = Places(str(tmp_path / "manifest.jsonl"))
    assert not places.is_gone("a.png")  # the folder is empty, as where a drive was
    (tmp_path / "b.png").touch()
    assert places.is_gone("a.png")
    assert places.is_gone(f"{tmp_path}/../{tmp_path.name}2/a.png")
    for away in ("/media/kim/disk/a.png", "/Volumes/disk/a.png", "/no-such-mount/a.png"):
        assert not places.is_gone(away)
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert not places.is_gone("loop.png")
    assert not places.is_gone("\0.png")


@pytest.fixture
def s3(aws):
    """The same in a bucket."""
    aws.create_bucket(Bucket="photos")
    aws.create_bucket(Bucket="results")
    for name in ("a.jpg", "b.jpg"):
        aws.put_object(Bucket="photos", Key=name, Body=b"x")
        bucket.write(RESULTS, [row(f"s3://photos/{name}")])
    decide(RESULTS, "s3://photos/a.jpg", "goat")
    aws.delete_object(Bucket="photos", Key="a.jpg")
    return aws


@pytest.mark.parametrize("hidden_before", [False, True])
def test_what_is_erased_is_in_no_object_and_a_dry_run_writes_none(s3, hidden_before):
    if not hidden_before:
        before = everything(s3)
        would = "s3://photos/a.jpg\n", "1 row would be removed\n"
        assert prune(RESULTS, "--dry-run", "--erase") == would
        assert everything(s3) == before
    else:
        prune(RESULTS)
        bucket.compact(RESULTS, pause=0)
        assert any(b"a.jpg" in data for data in everything(s3).values())
    assert prune(RESULTS, "--erase")[1].startswith(f"{1 - hidden_before} row")
    assert not any(b"a.jpg" in data for data in everything(s3).values())
    assert names(RESULTS) == ["s3://photos/b.jpg"]


def test_a_bucket_that_cannot_be_listed_loses_no_row(s3):
    s3.delete_object(Bucket="photos", Key="b.jpg")
    s3.delete_bucket(Bucket="photos")
    assert "photos" in prune(RESULTS, code=1)[1]
    assert len(names(RESULTS)) == 2


@pytest.mark.usefixtures("s3")
def test_a_manifest_on_this_machine_of_photos_in_a_bucket_is_pruned_too(tmp_path):
    lines = (each.to_line() for each in open_table(RESULTS).rows())
    (tmp_path / "m.jsonl").write_bytes(b"".join(lines))
    assert prune(tmp_path / "m.jsonl") == ("", "1 row removed\n")
    assert names(tmp_path / "m.jsonl") == ["s3://photos/b.jpg"]

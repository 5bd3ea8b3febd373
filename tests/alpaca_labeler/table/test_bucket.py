"""A bucket's table: what people decide counts at once, and photos that are gone have no row."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from alpaca_labeler.main import main
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import compaction, manifest_row, parts
from alpaca_labeler.table.corrections import Label, decision, withdrawal
from alpaca_labeler.table.table import open_corrections, open_table
from tests.alpaca_labeler.table.test_corrections import CARD

RESULTS = "s3://results/labels/"
NOW = datetime.now(UTC)


def alpaca(*words, code=0):
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def bucket(aws):
    """Three labelled photos."""
    aws.create_bucket(Bucket="photos")
    aws.create_bucket(Bucket="results")
    for name in "abc":
        put(aws, name)
    return aws


def put(aws, name):
    """Upload a photo and label it, as the function does."""
    etag = aws.put_object(Bucket="photos", Key=f"{name}.jpg", Body=name.encode())["ETag"]
    head = aws.head_object(Bucket="photos", Key=f"{name}.jpg")
    date = f"{head['LastModified']:%Y-%m-%dT%H:%M:%SZ}"
    version = ImageVersion(f"s3://photos/{name}.jpg", 1, date, etag.strip('"'))
    row = manifest_row.label_row(version, (4, 3), decide(CARD, 2.0), CARD, NOW)
    parts.write(RESULTS, [row])
    return row


def labels():
    return {row["source-ref"][12:]: manifest_row.label(row) for row in open_table(RESULTS).rows()}


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("compacted", [False, True])
def test_label_correct_and_every_command_shows_it_with_no_step_between(tmp_path, compacted):
    table = open_table(RESULTS)
    row = next(table.rows())
    said = decision(row, Label("alpaca", 0, "not"), "kim", NOW + timedelta(minutes=1))
    open_corrections(table).add_all([said])
    if compacted:
        compaction.compact(RESULTS, pause=0)
    counts = json.loads(alpaca("manifest", "stats", RESULTS, "--json").stdout)
    assert counts["label"] == {"alpaca": 2, "not": 1}
    assert "person   not           s3://photos/a.jpg" in alpaca("manifest", "show", RESULTS).stdout
    exported = alpaca("manifest", "export", RESULTS, "--format", "csv").stdout
    assert "s3://photos/a.jpg,not," in exported
    alpaca("report", RESULTS, "--no-photos", "-o", tmp_path / "report.html")
    assert "changed" in (tmp_path / "report.html").read_text()
    shown = alpaca("manifest", "cat", RESULTS).stdout
    assert json.loads(shown.splitlines()[0])["labeler"]["model-class-name"] == "alpaca"

    open_corrections(table).add_all([withdrawal(said, NOW + timedelta(minutes=2))])
    assert labels() == {"a.jpg": "alpaca", "b.jpg": "alpaca", "c.jpg": "alpaca"}
    compaction.compact(RESULTS, pause=0)
    assert labels()["a.jpg"] == "alpaca"


@pytest.mark.parametrize("compacted", [False, True])
def test_rows_of_photos_that_are_gone_go_and_do_not_come_back(bucket, compacted):
    late = next(open_table(RESULTS).rows())
    if compacted:
        compaction.compact(RESULTS, pause=0)
    bucket.delete_object(Bucket="photos", Key="a.jpg")
    done = alpaca("manifest", "prune", RESULTS, "--dry-run")
    assert (done.stdout, done.stderr) == ("s3://photos/a.jpg\n", "1 row would be removed\n")
    assert len(labels()) == 3
    assert alpaca("manifest", "prune", RESULTS).stderr == "1 row removed\n"
    parts.write(RESULTS, [late])
    person = decision(late, Label("alpaca", 0, "not"), "kim", NOW + timedelta(minutes=9))
    open_corrections(open_table(RESULTS)).add_all([person])
    for _ in range(2):
        assert [*labels()] == ["b.jpg", "c.jpg"]
        assert "a.jpg" not in alpaca("manifest", "cat", RESULTS, "--failures").stdout
        assert alpaca("manifest", "prune", RESULTS).stderr == "0 rows removed\n"
        compaction.compact(RESULTS, pause=0)


def test_a_photo_that_is_uploaded_again_is_there_again(bucket, monkeypatch):
    from alpaca_labeler.table import prune

    monkeypatch.setattr(prune, "SKEW", timedelta(hours=1))
    bucket.delete_object(Bucket="photos", Key="a.jpg")
    alpaca("manifest", "prune", RESULTS)
    assert [*labels()] == ["b.jpg", "c.jpg"]
    later = put(bucket, "a")
    later["labeler"]["last-modified"] = f"{NOW + timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}"
    parts.write(RESULTS, [later])
    assert [*labels()] == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_bucket_that_cannot_be_listed_loses_no_row(bucket):
    for name in "abc":
        bucket.delete_object(Bucket="photos", Key=f"{name}.jpg")
    bucket.delete_bucket(Bucket="photos")
    assert "photos" in alpaca("manifest", "prune", RESULTS, code=1).stderr
    assert len(labels()) == 3


def test_a_manifest_on_this_machine_of_photos_in_a_bucket_is_pruned_too(bucket, tmp_path):
    lines = b"".join(line for line, _ in open_table(RESULTS).lines())
    (tmp_path / "m.jsonl").write_bytes(lines)
    bucket.delete_object(Bucket="photos", Key="b.jpg")
    assert alpaca("manifest", "prune", tmp_path / "m.jsonl").stderr == "1 row removed\n"
    names = [row["source-ref"] for row in open_table(str(tmp_path / "m.jsonl")).rows()]
    assert names == ["s3://photos/a.jpg", "s3://photos/c.jpg"]

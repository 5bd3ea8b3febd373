"""A bucket's table: parts, one manifest, and compaction that loses nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from alpaca_labeler import storage
from alpaca_labeler.table import bucket, incoming
from alpaca_labeler.table.bucket import compact, write
from alpaca_labeler.table.facts import timestamp
from alpaca_labeler.table.row import ManifestError, Row
from alpaca_labeler.table.table import open_table
from tests.support.rows import reading

pytestmark = pytest.mark.usefixtures("s3")
RESULTS = "s3://results/labels/"
NOW = datetime.now(UTC)


def row(name, ago=0, label="alpaca", content=None):
    at = timestamp(NOW - timedelta(seconds=ago))
    return reading(f"s3://photos/{name}", at, content or f"sha256:{name}{label}", label)


def gone(name, days):
    return Row(f"s3://photos/{name}", gone=timestamp(NOW - timedelta(days=days)))


def keys(s3, prefix="labels/"):
    found = s3.list_objects_v2(Bucket="results", Prefix=prefix).get("Contents", ())
    return [item["Key"] for item in found]


def labels():
    return {row.source_ref.rpartition("/")[2]: row.label for row in open_table(RESULTS).rows()}


@pytest.fixture
def s3(aws):
    aws.create_bucket(Bucket="results")
    return aws


def test_the_same_batch_written_twice_is_one_part_and_many_rows_are_several(s3, monkeypatch):
    write(RESULTS, [row("a"), row("b")])
    write(RESULTS, [row("b"), row("a")])
    assert len(keys(s3)) == 1
    monkeypatch.setattr(bucket, "PART_ROWS", 3)
    write(RESULTS, [row(f"{n}") for n in range(10)])
    assert len(keys(s3)) == 1 + 4
    assert len(labels()) == 2 + 10


def test_only_names_of_parts_are_parts(s3):
    write(RESULTS, [row("a")])
    for name in ("notes.txt", "x.jsonl", "0" * 31 + ".jsonl", "0" * 32 + ".jsonl.bak"):
        s3.put_object(Bucket="results", Key=f"labels/parts/{name}", Body=b"junk")
    assert labels() == {"a": "alpaca"}
    assert compact(RESULTS).parts == 1
    assert len(keys(s3, "labels/parts/")) == 4


def test_a_broken_part_is_named_and_left(s3):
    write(RESULTS, [row("a")])
    broken = f"labels/parts/{'0' * 32}.jsonl"
    s3.put_object(Bucket="results", Key=broken, Body=row("b").to_line() + b"junk\n")
    with pytest.raises(ManifestError, match="move it away to continue"):
        labels()
    done = compact(RESULTS)
    assert (done.parts, len(done.broken)) == (1, 1)
    assert "line 2: not JSON" in done.broken[0]
    assert keys(s3, "labels/parts/") == [broken]


def test_neither_manifest_nor_part_is_said_and_rows_can_be_brought_in(tmp_path):
    with pytest.raises(storage.NotFound, match="there are no labels"):
        labels()
    (tmp_path / "theirs.jsonl").write_bytes(row("a").to_line())
    incoming.bring_in(str(tmp_path / "theirs.jsonl"), open_table(RESULTS))
    assert labels() == {"a": "alpaca"}


def test_a_manifest_that_vanished_is_not_a_new_small_table(s3):
    s3.put_bucket_versioning(Bucket="results", VersioningConfiguration={"Status": "Enabled"})
    write(RESULTS, [row("a"), row("b")])
    compact(RESULTS)
    marker = s3.delete_object(Bucket="results", Key="labels/manifest.jsonl")["VersionId"]
    for more in ([], [row("c")]):
        write(RESULTS, more)
        for call in (lambda: compact(RESULTS), lambda: compact(RESULTS, max_age=60), labels):
            with pytest.raises(storage.Denied, match=f"--version-id {marker}"):
                call()
    s3.delete_object(Bucket="results", Key="labels/manifest.jsonl", VersionId=marker)
    compact(RESULTS)
    assert labels().keys() == {"a", "b", "c"}


def test_a_manifest_of_somebody_else_is_refused(s3):
    body = row("b").to_line() + row("a").to_line()
    s3.put_object(Bucket="results", Key="labels/manifest.jsonl", Body=body)
    write(RESULTS, [row("c")])
    with pytest.raises(ManifestError, match="out of order"):
        compact(RESULTS)
    assert len(keys(s3, "labels/parts/")) == 1


def test_a_persons_label_goes_with_the_photo_to_another_name(s3):
    first = row("a", content="sha256:same")
    write(RESULTS, [first, row("c", content="sha256:same"), row("d")])
    write(RESULTS, [first.decided("goat", "kim", NOW, index=0, attribute="alpaca")])
    compact(RESULTS)
    assert labels() == {"a": "goat", "c": "goat", "d": "alpaca"}
    own = row("b", content="sha256:same")
    write(RESULTS, [own, own.decided("sheep", "ann", NOW, index=0, attribute="alpaca")])
    compact(RESULTS)
    compact(RESULTS)
    assert labels() == {"a": "goat", "b": "sheep", "c": "goat", "d": "alpaca"}
    assert keys(s3) == ["labels/manifest.jsonl"]


def test_a_photo_that_is_gone_is_hidden_and_later_erased(s3):
    write(RESULTS, [row("a", 40 * 86400), row("b", 40 * 86400), row("c")])
    write(RESULTS, [gone("a", 3), gone("b", 19)])
    compact(RESULTS)
    assert labels() == {"c": "alpaca"}
    body = s3.get_object(Bucket="results", Key="labels/manifest.jsonl")["Body"].read()
    assert b"s3://photos/a" in body
    assert b"s3://photos/b" not in body

"""The package that `sam build` makes, run by `sam local invoke` in a container, against moto's S3.

`make test-sam` runs it. infra/sam_local.py names the variables for a special container engine;
PYTHON_VERSION is that of the package, if the container's Python is not the template's.
"""

import json
import os

import pytest

from infra.sam_local import KEY, laptop
from tests.support.sam import ROOT

pytestmark = pytest.mark.skipif(
    not os.environ.get("TEST_SAM"), reason="takes a minute and a container engine: `make test-sam`"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sam") / "build"


@pytest.fixture(scope="module")
def job(folder):
    with laptop(folder) as (s3, invoke):
        yield s3, invoke


def rows(s3, prefix):
    listed = s3.list_objects_v2(Bucket="results", Prefix=prefix).get("Contents", [])
    return [
        json.loads(line)
        for item in listed
        for line in s3.get_object(Bucket="results", Key=item["Key"])["Body"].read().splitlines()
    ]


@pytest.mark.usefixtures("job")
def test_one_package_is_built_for_both_functions_and_holds_nothing_else(folder):
    assert (folder / "LabelFunction.complete").exists()
    assert not (folder / "CompactFunction.complete").exists(), "it was built again"
    ours = {path.name for path in (ROOT / "handler").glob("*.py")}
    for package in (folder / "LabelFunction", folder / "CompactFunction"):
        assert {path.name for path in (package / "handler").iterdir()} - {"__pycache__"} == ours
        unwanted = {"cli", "training", "infra", "tests", "tensorflow", "keras", "pytest"}
        assert unwanted.isdisjoint(path.name for path in package.iterdir())
        assert sum(f.lstat().st_size for f in package.rglob("*") if f.is_file()) < 200 * 2**20


def test_an_event_of_the_queue_becomes_one_row(job):
    s3, invoke = job
    assert invoke("LabelFunction", "sqs-s3") == {"batchItemFailures": []}
    [row] = rows(s3, "labels/parts/")
    assert row["source-ref"] == f"s3://photos/{KEY}"
    assert row["alpaca-metadata"]["class-name"] == "alpaca"


@pytest.mark.parametrize("event", ["s3-put", "sqs-eventbridge", "map-batch", "keys"])
def test_every_other_trigger_is_understood(job, event):
    s3, invoke = job
    invoke("LabelFunction", event)
    assert {row["source-ref"] for row in rows(s3, "labels/parts/")} == {f"s3://photos/{KEY}"}


def test_compaction_leaves_one_row_and_no_part(job):
    s3, invoke = job
    invoke("CompactFunction", "compact")
    [row] = rows(s3, "labels/manifest.jsonl")
    assert row["source-ref"] == f"s3://photos/{KEY}"
    assert rows(s3, "labels/parts/") == []

"""The package that `sam build` makes, run by `sam local invoke` in a container, against moto's S3.

`make test-sam` runs it; it takes a minute and a container engine. If those are special:

    SAM               the command of the SAM CLI, if it is not on the PATH
    SAM_HOST          an address of this machine that containers reach, if it cannot be found
    SAM_BUILD_FLAGS   more for `sam build`
    SAM_INVOKE_FLAGS  more for `sam local invoke`
    PYTHON_VERSION    of the package, if the container's Python is not the template's
"""

import json
import os
import shlex

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from infra.sam_local import ARCHITECTURE, KEY, OVERRIDES, ready
from tests.support.sam import ROOT, sam

pytestmark = pytest.mark.skipif(
    not os.environ.get("TEST_SAM"), reason="takes a minute and a container engine: `make test-sam`"
)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam") / "build"
    flags = shlex.split(os.environ.get("SAM_BUILD_FLAGS", ""))
    done = sam("build", "--build-dir", str(folder), *OVERRIDES, *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout + done.stderr


@pytest.fixture(scope="module")
def s3():
    here, _ = ready()
    server = ThreadedMotoServer(ip_address=here, port=0)
    server.start()
    address, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{address}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}),
    )
    for bucket in ("photos", "results"):
        client.create_bucket(Bucket=bucket)
    client.upload_file(str(ROOT / "tests/photos/alpaca.jpg"), "photos", KEY)
    yield client
    client.close()
    server.stop()


@pytest.fixture
def invoke(built, s3, tmp_path):
    environment = json.loads((ROOT / "infra/env.json").read_text(encoding="utf-8"))
    environment["Parameters"]["AWS_ENDPOINT_URL"] = s3.meta.endpoint_url.replace(*ready())
    variables = tmp_path / "env.json"
    variables.write_text(json.dumps(environment), encoding="utf-8")

    def call(function, event):
        done = sam(
            *("local", "invoke", function, "--template", str(built[0] / "template.yaml")),
            *("--event", str(ROOT / f"infra/events/{event}.json"), "--env-vars", str(variables)),
            *(*OVERRIDES, *shlex.split(os.environ.get("SAM_INVOKE_FLAGS", ""))),
        )
        assert done.returncode == 0, done.stderr[-3000:]
        # The exit code says nothing of the function: what it answered does.
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        assert "errorMessage" not in answer, answer
        return answer

    return call


def rows(s3, prefix):
    listed = s3.list_objects_v2(Bucket="results", Prefix=prefix).get("Contents", [])
    return [
        json.loads(line)
        for item in listed
        for line in s3.get_object(Bucket="results", Key=item["Key"])["Body"].read().splitlines()
    ]


def test_one_package_is_built_for_both_functions_and_holds_nothing_else(built):
    folder, said = built
    assert f"{ARCHITECTURE}, " in said
    assert said.count(" MB unzipped") == 1
    ours = {path.name for path in (ROOT / "handler").iterdir()} - {"__pycache__"}
    for package in (folder / "LabelFunction", folder / "CompactFunction"):
        assert {path.name for path in (package / "handler").iterdir()} - {"__pycache__"} == ours
        unwanted = {"cli", "training", "infra", "tests", "tensorflow", "keras", "pytest"}
        assert unwanted.isdisjoint(path.name for path in package.iterdir())
        assert sum(f.lstat().st_size for f in package.rglob("*") if f.is_file()) < 200 * 2**20


def test_an_event_of_the_queue_becomes_one_row(invoke, s3):
    assert invoke("LabelFunction", "sqs-s3") == {"batchItemFailures": []}
    [row] = rows(s3, "labels/parts/")
    assert row["source-ref"] == f"s3://photos/{KEY}"
    assert row["alpaca-metadata"]["class-name"] == "alpaca"


@pytest.mark.parametrize("event", ["s3-put", "sqs-eventbridge", "map-batch", "keys"])
def test_every_other_trigger_is_understood(invoke, s3, event):
    invoke("LabelFunction", event)
    assert {row["source-ref"] for row in rows(s3, "labels/parts/")} == {f"s3://photos/{KEY}"}


def test_compaction_leaves_one_row_and_no_part(invoke, s3):
    invoke("CompactFunction", "compact")
    [row] = rows(s3, "labels/manifest.jsonl")
    assert row["source-ref"] == f"s3://photos/{KEY}"
    assert rows(s3, "labels/parts/") == []

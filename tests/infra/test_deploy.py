"""template.yaml, built by SAM and deployed into MiniStack with IAM and TLS enforced.

`make test-deploy` installs the SAM CLI and MiniStack and runs it; it takes some minutes, and needs
openssl. Otherwise, if they are not on the PATH:

    SAM           the command of the SAM CLI
    MINISTACK     the command of MiniStack, in an environment that has aws-sam-translator too
    BUILT         a folder that `sam build` has made for MiniStack's Python, to save the time

docs/robustness.md says what MiniStack cannot show.
"""

import json
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import boto3
import pytest
from PIL import Image

from infra.sam_local import OVERRIDES
from tests.support import ministack, runs
from tests.support.sam import ROOT, sam

PHOTO = ROOT / "tests/photos/alpaca.jpg"
MINISTACK = os.environ.get("MINISTACK") or shutil.which("ministack") or ""
STACK = "farm"
NUMBERS = {"BatchSize": 100, "BatchWindow": 1, "MaximumConcurrency": 5}
RELEASE = "f23b4b6"
"""The commit of 0.2.0, whose template a stack is updated from."""
PATIENCE = 240.0
"""Seconds; on an idle machine a photo has its row after 3."""

pytestmark = pytest.mark.skipif(
    not os.environ.get("TEST_DEPLOY"), reason="takes minutes: `make test-deploy`"
)


class Job:
    """A deployed job, seen from outside."""

    def __init__(self, template):
        self.template = template
        self.client = {
            name: boto3.client(name) for name in ("cloudformation", "iam", "lambda", "s3")
        }

    def try_to_deploy(self, **parameters):
        """Run `sam deploy`; return what it ended with."""
        return sam(
            *("deploy", "--config-file", str(ROOT / "samconfig.toml"), "--stack-name", STACK),
            *("--template-file", str(self.template), "--no-progressbar"),
            *(*OVERRIDES, *(f"{name}={value}" for name, value in parameters.items())),
        )

    def deploy(self, **parameters):
        done = self.try_to_deploy(**parameters)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        ministack.set_numbers(self.client["lambda"], **NUMBERS)

    def outputs(self):
        stack = self.client["cloudformation"].describe_stacks(StackName=STACK)["Stacks"][0]
        return {item["OutputKey"]: item["OutputValue"] for item in stack["Outputs"]}

    def bucket(self, output):
        return self.outputs()[output].split("/")[2]

    def stateful(self):
        """Return the physical names of the stack's buckets and queues, by their logical ids."""
        pages = self.client["cloudformation"].get_paginator("list_stack_resources")
        return {
            found["LogicalResourceId"]: found["PhysicalResourceId"]
            for page in pages.paginate(StackName=STACK)
            for found in page["StackResourceSummaries"]
            if found["ResourceType"] in {"AWS::S3::Bucket", "AWS::SQS::Queue"}
        }

    def upload(self, key, photo=PHOTO):
        self.client["s3"].upload_file(str(photo), self.bucket("InputUri"), key)

    def alpaca(self, *words):
        done = runs.alpaca(*words, cwd=ROOT, timeout=120)
        assert done.returncode == 0 or "there are no labels" in done.stderr, done.stderr
        return done.stdout

    def rows(self):
        """Return the rows as `alpaca manifest show --json` gives them, by key."""
        shown = self.alpaca("manifest", "show", "--json", "--stack", STACK)
        found = map(json.loads, shown.splitlines())
        return {row["source-ref"].split("/", 3)[3]: row for row in found}

    def row(self, key):
        """Wait for the row of a photo."""
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            if row := self.rows().get(key):
                return row
            time.sleep(1)
        raise AssertionError(f"{key} has no row: {self.alpaca('status', STACK)}")

    def call(self, *keys):
        """Call the label function itself; return its answer."""
        event = {"bucket": self.bucket("InputUri"), "keys": keys}
        answer = self.client["lambda"].invoke(
            FunctionName=self.outputs()["LabelFunctionArn"], Payload=json.dumps(event)
        )
        return json.loads(answer["Payload"].read())

    @contextmanager
    def without(self, sid):
        """Take a statement out of the label function's policy for a while."""
        resource = self.client["cloudformation"].describe_stack_resource(
            StackName=STACK, LogicalResourceId="LabelRole"
        )
        role = resource["StackResourceDetail"]["PhysicalResourceId"]
        name = {"RoleName": role, "PolicyName": "label"}
        policy = self.client["iam"].get_role_policy(**name)["PolicyDocument"]
        kept = [statement for statement in policy["Statement"] if statement["Sid"] != sid]
        assert len(kept) == len(policy["Statement"]) - 1
        put = self.client["iam"].put_role_policy
        put(**name, PolicyDocument=json.dumps(policy | {"Statement": kept}))
        try:
            yield
        finally:
            put(**name, PolicyDocument=json.dumps(policy))


def build(folder):
    # The functions run in MiniStack's own Python.
    python = Path(MINISTACK).absolute().with_name("python")
    version = subprocess.check_output([python, "-c", "import sys; print(*sys.version_info[:2])"])
    done = sam(
        *("build", "--build-dir", str(folder), *OVERRIDES),
        PYTHON_VERSION=".".join(version.decode().split()),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """Return a job that has not been deployed yet."""
    assert MINISTACK, "there is no `ministack` on the PATH: `make test-deploy` installs it"
    folder = tmp_path_factory.mktemp("deploy")
    built = os.environ.get("BUILT") or build(folder / "build")
    with ministack.running(MINISTACK, folder) as reach, mock.patch.dict(os.environ, reach):
        yield Job(ministack.fit(Path(built, "template.yaml")))


def of_release(template):
    """Write what 0.2.0 deploys beside a built template, with its package; None without git."""
    names = ("template.yaml", "infra/backfill.asl.json")
    show = ["git", "-C", str(ROOT), "show"]
    try:
        shown = [subprocess.check_output([*show, f"{RELEASE}:{name}"], text=True) for name in names]
    except subprocess.CalledProcessError:
        return None
    found, machine = shown
    template.with_name("release.asl.json").write_text(machine)
    found = found.replace(names[1], "release.asl.json")
    release = template.with_name("release.yaml")
    release.write_text(found.replace("CodeUri: handler", "CodeUri: LabelFunction"))
    return ministack.fit(release)


@pytest.fixture(scope="module")
def job(account):
    account.deploy()
    return account


def test_a_first_deployment_that_fails_leaves_nothing_in_the_way_of_the_second(account):
    template = json.loads(account.template.read_text(encoding="utf-8"))
    template["Resources"]["Impossible"] = {
        "Type": "AWS::IAM::Policy",
        "DependsOn": ["InputBucket", "ResultsBucket"],
        "Properties": {
            "PolicyName": "impossible",
            "PolicyDocument": {"Version": "2012-10-17", "Statement": []},
            "Roles": ["no-such-role"],
        },
    }
    blocked = account.template.with_name("template-blocked.json")
    blocked.write_text(json.dumps(template), encoding="utf-8")

    failed = Job(blocked).try_to_deploy()
    assert failed.returncode != 0
    assert "ROLLBACK_COMPLETE" in failed.stderr
    done = sam("delete", "--stack-name", STACK, "--no-prompts")
    assert done.returncode == 0, done.stderr[-3000:]

    buckets = [bucket["Name"] for bucket in account.client["s3"].list_buckets()["Buckets"]]
    assert not [name for name in buckets if name.startswith(STACK)]


def test_an_update_from_0_2_0_replaces_no_bucket_and_no_queue(account):
    release = of_release(account.template)
    if release is None:
        pytest.skip(f"git does not have {RELEASE}, the commit of 0.2.0")
    Job(release).deploy()
    before = account.stateful()
    account.deploy()
    assert len(before) == 4
    assert account.stateful() == before


def test_an_upload_is_labelled_and_the_commands_read_the_stack(job):
    job.upload("farm/red flower+ü.jpg")
    assert job.row("farm/red flower+ü.jpg")["alpaca"] == 1
    assert job.alpaca("audit", "--stack", STACK, "--check") == ""
    found = json.loads(job.alpaca("status", STACK, "--json"))
    assert (found["dead-letters"], found["label-error"], found["compact-error"]) == (0, None, None)
    assert found["compaction"]["schedule"] == "rate(15 minutes) ENABLED"
    assert found["alarms"]
    assert "ALARM" not in found["alarms"]


def test_the_operator_needs_no_more_rights_than_the_runbook_says(job, monkeypatch):
    page = (ROOT / "infra/README.md").read_text(encoding="utf-8")
    [row] = re.findall(r"^\| operator, to look.+", page, re.MULTILINE)
    statement = {"Effect": "Allow", "Resource": "*", "Action": re.findall(r"`(\w+:\w+)`", row)}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam, name = job.client["iam"], {"UserName": "operator"}
    iam.create_user(**name)
    iam.put_user_policy(**name, PolicyName="look", PolicyDocument=policy)
    key = iam.create_access_key(**name)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    assert "label-error" in job.alpaca("status", STACK)
    job.alpaca("audit", "--stack", STACK)


def test_a_direct_call_is_answered_and_compaction_keeps_its_row(job):
    job.upload("direct.jpg")
    assert job.call("direct.jpg", "a folder/") == {"images": 1, "rows": 1}
    before = job.row("direct.jpg")
    answer = job.client["lambda"].invoke(FunctionName=job.outputs()["CompactFunctionName"])
    assert "FunctionError" not in answer, answer["Payload"].read()
    assert job.row("direct.jpg") == before


def test_without_permission_to_read_photos_nothing_is_labelled_and_nothing_lost(job):
    with job.without("ReadPhotos"):
        job.upload("denied.jpg")
        assert "access denied" in job.call("denied.jpg")["errorMessage"]
    # It lies in the queue, handed back, and comes again within a minute, not a quarter of an hour.
    assert job.row("denied.jpg")["alpaca"] == 1


def test_without_permission_to_write_parts_nothing_is_said_to_be_done(job):
    with job.without("WriteParts"):
        assert "2 of 2" in job.call("denied.jpg", "direct.jpg")["errorMessage"]


def test_a_changed_parameter_works_unless_the_memory_does_not_allow_it(job, tmp_path):
    done = job.try_to_deploy(MaxPixels=200_000_000)
    assert done.returncode != 0
    assert "MaxPixels=200000000 needs MemorySize=3538" in done.stdout + done.stderr

    job.deploy(MaxPixels=25_000_000)
    large = tmp_path / "large.png"
    Image.new("1", (5100, 5000)).save(large)
    job.upload("too large now.png", large)
    assert job.row("too large now.png")["labeler"]["answer"]["failure"]["code"] == "too-many-pixels"


def test_a_stack_is_deleted_and_another_takes_its_photos_and_labels_in(job):
    photos, results = job.bucket("InputUri"), job.bucket("ResultsUri")
    before = job.rows()
    cloudformation = job.client["cloudformation"]
    cloudformation.delete_stack(StackName=STACK)
    cloudformation.get_waiter("stack_delete_complete").wait(StackName=STACK)
    s3 = job.client["s3"]
    stale = s3.get_bucket_notification_configuration(Bucket=photos)
    assert stale.get("QueueConfigurations"), "the old queue is still named there"

    s3.put_bucket_notification_configuration(
        Bucket=photos, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    job.deploy(ExistingInputBucket=photos, ExistingResultsBucket=results)

    assert job.rows() == before
    job.upload("after all.jpg")
    assert job.row("after all.jpg")["alpaca"] == 1

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
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

from tests.support import ministack

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "tests/photos/alpaca.jpg"
SAM = os.environ.get("SAM") or shutil.which("sam") or ""
MINISTACK = os.environ.get("MINISTACK") or shutil.which("ministack") or ""
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
STACK = "farm"
NUMBERS = {"BatchSize": 100, "BatchWindow": 1, "MaximumConcurrency": 5}
PATIENCE = 240.0
"""Seconds; on an idle machine a photo has its row after 3."""


pytestmark = pytest.mark.skipif(
    not os.environ.get("TEST_DEPLOY"), reason="takes minutes: `make test-deploy`"
)


def sam(*words, **environment):
    return subprocess.run(
        [SAM, *words],
        cwd=ROOT,
        env={**os.environ, "SAM_CLI_TELEMETRY": "0", **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


class Job:
    """A deployed job, seen from outside."""

    def __init__(self, template, reach):
        self.template = template
        self.reach = reach
        self.client = {
            name: boto3.client(
                name,
                endpoint_url=reach["AWS_ENDPOINT_URL"],
                verify=reach["AWS_CA_BUNDLE"],
                region_name=reach["AWS_DEFAULT_REGION"],
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
            for name in ("cloudformation", "iam", "lambda", "s3", "sqs")
        }

    def deploy(self, **parameters):
        """Run `sam deploy`; return what it ended with."""
        values = {"Architecture": ARCHITECTURE, "BatchWindow": NUMBERS["BatchWindow"]}
        values |= parameters
        done = sam(
            "deploy",
            *("--config-file", str(ROOT / "samconfig.toml"), "--stack-name", STACK),
            *("--template-file", str(self.template), "--no-progressbar"),
            *("--parameter-overrides", *(f"{name}={value}" for name, value in values.items())),
            **self.reach,
        )
        if done.returncode == 0:
            ministack.set_numbers(self.client["lambda"], **NUMBERS)
        return done

    def outputs(self):
        stack = self.client["cloudformation"].describe_stacks(StackName=STACK)["Stacks"][0]
        return {item["OutputKey"]: item["OutputValue"] for item in stack["Outputs"]}

    def bucket(self, output):
        return self.outputs()[output].split("/")[2]

    def upload(self, key):
        self.client["s3"].upload_file(str(PHOTO), self.bucket("InputUri"), key)

    def alpaca(self, *words):
        done = subprocess.run(
            [sys.executable, "-m", "alpaca_labeler", *words],
            cwd=ROOT,
            env={**os.environ, **self.reach},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0 or "there are no labels" in done.stderr, done.stderr
        return done.stdout

    def rows(self):
        """Return the rows as `alpaca manifest cat` gives them, by key."""
        found = [
            json.loads(line)
            for flags in ([], ["--failures"])
            for line in self.alpaca("manifest", "cat", "--stack", STACK, *flags).splitlines()
        ]
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

    def without(self, sid):
        """Take a statement out of the label function's policy; return the policy as it was."""
        resource = self.client["cloudformation"].describe_stack_resource(
            StackName=STACK, LogicalResourceId="LabelRole"
        )
        role = resource["StackResourceDetail"]["PhysicalResourceId"]
        name = {"RoleName": role, "PolicyName": "label"}
        policy = self.client["iam"].get_role_policy(**name)["PolicyDocument"]
        kept = [statement for statement in policy["Statement"] if statement["Sid"] != sid]
        assert len(kept) == len(policy["Statement"]) - 1
        self.put(name, policy | {"Statement": kept})
        return name, policy

    def put(self, name, policy):
        self.client["iam"].put_role_policy(**name, PolicyDocument=json.dumps(policy))


def build(folder):
    # The functions run in MiniStack's own Python.
    python = Path(MINISTACK).absolute().with_name("python")
    version = subprocess.check_output([python, "-c", "import sys; print(*sys.version_info[:2])"])
    done = sam(
        *("build", "--build-dir", str(folder)),
        *("--parameter-overrides", f"Architecture={ARCHITECTURE}"),
        PYTHON_VERSION=".".join(version.decode().split()),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """Return a job that has not been deployed yet."""
    assert SAM, "there is no `sam` on the PATH: pip install aws-sam-cli, or set SAM"
    assert MINISTACK, "there is no `ministack` on the PATH: `make test-deploy` installs it"
    folder = tmp_path_factory.mktemp("deploy")
    built = os.environ.get("BUILT") or build(folder / "build")
    with ministack.running(MINISTACK, folder) as reach:
        yield Job(ministack.fit(Path(built, "template.yaml"), reach), reach)


@pytest.fixture(scope="module")
def job(account):
    done = account.deploy()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
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

    failed = Job(blocked, account.reach).deploy()
    assert failed.returncode != 0
    assert "ROLLBACK_COMPLETE" in failed.stderr
    done = sam("delete", "--stack-name", STACK, "--no-prompts", **account.reach)
    assert done.returncode == 0, done.stderr[-3000:]

    buckets = [bucket["Name"] for bucket in account.client["s3"].list_buckets()["Buckets"]]
    assert not [name for name in buckets if name.startswith(STACK)]
    done = account.deploy()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_an_upload_is_labelled_and_the_commands_read_the_stack(job):
    job.upload("farm/red flower+ü.jpg")
    assert job.row("farm/red flower+ü.jpg")["alpaca"] == 1
    assert job.alpaca("audit", "--stack", STACK, "--check") == ""
    said = job.alpaca("status", STACK)
    assert "dead letters  0" in said
    assert "alarms        none in alarm" in said


def test_a_direct_call_is_answered(job):
    job.upload("direct.jpg")
    assert job.call("direct.jpg", "a folder/") == {"images": 1, "rows": 1}


def test_compaction_merges_what_is_there(job):
    job.upload("compacted.jpg")
    before = job.row("compacted.jpg")
    answer = job.client["lambda"].invoke(FunctionName=job.outputs()["CompactFunctionName"])
    assert "FunctionError" not in answer, answer["Payload"].read()
    assert job.row("compacted.jpg") == before


def test_without_permission_to_read_photos_nothing_is_labelled_and_nothing_lost(job):
    restore = job.without("ReadPhotos")
    try:
        job.upload("denied.jpg")
        answer = job.call("denied.jpg")
        assert "access denied" in answer["errorMessage"]
    finally:
        job.put(*restore)
    # It lies in the queue, handed back, and comes again within a minute, not a quarter of an hour.
    assert job.row("denied.jpg")["alpaca"] == 1


def test_without_permission_to_write_parts_nothing_is_said_to_be_done(job):
    restore = job.without("WriteParts")
    try:
        answer = job.call("denied.jpg", "direct.jpg")
        assert "2 of 2" in answer["errorMessage"]
    finally:
        job.put(*restore)


def test_a_changed_parameter_works(job):
    done = job.deploy(MaxBytes=20_000)
    assert done.returncode == 0, done.stderr[-3000:]
    job.upload("too large now.jpg")
    assert job.row("too large now.jpg")["failure"]["code"] == "too-large"


def test_pictures_that_do_not_fit_the_memory_are_refused_before_anything_changes(job):
    done = job.deploy(MaxPixels=200_000_000)
    assert done.returncode != 0
    assert "MaxPixels=200000000 needs MemorySize=3538" in done.stdout + done.stderr


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
    done = job.deploy(ExistingInputBucket=photos, ExistingResultsBucket=results)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert job.rows() == before
    job.upload("after all.jpg")
    assert job.row("after all.jpg")["alpaca"] == 1

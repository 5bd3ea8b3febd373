"""The operator's commands, against moto's server: exact, and a dry run touches nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler import storage
from alpaca_labeler.console import stack
from alpaca_labeler.handler import events
from alpaca_labeler.job import backfill, operate
from alpaca_labeler.main import main
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import bucket
from alpaca_labeler.table.facts import Answer, Decision, Failure, Read
from alpaca_labeler.table.row import Row
from tests.support import stacks
from tests.support.aws import account
from tests.support.cloudformation import source

SAID = Decision("2026-02-01", "kim", "goat", 0, "alpaca")
CORRUPT = Answer("1-a", failure=Failure("corrupt"))
KEYS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("12"))
ROOT = Path(__file__).parents[3]


def run(*words):
    return CliRunner().invoke(main, words)


# --- comparing -----------------------------------------------------------------------------------


def row(key, etag="e", answer=None, bucket="b"):
    answer = answer or Answer("1-a", "alpaca", 1, "alpaca", 0.9)
    read = Read("2026-01-31T12:00:00Z", "sha256:1", etag)
    return Row(f"s3://{bucket}/{key}", read, answer)


@given(objects=KEYS, table=KEYS, failed=st.sets(st.sampled_from("abcdefgh")))
def test_every_object_and_every_row_is_named_once_with_its_state(objects, table, failed):
    images = [ImageVersion(f"s3://b/{key}", etag=objects[key]) for key in sorted(objects)]
    found_rows = [row(key, table[key], CORRUPT if key in failed else None) for key in sorted(table)]

    found = {item.source_ref[-1]: item.state for item in operate.compare(images, found_rows)}

    def expected(key):
        if key not in objects:
            return "gone"
        if key not in table:
            return "missing"
        if objects[key] != table[key]:
            return "stale"
        return "failed" if key in failed else "labelled"

    assert found == {key: expected(key) for key in objects.keys() | table.keys()}


@pytest.mark.parametrize(
    ("before", "state"), [("", "labelled"), ("1-a", "labelled"), ("1-b", "outdated")]
)
def test_only_labels_by_an_older_model_are_outdated(before, state):
    by_person = Row("s3://b/a", row("a").read, row("a").answer, {"sha256:1": SAID})
    taken_back = Row("s3://b/a", people={"sha256:1": Decision("2026-02-01")})
    for known, expected in (
        (row("a"), state),
        (by_person, "labelled"),
        (row("a", answer=CORRUPT), "failed"),
        (taken_back, "missing"),
    ):
        [found] = operate.compare([ImageVersion("s3://b/a", etag="e")], [known], before)
        assert found.state == expected


# --- a stack -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def endpoint():
    with stacks.server() as url:
        yield url


@pytest.fixture
def farm(endpoint, monkeypatch):
    """Give a deployed stack called farm."""
    with account(monkeypatch, endpoint):
        yield stacks.deploy()
    stacks.reset(endpoint)


@pytest.fixture
def labelled(farm):
    """Give a stack with a labelled, a failed, a new, a replaced photo, a marker and a row alone."""
    for key in ("a.jpg", "bad.jpg", "new +1.jpg", "old.jpg", "folder/"):
        farm.s3.put_object(Bucket="photos", Key=key, Body=key.encode())
    etags = {o.source_ref: o.etag for o in storage.list_objects("s3://photos/")}
    found = [
        row("a.jpg", etags["s3://photos/a.jpg"], bucket="photos"),
        row("bad.jpg", etags["s3://photos/bad.jpg"], CORRUPT, bucket="photos"),
        row("old.jpg", "another", bucket="photos"),
        row("gone.jpg", bucket="photos"),
        Row("s3://photos/hidden.jpg", gone="2026-01-31"),
    ]
    bucket.write("s3://results/labels/", found)
    return farm


def test_every_output_that_a_command_reads_is_one_of_the_template():
    used = {
        word
        for file in (ROOT / "alpaca_labeler").rglob("*.py")
        if file.parent.name in {"job", "table"}
        for word in file.read_text(encoding="utf-8").split('"')
        if word.endswith(("Uri", "Url", "Arn", "LogGroup")) and word[0].isupper() and word.isalnum()
    } - {"QueueArn", "ModelUri"}
    assert used
    assert used <= set(source()["Outputs"])


@pytest.mark.usefixtures("farm")
def test_a_stack_or_output_that_is_not_there_is_one_sentence():
    for words in (["audit", "--stack", "barn"], ["status", "barn"]):
        done = run(*words)
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: barn: there is no such stack in us-east-1; ")
    template = {"Resources": {"Anything": {"Type": "AWS::SNS::Topic"}}}
    boto3.client("cloudformation").create_stack(StackName="old", TemplateBody=json.dumps(template))
    done = run("audit", "--stack", "old")
    assert "old: has no output InputUri; deploy it again" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audit"], "give INPUT and RESULTS, or --stack NAME"),
        (["audit", "s3://a/"], "give RESULTS, or --stack NAME"),
        (["audit", "s3://a/", "s3://b/l/", "--requeue"], "--requeue needs --queue URL or --stack"),
        (["backfill", "s3://photos/"], "Missing option '--stack'"),
        (["manifest", "compact"], "give RESULTS, or --stack NAME"),
    ],
)
def test_what_is_not_given_is_named(words, said):
    done = run(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


# --- audit -----------------------------------------------------------------------------------


def test_audit_reads_the_stack_and_names_what_has_no_row(labelled):
    done = run("audit", "--stack", "farm")
    assert done.exit_code == 0, done.output
    assert done.stdout == "missing\ts3://photos/new +1.jpg\nstale\ts3://photos/old.jpg\n"
    said = "labelled 1 failed 1 missing 1 stale 1 gone 1"
    assert done.stderr.split() == said.split()
    assert labelled.waiting() == []
    assert run("audit", "--stack", "farm", "--check").exit_code == 1
    for key in ("new +1.jpg", "old.jpg"):
        labelled.s3.delete_object(Bucket="photos", Key=key)
    assert run("audit", "--stack", "farm", "--check").exit_code == 0


def test_audit_refuses_a_prefix_that_holds_no_table(labelled):
    done = run("audit", "s3://photos/", "s3://results/wrong/", "--requeue", "--stack", "farm")
    assert done.exit_code == 1
    assert "s3://results/wrong/: there are no labels" in done.stderr
    assert labelled.waiting() == []


@pytest.mark.parametrize(
    ("asked", "named", "more"),
    [
        (["--model-before", "2-b"], "outdated\ts3://photos/a.jpg", "a.jpg"),
        (["--failed"], "failed\ts3://photos/bad.jpg\tcorrupt\n", "bad.jpg"),
    ],
)
def test_audit_queues_more_only_when_asked(labelled, asked, named, more):
    words = ["audit", "--stack", "farm", *asked]
    assert named in run(*words).stdout
    run(*words, "--requeue", "--dry-run")
    assert labelled.waiting() == []
    assert "queued 3" in run(*words, "--requeue").stderr
    queued = [events.parse(json.loads(b), within="s3://").requests[0] for b in labelled.waiting()]
    names = {r.image.source_ref.removeprefix("s3://photos/") for r in queued}
    assert names == {more, "new +1.jpg", "old.jpg"}


@pytest.mark.usefixtures("labelled")
def test_the_manifest_commands_and_pages_read_the_stack(tmp_path):
    done = run("manifest", "compact", "--stack", "farm")
    assert "merged 1 part\n" in done.stderr
    assert len(run("manifest", "show", "--json", "--stack", "farm").stdout.splitlines()) == 4
    for words in (["show"], ["stats"], ["export", "--format", "csv"], ["prune", "--dry-run"]):
        done = run("manifest", *words, "--stack", "farm")
        assert done.exit_code == 0, done.stderr
        assert done.stdout == run("manifest", *words, "s3://results/labels/").stdout
    page = tmp_path / "report.html"
    done = run("report", "--stack", "farm", "--no-photos", "--output", str(page))
    assert done.exit_code == 0, done.stderr
    assert "s3://photos/" in page.read_text(encoding="utf-8")


# --- backfill ------------------------------------------------------------------------------------


def inputs(farm):
    runs = farm.steps.list_executions(stateMachineArn=farm.outputs["BackfillArn"])["executions"]
    return [
        json.loads(farm.steps.describe_execution(executionArn=r["executionArn"])["input"])
        for r in runs
    ]


def test_backfill_starts_the_state_machine(farm):
    assert run("backfill", "--stack", "farm", "--dry-run").exit_code == 0
    assert inputs(farm) == []
    done = run("backfill", "--stack", "farm", "s3://photos/2026/", "--concurrency", "200")
    assert done.stdout.startswith("arn:aws:states:us-east-1:123456789012:execution:backfill:")
    assert inputs(farm) == [{"prefix": "2026/", "concurrency": 200}]


def test_backfill_refuses_what_the_job_does_not_work_on(endpoint, monkeypatch):
    with account(monkeypatch, endpoint):
        farm = stacks.deploy("inbox/")
        for other in ("other/2026/", "photos-2/inbox/", "other/", "photos/barn/", "photos/"):
            done = run("backfill", f"s3://{other}", "--stack", "farm")
            assert done.exit_code == 1
            assert f"s3://{other}: this job works on s3://photos/inbox/ alone" in done.stderr
        assert inputs(farm) == []
        assert run("backfill", "s3://photos/inbox/a", "--stack", "farm").exit_code == 0
        assert run("backfill", "--stack", "farm").exit_code == 0
        assert {each["prefix"] for each in inputs(farm)} == {"inbox/", "inbox/a"}
    stacks.reset(endpoint)


def test_runs_are_shown_and_stopped(farm):
    run("backfill", "--stack", "farm")
    shown = run("backfill", "--stack", "farm", "--list").stdout
    name = shown.split()[-1]
    assert shown.startswith("RUNNING")
    assert run("backfill", "--stack", "farm", "--stop", name, "--dry-run").exit_code == 0
    assert run("backfill", "--stack", "farm", "--list").stdout == shown
    done = run("backfill", "--stack", "farm", "--stop", name)
    assert f"stopped {farm.outputs['BackfillArn'].replace('stateMachine', 'execution')}" in (
        done.stderr
    )
    assert run("backfill", "--stack", "farm", "--list").stdout.startswith("ABORTED")


def test_a_run_is_shown_with_its_counts(monkeypatch, capsys):
    class Steps:
        def list_executions(self, **_):
            started = datetime(2026, 1, 31, 12, 5, tzinfo=UTC)
            run = {"status": "FAILED", "startDate": started, "name": "n", "executionArn": "r"}
            return {"executions": [run]}

        def describe_execution(self, **_):
            return {"cause": "too many batches failed"}

        def list_map_runs(self, **_):
            return {"mapRuns": [{"mapRunArn": "m"}]}

        def describe_map_run(self, **_):
            return {"itemCounts": {"succeeded": 1200, "total": 10_000, "failed": 3}}

    monkeypatch.setattr("alpaca_labeler.job.backfill.client", lambda _: Steps())
    backfill._show_runs("machine")
    assert capsys.readouterr().out == (
        "FAILED     2026-01-31 12:05  n  1,200 of 10,000 photos, 3 failed"
        "  too many batches failed\n"
    )


ALARM = {"MetricName": "m", "Namespace": "n", "Statistic": "Sum", "Period": 60, "Threshold": 0}
ALARM |= {"EvaluationPeriods": 1, "ComparisonOperator": "GreaterThanThreshold"}


# --- status --------------------------------------------------------------------------------------


def test_status_says_how_the_job_is_doing(labelled):
    for body in "12":
        labelled.sqs.send_message(QueueUrl=labelled.outputs["DeadLetterQueueUrl"], MessageBody=body)
    watch = boto3.client("cloudwatch")
    firing = ("farm-DeadLettersAlarm-1X", "farm-2-DeadLettersAlarm-1X", "farm-DeadLettersAlarm2")
    for name in (*firing, "farm-OldestMessageAlarm-1X"):
        text = "Photos were given up on. First: alpaca status farm"
        watch.put_metric_alarm(AlarmName=name, AlarmDescription=text, **ALARM)
    for name in firing:
        watch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="x")
    done = run("status", "farm")
    assert done.exit_code == 0, done.output
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line[0] != " ")
    assert said["stack"] == "farm, CREATE_COMPLETE"
    assert said["queue"] == "0 waiting, 0 in work"
    assert said["dead"] == "letters  2"
    assert said["parts"] == "1 to be merged, no merge yet"
    bucket.compact("s3://results/labels/")
    assert "0 to be merged, the last merge of 20" in run("status", "farm").stdout
    assert said["model"] == "the one in the package"
    assert said["backfills"] == "none running"
    assert said["alarms"] == "1 in alarm"
    assert "farm-DeadLettersAlarm-1X: Photos were given up on." in done.stdout


def test_status_says_that_a_pointer_cannot_be_followed(farm, monkeypatch):
    described = stack.describe("farm")
    parameter = {"ParameterKey": "ModelUri", "ParameterValue": "s3://results/models/a/latest.json"}
    monkeypatch.setattr(
        "alpaca_labeler.job.status.describe", lambda _: described | {"Parameters": [parameter]}
    )
    assert "latest.json cannot be followed" in run("status", "farm").stdout
    assert farm


def test_what_aws_refuses_is_one_sentence(farm):
    farm.sqs.delete_queue(QueueUrl=farm.outputs["DeadLetterQueueUrl"])
    done = run("status", "farm")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "NonExistentQueue" in done.stderr

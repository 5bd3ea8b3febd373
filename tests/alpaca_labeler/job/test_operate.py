"""The operator's commands, against moto's server: exact, and a dry run touches nothing."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import MagicMock, Mock

import boto3
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler import storage
from alpaca_labeler.console import stack
from alpaca_labeler.handler import events
from alpaca_labeler.job import backfill, operate, status
from alpaca_labeler.main import main
from alpaca_labeler.model import bundle
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import bucket
from alpaca_labeler.table.facts import Answer, Decision, Failure, Read
from alpaca_labeler.table.row import Row
from tests.support import stacks
from tests.support.cloudformation import deployed, source

SAID = Decision("2026-02-01", "kim", "goat", 0, "alpaca")
CORRUPT = Answer("1-a", failure=Failure("corrupt"))
KEYS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("12"))
ROOT = Path(__file__).parents[3]


def run(*words, code=0):
    done = CliRunner().invoke(main, words)
    assert done.exit_code == code, done.output
    return done


def row(key, etag="e", answer=None, bucket="b"):
    answer = answer or Answer("1-a", "alpaca", 1, "alpaca", 0.9)
    read = Read("2026-01-31T12:00:00Z", "sha256:1", etag)
    return Row(f"s3://{bucket}/{key}", read, answer)


@given(objects=KEYS, table=KEYS, failed=st.sets(st.sampled_from("abcdefgh")))
def test_every_object_and_every_row_is_named_once_with_its_state(objects, table, failed):
    images = [ImageVersion(f"s3://b/{key}", etag=objects[key]) for key in sorted(objects)]
    rows = [row(key, table[key], CORRUPT if key in failed else None) for key in sorted(table)]

    def expected(key):
        if key not in objects or key not in table:
            return "missing" if key in objects else "gone"
        if objects[key] != table[key]:
            return "stale"
        return "failed" if key in failed else "labelled"

    found = operate.compare(images, rows)
    states = {each.source_ref[-1]: state for state, *both in found for each in both if each}
    assert states == {key: expected(key) for key in objects.keys() | table.keys()}


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
        [(found, _, _)] = operate.compare([ImageVersion("s3://b/a", etag="e")], [known], before)
        assert found == expected


@pytest.fixture
def farm(aws):  # noqa: ARG001 - it starts moto
    """Give a deployed stack called farm."""
    return stacks.deploy()


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


def test_every_name_that_a_command_asks_for_is_one_of_the_template():
    used = {
        word
        for file in (ROOT / "alpaca_labeler").rglob("*.py")
        if file.parent.name in {"job", "table"}
        for word in file.read_text(encoding="utf-8").split('"')
        if word.endswith(("Uri", "Url", "Arn")) and word[0].isupper() and word.isalnum()
    } - {"QueueArn", "ModelUri"}
    assert used
    assert used <= set(source()["Outputs"])
    stack = deployed()  # of the name farm; the rest is not in the outputs
    assert stack["LabelLogs"][1]["LogGroupName"] == "/farm/label"
    assert stack["CompactLogs"][1]["LogGroupName"] == "/farm/compact"
    assert stack["CompactFunctionRegularly"][1]["Name"] == "farm-compact"


def test_a_stack_or_output_that_is_not_there_and_what_aws_refuses_are_one_sentence(farm):
    for words in (["audit", "--stack", "barn"], ["status", "barn"]):
        said = run(*words, code=1).stderr
        assert said.startswith("Error: barn: there is no such stack in us-east-1; ")
    template = {"Resources": {"Anything": {"Type": "AWS::SNS::Topic"}}}
    boto3.client("cloudformation").create_stack(StackName="old", TemplateBody=json.dumps(template))
    said = run("audit", "--stack", "old", code=1).stderr
    assert "old: has no output InputUri; deploy it again" in said
    farm.sqs.delete_queue(QueueUrl=farm.outputs["DeadLetterQueueUrl"])
    said = run("status", "farm", code=1).stderr
    assert said.count("\n") == 1
    assert "NonExistentQueue" in said


NOT_GIVEN = {
    "audit": "give INPUT and RESULTS, or --stack NAME",
    "audit s3://a/": "give RESULTS, or --stack NAME",
    "audit s3://a/ s3://b/l/ --requeue": "--requeue needs --queue URL or --stack",
    "backfill s3://photos/": "Missing option '--stack'",
    "manifest compact": "give RESULTS, or --stack NAME",
}


@pytest.mark.parametrize("words", NOT_GIVEN)
def test_what_is_not_given_is_named(words):
    assert NOT_GIVEN[words] in " ".join(run(*words.split(), code=2).stderr.split())


def test_audit_names_what_has_no_row_and_refuses_a_prefix_without_a_table(labelled):
    done = run("audit", "--stack", "farm")
    assert done.stdout == "missing\ts3://photos/new +1.jpg\nstale\ts3://photos/old.jpg\n"
    assert " ".join(done.stderr.split()) == "labelled 1 failed 1 missing 1 stale 1 gone 1"
    words = ["audit", "s3://photos/", "s3://results/wrong/", "--requeue", "--stack", "farm"]
    assert "s3://results/wrong/: there are no labels" in run(*words, code=1).stderr
    assert labelled.waiting() == []
    run("audit", "--stack", "farm", "--check", code=1)
    for key in ("new +1.jpg", "old.jpg"):
        labelled.s3.delete_object(Bucket="photos", Key=key)
    run("audit", "--stack", "farm", "--check")


@pytest.mark.parametrize(
    ("asked", "named", "more"),
    [
        (["--model-before", "20261124"], "outdated\ts3://photos/a.jpg", "a.jpg"),
        (["--failed"], "failed\ts3://photos/bad.jpg\tcorrupt\n", "bad.jpg"),
    ],
)
def test_audit_queues_more_only_when_asked(labelled, asked, named, more):
    run("audit", "--stack", "farm", "--model-before", "v2", "--requeue", code=2)
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
        there = run("manifest", *words, "--stack", "farm").stdout
        assert there == run("manifest", *words, "s3://results/labels/").stdout
    page = tmp_path / "report.html"
    run("report", "--stack", "farm", "--no-photos", "--output", str(page))
    assert "s3://photos/" in page.read_text(encoding="utf-8")


def inputs(farm):
    runs = farm.steps.list_executions(stateMachineArn=farm.outputs["BackfillArn"])["executions"]
    found = (farm.steps.describe_execution(executionArn=run["executionArn"]) for run in runs)
    return [json.loads(each["input"]) for each in found]


def test_backfill_starts_the_state_machine_and_shows_its_runs(farm):
    run("backfill", "--stack", "farm", "--dry-run")
    assert inputs(farm) == []
    done = run("backfill", "--stack", "farm", "s3://photos/2026/", "--concurrency", "200")
    assert done.stdout.startswith("arn:aws:states:us-east-1:123456789012:execution:backfill:")
    assert inputs(farm) == [{"prefix": "2026/", "concurrency": 200}]
    shown = run("backfill", "--stack", "farm", "--list").stdout
    assert shown.startswith("RUNNING")
    assert shown.endswith(f"  {done.stdout}")


@pytest.mark.usefixtures("aws")
def test_backfill_refuses_what_the_job_does_not_work_on():
    farm = stacks.deploy("inbox/")
    for other in ("other/2026/", "photos-2/inbox/", "other/", "photos/barn/", "photos/"):
        said = run("backfill", f"s3://{other}", "--stack", "farm", code=1).stderr
        assert f"s3://{other}: this job works on s3://photos/inbox/ alone" in said
    assert inputs(farm) == []
    run("backfill", "s3://photos/inbox/a", "--stack", "farm")
    run("backfill", "--stack", "farm")
    assert {each["prefix"] for each in inputs(farm)} == {"inbox/", "inbox/a"}


def test_a_run_is_shown_with_its_counts(monkeypatch, capsys):
    began = datetime(2026, 1, 31, 12, 5, tzinfo=UTC)
    run = {"status": "FAILED", "startDate": began, "executionArn": "r"}
    answers = {
        "list_executions": {"executions": [run]},
        "describe_execution": {"cause": "too many batches failed"},
        "list_map_runs": {"mapRuns": [{"mapRunArn": "m"}]},
        "describe_map_run": {"itemCounts": {"succeeded": 1200, "total": 10_000, "failed": 3}},
    }
    steps = Mock(**{f"{name}.return_value": answer for name, answer in answers.items()})
    monkeypatch.setattr("alpaca_labeler.job.backfill.client", lambda _: steps)
    backfill._show_runs("machine")
    said = "1,200 of 10,000 photos, 3 failed  too many batches failed"
    assert capsys.readouterr().out == f"FAILED     2026-01-31 12:05  r  {said}\n"


def put_metric(service, name, dimension, *values):
    """Give a metric one value every ten minutes, the last one lately."""
    for number, value in enumerate(reversed(values)):
        datum = {"MetricName": name, "Value": value, "Dimensions": [dimension]}
        moment = datetime.now(UTC) - timedelta(minutes=10 * number + 1)
        boto3.client("cloudwatch").put_metric_data(
            Namespace=f"AWS/{service}", MetricData=[datum | {"Timestamp": moment}]
        )


def log(group, *lines):
    """Give a log group of the stack its lines, the last one now."""
    logs = boto3.client("logs")
    where = {"logGroupName": f"/farm/{group}", "logStreamName": "s"}
    logs.create_log_stream(**where)
    now = int(datetime.now(UTC).timestamp() * 1000)
    events = [{"timestamp": now - len(lines) + n, "message": m} for n, m in enumerate(lines)]
    logs.put_log_events(**where, logEvents=events)


def said():
    return run("status", "farm").stdout


def test_status_does_not_wait_for_a_query_that_has_ended(monkeypatch):
    logs = MagicMock(**{"get_query_results.return_value": {"status": "Failed"}})
    monkeypatch.setattr("alpaca_labeler.job.status.client", lambda _: logs)
    monkeypatch.setattr("time.sleep", Mock(side_effect=AssertionError))
    assert status._last_error("/farm/label") == "not known: the query of /farm/label is Failed"


def test_status_says_how_the_job_is_doing(labelled):
    assert "queue         waiting 0, in-work 0, oldest-seconds none" in said()
    for body in "12":
        for queue in ("QueueUrl", "DeadLetterQueueUrl"):
            labelled.sqs.send_message(QueueUrl=labelled.outputs[queue], MessageBody=body)
    put_metric("SQS", "ApproximateAgeOfOldestMessage", {"Name": "QueueName", "Value": "q"}, 9, 4000)
    assert "queue         waiting 2, in-work 0, oldest-seconds 4,000" in said()
    assert "parts         waiting 1, last-merge none" in said()
    bucket.compact("s3://results/labels/")
    found = json.loads(run("status", "farm", "--json").stdout)
    assert found["parts"].pop("last-merge").startswith("20")
    assert found["parts"] == {"waiting": 0}
    assert (found["state"], found["dead-letters"]) == ("CREATE_COMPLETE", 2)
    assert (found["model"], found["backfills"]) == ("the one in the package", [])


def test_status_says_when_compaction_ran_what_failed_and_which_alarms_are_not_ok(farm):  # noqa: ARG001
    log("label", '{"level":"ERROR","message":"cannot be read as a request","problem":"{"}')
    log("compact", "[ERROR] Deleted: one", "[ERROR] Deleted: labels/manifest.jsonl\nTraceback: ...")
    assert "compaction    last-run none, schedule none" in said()
    boto3.client("scheduler").create_schedule(
        Name="farm-compact",
        ScheduleExpression="rate(15 minutes)",
        State="DISABLED",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": "arn:aws:lambda:us-east-1:123456789012:function:c", "RoleArn": "r"},
    )
    put_metric("Lambda", "Invocations", {"Name": "FunctionName", "Value": "compact"}, 1, 1)
    shown = said()
    regularly = r"last-run 20\S+Z, schedule rate\(15 minutes\) DISABLED"
    assert re.search(f"compaction    {regularly}\n", shown)
    assert re.search(r"label-error   [\d :.-]+ cannot be read as a request: \{\n", shown)
    assert re.search(r"compact-error [\d :.-]+ \[ERROR\] Deleted: labels/manifest.jsonl\n", shown)
    assert "not-ok        none" in shown
    watch = boto3.client("cloudwatch")
    for name, state in {
        "farm-DeadLettersAlarm-1X": "ALARM",
        "farm-CompactStoppedAlarm-1X": "INSUFFICIENT_DATA",
        "farm-OldestMessageAlarm-1X": "OK",
        "farm-2-DeadLettersAlarm-1X": "ALARM",
        "farm-DeadLettersAlarm2": "ALARM",
    }.items():
        about = {"AlarmName": name, "AlarmDescription": "First: this", "Threshold": 0}
        about |= {"Period": 60, "EvaluationPeriods": 1, "MetricName": "m", "Namespace": "n"}
        watch.put_metric_alarm(**about, Statistic="Sum", ComparisonOperator="GreaterThanThreshold")
        watch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="x")
    assert (
        "alarms        ALARM 1, INSUFFICIENT_DATA 1, OK 1\n"
        "not-ok        ALARM farm-DeadLettersAlarm-1X: First: this\n"
        "              INSUFFICIENT_DATA farm-CompactStoppedAlarm-1X: First: this\n"
    ) in said()


def test_status_says_whether_the_bundle_of_the_pointer_is_there(farm, monkeypatch):
    uri, version = "s3://results/models/a/latest.json", bundle.load().card.version
    parameter = {"ParameterKey": "ModelUri", "ParameterValue": uri}
    described = stack.describe("farm") | {"Parameters": [parameter]}
    monkeypatch.setattr("alpaca_labeler.job.status.describe", lambda _: described)
    assert f"model         cannot be used: {uri}: not a model pointer" in said()
    pointer = json.dumps({"version": version}).encode()
    farm.s3.put_object(Bucket="results", Key="models/a/latest.json", Body=pointer)
    assert f"model         cannot be used: {uri}: no model bundle there" in said()
    for name in (bundle.CARD_FILE, bundle.MODEL_FILE):
        key = f"models/a/{version}/{name}"
        farm.s3.upload_file(f"{bundle.EMBEDDED}/{name}", "results", key)
    assert f"model         {version} of {uri}" in said()

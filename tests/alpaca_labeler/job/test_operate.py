"""The operator's commands, against moto's server: exact, and a dry run touches nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.console import stack
from alpaca_labeler.handler import events, parts, requeue, storage
from alpaca_labeler.handler.image_version import ImageVersion
from alpaca_labeler.job import backfill, dead_letters, operate
from alpaca_labeler.main import main
from tests.support import rows, stacks
from tests.support.aws import account

KEYS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("12"))
ROOT = Path(__file__).parents[3]


def run(*words):
    return CliRunner().invoke(main, words)


# --- comparing -----------------------------------------------------------------------------------


def row(key, etag, *, failed):
    kind = {"failure": {"code": "empty"}} if failed else {"alpaca-metadata": {}}
    return {"source-ref": f"s3://b/{key}", "labeler": {"etag": etag}, **kind}


@given(objects=KEYS, table=KEYS, failed=st.sets(st.sampled_from("abcdefgh")))
def test_every_object_and_every_row_is_named_once_with_its_state(objects, table, failed):
    images = [ImageVersion(f"s3://b/{key}", etag=objects[key]) for key in sorted(objects)]
    found_rows = [row(key, table[key], failed=key in failed) for key in sorted(table)]

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
    by_model, by_person, failed = rows.label("a"), rows.human("a"), rows.failure("a")
    image = [rows.version("a")]
    assert [f.state for f in operate.compare(image, [by_model], before)] == [state]
    assert [f.state for f in operate.compare(image, [by_person], before)] == ["labelled"]
    assert [f.state for f in operate.compare(image, [failed], before)] == ["failed"]


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
    found = [rows.label("a.jpg"), rows.failure("bad.jpg"), rows.label("old.jpg")]
    for each in found[:2]:
        each["labeler"]["etag"] = etags[each["source-ref"]]
    parts.write("s3://results/labels/", [*found, rows.label("gone.jpg")])
    return farm


def test_every_output_that_a_command_reads_is_one_of_the_template():
    def construct(loader, _suffix, node):
        return getattr(loader, f"construct_{node.id}")(node)

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", construct)
    template = yaml.load((ROOT / "template.yaml").read_text(encoding="utf-8"), Loader)
    used = {
        word
        for file in (ROOT / "alpaca_labeler").rglob("*.py")
        if file.parent.name in {"job", "table"}
        for word in file.read_text(encoding="utf-8").split('"')
        if word.endswith(("Uri", "Url", "Arn", "LogGroup")) and word[0].isupper() and word.isalnum()
    } - {"QueueArn", "ModelUri"}
    assert used
    assert used <= set(template["Outputs"])


def test_a_stack_that_is_not_there_is_one_sentence(farm):
    for words in (["audit", "--stack", "barn"], ["status", "barn"]):
        done = run(*words)
        assert done.exit_code == 1
        assert done.stderr.startswith("Error: barn: there is no such stack in us-east-1; ")
    assert farm


def test_an_output_that_is_missing_says_what_to_do(farm):
    template = {"Resources": {"Anything": {"Type": "AWS::SNS::Topic"}}}
    boto3.client("cloudformation").create_stack(StackName="old", TemplateBody=json.dumps(template))
    done = run("retry", "--stack", "old")
    assert "old: has no output ResultsUri; deploy it again" in done.stderr
    assert farm


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audit"], "give INPUT and RESULTS, or --stack NAME"),
        (["audit", "s3://a/"], "give RESULTS, or --stack NAME"),
        (["audit", "s3://a/", "s3://b/l/", "--requeue"], "--requeue needs --queue URL or --stack"),
        (["retry", "s3://b/l/"], "give --queue URL or --stack NAME"),
        (["backfill", "s3://photos/"], "give --stack NAME, --state-machine ARN or --queue URL"),
        (["backfill", "--queue", "u"], "--queue URL goes with INPUT alone"),
        (["redrive"], "give DLQ-URL, or --stack NAME"),
        (["manifest", "cat"], "give RESULTS, or --stack NAME"),
        (["manifest", "compact"], "give RESULTS, or --stack NAME"),
        (["manifest", "apply", __file__], "give RESULTS, or --stack NAME"),
    ],
)
def test_what_is_not_given_is_named(words, said):
    done = run(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


# --- audit and retry -----------------------------------------------------------------------------


def test_audit_reads_the_stack_and_names_what_has_no_row(labelled):
    done = run("audit", "--stack", "farm")
    assert done.exit_code == 0, done.output
    assert done.stdout == "missing\ts3://photos/new +1.jpg\nstale\ts3://photos/old.jpg\n"
    assert [line.split() for line in done.stderr.splitlines()] == [
        ["labelled", "1"],
        ["failed", "1"],
        ["missing", "1"],
        ["stale", "1"],
        ["gone", "1"],
    ]
    assert labelled.waiting() == []


def test_audit_check_exits_with_1_while_something_is_to_be_labelled(labelled):
    assert run("audit", "--stack", "farm", "--check").exit_code == 1
    for key in ("new +1.jpg", "old.jpg"):
        labelled.s3.delete_object(Bucket="photos", Key=key)
    assert run("audit", "--stack", "farm", "--check").exit_code == 0


def test_audit_refuses_a_prefix_that_holds_no_table(labelled):
    done = run("audit", "s3://photos/", "s3://results/wrong/", "--requeue", "--stack", "farm")
    assert done.exit_code == 1
    assert "s3://results/wrong/: holds neither a table nor a part" in done.stderr
    assert labelled.waiting() == []


def test_audit_queues_what_an_older_model_labelled(labelled):
    run("audit", "--stack", "farm", "--requeue", "--dry-run", "--model-before", "2-b")
    assert labelled.waiting() == []
    done = run("audit", "--stack", "farm", "--requeue", "--model-before", "2-b")
    assert "outdated            1" in done.stderr
    assert "queued 3" in done.stderr
    queued = [events.parse(json.loads(b), within="s3://").requests[0] for b in labelled.waiting()]
    assert {r.image.source_ref for r in queued} == {
        "s3://photos/a.jpg",
        "s3://photos/new +1.jpg",
        "s3://photos/old.jpg",
    }


def test_retry_shows_which_and_why_and_sends_only_when_asked(labelled):
    done = run("retry", "--stack", "farm", "--dry-run")
    assert done.stdout == "corrupt\ts3://photos/bad.jpg\n"
    assert labelled.waiting() == []
    assert "queued 1" in run("retry", "--stack", "farm").stderr
    assert len(labelled.waiting()) == 1


def test_the_manifest_commands_read_the_stack(labelled):
    done = run("manifest", "compact", "--stack", "farm")
    assert "merged 1 part\n" in done.stderr
    assert len(run("manifest", "cat", "--stack", "farm").stdout.splitlines()) == 3
    for words in (["show"], ["stats"], ["export", "--format", "csv"], ["prune", "--dry-run"]):
        done = run("manifest", *words, "--stack", "farm")
        assert done.exit_code == 0, done.stderr
        assert done.stdout == run("manifest", *words, "s3://results/labels/").stdout
    assert labelled


def test_pages_and_corrections_read_the_stack(labelled, tmp_path):
    page = tmp_path / "report.html"
    done = run("report", "--stack", "farm", "--no-photos", "--output", str(page))
    assert done.exit_code == 0, done.stderr
    assert "s3://photos/" in page.read_text(encoding="utf-8")

    corrections = tmp_path / "corrections.jsonl"
    rows = run("manifest", "cat", "--stack", "farm").stdout.splitlines()
    correction = json.loads(rows[0])
    correction["alpaca"] = 1 - correction["alpaca"]
    correction["alpaca-metadata"] |= {"human-annotated": "yes", "class-name": "checked"}
    corrections.write_text(json.dumps(correction) + "\n", encoding="utf-8")
    done = run("manifest", "apply", str(corrections), "--stack", "farm")
    assert "1 applied" in done.stderr
    assert "checked" in run("manifest", "show", "--stack", "farm").stdout
    assert labelled


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


@pytest.mark.parametrize("other", ["s3://other/2026/", "s3://photos-2/", "s3://other/"])
def test_backfill_refuses_a_bucket_that_the_job_does_not_work_on(farm, other):
    done = run("backfill", other, "--state-machine", farm.outputs["BackfillArn"])
    assert done.exit_code == 1
    assert f"{other}: this job works on s3://photos/ alone" in done.stderr
    assert inputs(farm) == []


def test_backfill_refuses_what_is_outside_the_jobs_prefix(farm):
    machine = farm.steps.create_state_machine(
        name="inbox",
        definition=farm.steps.describe_state_machine(stateMachineArn=farm.outputs["BackfillArn"])[
            "definition"
        ].replace(": '' %}", ": 'inbox/' %}"),
        roleArn="arn:aws:iam::123456789012:role/r",
    )["stateMachineArn"]
    assert run("backfill", "s3://photos/barn/", "--state-machine", machine).exit_code == 1
    assert run("backfill", "s3://photos/inbox/a", "--state-machine", machine).exit_code == 0
    assert run("backfill", "--state-machine", machine).exit_code == 0


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
            run = {"status": "RUNNING", "startDate": started, "name": "n", "executionArn": "r"}
            return {"executions": [run]}

        def list_map_runs(self, **_):
            return {"mapRuns": [{"mapRunArn": "m"}]}

        def describe_map_run(self, **_):
            return {"itemCounts": {"succeeded": 1200, "total": 10_000, "failed": 3}}

    monkeypatch.setattr("alpaca_labeler.job.backfill.client", lambda _: Steps())
    backfill._show_runs("machine")
    assert capsys.readouterr().out == (
        "RUNNING    2026-01-31 12:05  n  1,200 of 10,000 photos, 3 failed\n"
    )


def test_backfill_through_the_queue_sends_photos_and_no_markers(labelled):
    queue = labelled.outputs["QueueUrl"]
    assert "would queue 4" in run("backfill", "s3://photos/", "--queue", queue, "--dry-run").stderr
    assert "queued 4" in run("backfill", "s3://photos/", "--queue", queue).stderr


# --- redrive -------------------------------------------------------------------------------------


def dead(farm, count):
    for number in range(count):
        body = json.dumps(
            {"Records": [requeue.announcement(ImageVersion(f"s3://photos/{number}"))]}
        )
        farm.sqs.send_message(QueueUrl=farm.outputs["DeadLetterQueueUrl"], MessageBody=body)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["stack", "url"])
def test_redrive_moves_every_message_itself_if_sqs_does_not_offer_it(farm, by):
    dead(farm, 23)
    url = farm.outputs["DeadLetterQueueUrl"]
    words = ["redrive", "--stack", "farm"] if by == "stack" else ["redrive", url]
    assert "would move about 23 messages" in run(*words, "--dry-run").stderr
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert f"moved 23 messages to {farm.outputs['QueueUrl']}" in done.stderr
    assert dead_letters._waiting(farm.sqs, url) == 0
    assert dead_letters._waiting(farm.sqs, farm.outputs["QueueUrl"]) == 23


@pytest.mark.slow
def test_redrive_lists_which_photos_since_when_and_why_and_hides_none(farm):
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName="/farm/label")
    logs.create_log_stream(logGroupName="/farm/label", logStreamName="s")
    dead(farm, 2)
    farm.sqs.send_message(QueueUrl=farm.outputs["DeadLetterQueueUrl"], MessageBody="\x1b[31m{")
    now = int(datetime.now(UTC).timestamp() * 1000)
    said = {"message": "to be tried again", "image": "s3://photos/1", "problem": "SlowDown"}
    logs.put_log_events(
        logGroupName="/farm/label",
        logStreamName="s",
        logEvents=[{"timestamp": now, "message": json.dumps(said)}],
    )
    done = run("redrive", "--stack", "farm", "--list")
    assert done.exit_code == 0, done.output
    found = {line.split("\t")[1]: line.split("\t") for line in done.stdout.splitlines()}
    assert found["s3://photos/1"][2] == "SlowDown"
    assert found["s3://photos/0"][2] == "see the function's log"
    assert "cannot be read" in found["\\x1b[31m{"][2]
    assert all(datetime.fromisoformat(line[0]) for line in found.values())
    assert "3 messages" in done.stderr
    assert dead_letters._waiting(farm.sqs, farm.outputs["DeadLetterQueueUrl"]) == 3


class Sqs:
    """An SQS that moves messages itself."""

    def __init__(self, *states, refuses=None):
        self.states = list(states)
        self.refuses = refuses
        self.asked = None

    def start_message_move_task(self, **asked):
        self.asked = asked
        if self.refuses:
            raise ClientError({"Error": {"Code": "X", "Message": self.refuses}}, "Start")

    def list_message_move_tasks(self, **_):
        status, moved = self.states.pop(0)
        return {
            "Results": [
                {
                    "Status": status,
                    "ApproximateNumberOfMessagesMoved": moved,
                    "ApproximateNumberOfMessagesToMove": 9,
                    "FailureReason": "denied",
                }
            ]
        }


def test_redrive_names_the_destination_and_shows_progress(monkeypatch, capsys):
    monkeypatch.setattr(dead_letters, "POLL_SECONDS", 0)
    sqs = Sqs(("RUNNING", 4), ("COMPLETED", 9))
    assert dead_letters._task(sqs, "dlq-arn", "queue-arn") == 9
    assert sqs.asked == {"SourceArn": "dlq-arn", "DestinationArn": "queue-arn"}
    assert capsys.readouterr().err == "4 of 9\n"


def test_a_move_that_is_under_way_is_watched_and_one_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(dead_letters, "POLL_SECONDS", 0)
    running = Sqs(("COMPLETED", 9), refuses="There is already a task running")
    assert dead_letters._task(running, "a", "b") == 9
    with pytest.raises(dead_letters.RedriveError, match="moved 3 messages and stopped: denied"):
        dead_letters._task(Sqs(("FAILED", 3)), "a", "b")


def test_a_dead_letter_queue_of_no_queue_needs_a_destination(farm):
    url = farm.sqs.create_queue(QueueName="alone")["QueueUrl"]
    done = run("redrive", url)
    assert done.exit_code == 1
    assert "name one with --to URL" in done.stderr


# --- status --------------------------------------------------------------------------------------


def test_status_says_how_the_job_is_doing(labelled):
    dead(labelled, 2)
    watch = boto3.client("cloudwatch")
    firing = ("farm-DeadLettersAlarm-1X", "farm-2-DeadLettersAlarm-1X", "farm-DeadLettersAlarm2")
    for name in (*firing, "farm-OldestMessageAlarm-1X"):
        watch.put_metric_alarm(
            AlarmName=name,
            AlarmDescription="Photos were given up on. First: alpaca redrive --list --stack farm",
            MetricName="m",
            Namespace="n",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
        )
    for name in firing:
        watch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="x")
    done = run("status", "farm")
    assert done.exit_code == 0, done.output
    said = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line[0] != " ")
    assert said["stack"] == "farm, CREATE_COMPLETE"
    assert said["queue"] == "0 waiting, 0 in work"
    assert said["dead"] == "letters  2"
    assert said["parts"].startswith("1 to be merged, the oldest of 20")
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
    done = run("redrive", "https://sqs.us-east-1.amazonaws.com/123456789012/none")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "NonExistentQueue" in done.stderr
    assert farm

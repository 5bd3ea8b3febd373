"""The operator's commands: comparing is exact, and a dry run touches nothing."""

from __future__ import annotations

import json
from collections import Counter

import boto3
import pytest
from botocore.stub import Stubber
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.handler.image_version import ImageVersion
from alpaca_labeler.job import operate
from alpaca_labeler.main import main

KEYS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("12"))


def row(key, etag, *, failed):
    kind = {"failure": {"code": "empty"}} if failed else {"alpaca-metadata": {}}
    return {"source-ref": f"s3://b/{key}", "labeler": {"etag": etag}, **kind}


@given(objects=KEYS, table=KEYS, failed=st.sets(st.sampled_from("abcdefgh")))
def test_every_object_and_every_row_is_named_once_with_its_state(objects, table, failed):
    images = [ImageVersion(f"s3://b/{key}", etag=objects[key]) for key in sorted(objects)]
    rows = [row(key, table[key], failed=key in failed) for key in sorted(table)]

    found = {item.source_ref[-1]: item.state for item in operate.compare(images, rows)}

    def expected(key):
        if key not in objects:
            return "gone"
        if key not in table:
            return "missing"
        if objects[key] != table[key]:
            return "stale"
        return "failed" if key in failed else "labelled"

    assert found == {key: expected(key) for key in objects.keys() | table.keys()}


def test_a_message_announces_an_image_as_s3_would():
    image = ImageVersion("s3://b/red flower+ü.jpg", size=3, etag="e")

    record = operate._record(image)

    assert record["s3"]["object"] == {"key": "red+flower%2B%C3%BC.jpg", "size": 3, "eTag": "e"}


@pytest.fixture
def service(monkeypatch):
    """A client whose answers are scripted: moto has neither of the two calls."""

    def make(name):
        client = boto3.client(
            name, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        monkeypatch.setattr(operate, "_aws", lambda asked: {name: client}[asked])
        return Stubber(client)

    return make


DLQ = "https://sqs.us-east-1.amazonaws.com/123456789012/dlq"
DLQ_ARN = "arn:aws:sqs:us-east-1:123456789012:dlq"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:m"


@pytest.mark.parametrize("dry", [True, False])
def test_redrive_has_sqs_move_the_dead_letters(service, dry):
    stub = service("sqs")
    attributes = {"ApproximateNumberOfMessages": "7", "QueueArn": DLQ_ARN}
    stub.add_response("get_queue_attributes", {"Attributes": attributes})
    if not dry:
        stub.add_response("start_message_move_task", {"TaskHandle": "t"}, {"SourceArn": DLQ_ARN})
    with stub:
        result = CliRunner().invoke(main, ["redrive", DLQ, *(["--dry-run"] if dry else [])])
    stub.assert_no_pending_responses()
    assert result.exit_code == 0, result.output
    assert ("would move" if dry else "moving") in result.stderr
    assert "7 messages" in result.stderr


def test_backfill_starts_the_state_machine_for_a_prefix(service):
    stub = service("stepfunctions")
    stub.add_response(
        "start_execution",
        {"executionArn": "arn:aws:states:us-east-1:123456789012:execution:m:1", "startDate": 0},
        {"stateMachineArn": MACHINE, "input": json.dumps({"prefix": "farm/"})},
    )
    with stub:
        result = CliRunner().invoke(
            main, ["backfill", "s3://photos/farm/", "--state-machine", MACHINE]
        )
    stub.assert_no_pending_responses()
    assert result.stdout == "arn:aws:states:us-east-1:123456789012:execution:m:1\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["backfill", "s3://photos/"], "--state-machine ARN or --queue URL"),
        (["audit", "s3://a/", "s3://b/l/", "--requeue"], "--requeue needs --queue"),
    ],
)
def test_a_missing_option_is_named(arguments, words):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_what_aws_refuses_is_one_sentence(service):
    stub = service("sqs")
    stub.add_client_error("get_queue_attributes", "AccessDenied", "not for you")
    with stub:
        result = CliRunner().invoke(main, ["redrive", DLQ])
    assert result.exit_code == 1
    assert Counter(result.stderr)["\n"] == 1
    assert "AccessDenied" in result.stderr

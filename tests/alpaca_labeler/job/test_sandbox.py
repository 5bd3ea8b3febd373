"""The whole job on this machine: real bucket events, real queue, real handler, real compaction."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from alpaca_labeler import storage
from alpaca_labeler.handler import app
from alpaca_labeler.job import local_aws
from alpaca_labeler.main import main
from alpaca_labeler.table.row import Row
from tests.support.aws import account, forget_function

pytestmark = pytest.mark.slow  # each test runs a job of its own
PHOTOS = Path(__file__).parents[2] / "photos"


@pytest.fixture
def running():
    forget_function()
    with local_aws.start() as started:
        yield started
    forget_function()


def rows_at(uri):
    return [Row.from_line(line) for line in storage.read(uri, 2**24).splitlines()]


def without_moment(row):
    return row.source_ref, row.read._replace(at="", sequencer=None), row.answer


def test_uploads_become_the_manifest_that_the_command_line_makes(running, tmp_path):
    s3 = boto3.client("s3")
    keys = {"alpaca.jpg": "farm/red flower+ü.jpg", "cat.png": "a&b=100%.png", "rocket.jpg": "r"}
    for name, key in keys.items():
        s3.upload_file(str(PHOTOS / name), local_aws.INPUT_BUCKET, key)
    s3.put_object(Bucket=local_aws.INPUT_BUCKET, Key="broken.jpg", Body=b"no picture")
    shown: list[Row] = []

    running.run(shown.append, until_idle=True)

    made = tmp_path / "manifest.jsonl"
    arguments = ["label", f"s3://{local_aws.INPUT_BUCKET}/", "--manifest", str(made), "--workers=1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    rows = rows_at(local_aws.MANIFEST_URI)
    assert [*map(without_moment, rows)] == [*map(without_moment, rows_at(str(made)))]
    assert {row.source_ref: row.failure and row.failure.code for row in rows} == {
        f"s3://{local_aws.INPUT_BUCKET}/broken.jpg": "not-an-image",
        **{f"s3://{local_aws.INPUT_BUCKET}/{key}": None for key in keys.values()},
    }
    assert {row.source_ref for row in shown} == {row.source_ref for row in rows}


DIES = """
import os
from alpaca_labeler.photos import images
from alpaca_labeler.pipeline import worker
real = images.decode
def decode(data, *rest, **options):
    if b"POISON" in data: os.kill(os.getpid(), 11)
    return real(data, *rest, **options)
images.decode = decode
worker.main()
"""


def test_a_photo_that_killed_the_function_costs_one_photo(running, monkeypatch):
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess,
        "Popen",
        lambda command, **options: real([sys.executable, "-c", DIES, command[-1]], **options),
    )
    good = (PHOTOS / "alpaca.jpg").read_bytes()
    s3 = boto3.client("s3")
    for number in range(5):
        body = good + (b"POISON" if number == 2 else b"")
        s3.put_object(Bucket=local_aws.INPUT_BUCKET, Key=f"p{number}.jpg", Body=body)
    # The function died with all of them: SQS shows them again, and counts.
    taken = running.sqs.receive_message(
        QueueUrl=running.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0
    )
    assert len(taken["Messages"]) >= 5
    shown: list[Row] = []
    running.run(shown.append, until_idle=True)

    assert {row.source_ref[-6:-4]: row.failure and row.failure.code for row in shown} == {
        "p0": None,
        "p1": None,
        "p2": "crashed",
        "p3": None,
        "p4": None,
    }


def test_a_failure_is_labelled_once_another_limit_allows_it(running, monkeypatch):
    storage.client().upload_file(str(PHOTOS / "alpaca.jpg"), local_aws.INPUT_BUCKET, "alpaca.jpg")
    monkeypatch.setenv("MAX_PIXELS", "1000")
    running.run(lambda _: None, until_idle=True)
    [row] = rows_at(local_aws.MANIFEST_URI)
    assert row.failure
    monkeypatch.delenv("MAX_PIXELS")
    app._settings.cache_clear()
    app._model.cache_clear()

    uris = [f"s3://{local_aws.INPUT_BUCKET}/", local_aws.RESULTS_URI]
    words = ["audit", *uris, "--requeue", "--queue", running.queue_url]
    none = CliRunner().invoke(main, words)
    result = CliRunner().invoke(main, [*words, "--failed"])
    running.run(lambda _: None, until_idle=True)

    assert "queued 0" in none.stderr
    assert result.stdout == "failed\ts3://photos/alpaca.jpg\ttoo-many-pixels\n"
    assert [row.label for row in rows_at(local_aws.MANIFEST_URI)] == ["alpaca"]


def test_ctrl_c_stops_the_sandbox_and_leaves_nothing(tmp_path, monkeypatch):
    command = [sys.executable, "-m", "alpaca_labeler", "sandbox"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process: Any = subprocess.Popen(command, **pipes, cwd=tmp_path)
    try:
        endpoint = process.stderr.readline().split()[2].rstrip(".")
        with account(monkeypatch, endpoint):
            s3 = boto3.client("s3")
        s3.upload_file(str(PHOTOS / "alpaca.jpg"), local_aws.INPUT_BUCKET, "new.jpg")
        assert "s3://photos/new.jpg" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_photos_is_one_sentence(tmp_path):
    result = CliRunner().invoke(main, ["sandbox", "--upload", str(tmp_path)])
    assert (result.exit_code, "Error: no photo was uploaded" in result.output) == (1, True)


def test_a_model_that_is_not_there_is_one_sentence_before_anything_is_uploaded(tmp_path):
    done = CliRunner().invoke(main, ["sandbox", "--model", str(tmp_path / "none")])
    assert done.exit_code == 1
    assert f"Error: {tmp_path}/none: no model bundle there" in done.stderr

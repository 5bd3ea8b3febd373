"""The whole job on this machine: real bucket events, real queue, real handler, real compaction."""

from __future__ import annotations

import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner
from msgspec import structs

from alpaca_labeler import storage
from alpaca_labeler.handler import app
from alpaca_labeler.job import local_aws
from alpaca_labeler.main import main
from alpaca_labeler.table.row import Row
from tests.support.aws import account, forget_function
from tests.support.rows import rows_of
from tests.support.runs import interrupt, start

pytestmark = pytest.mark.slow  # each test runs a job of its own
INPUT = f"s3://{local_aws.INPUT_BUCKET}/"


@pytest.fixture
def running():
    forget_function()
    with local_aws.start() as started:
        yield started
    forget_function()


def upload(key, data):
    storage.client().put_object(Bucket=local_aws.INPUT_BUCKET, Key=key, Body=data)


def codes(rows):
    """Key: the code of its failure, or None."""
    return {r.source_ref.removeprefix(INPUT): r.failure and r.failure.code for r in rows}


def without_moment(row):
    return row.source_ref, structs.replace(row.read, at="", sequencer=None), row.answer


def test_uploads_become_the_manifest_that_the_command_line_makes(running, photos, tmp_path):
    keys = {"alpaca.jpg": "farm/red flower+ü.jpg", "cat.png": "a&b=100%.png", "rocket.jpg": "r"}
    for name, key in keys.items():
        upload(key, (photos / name).read_bytes())
    upload("broken.jpg", b"no picture")
    shown: list[Row] = []
    running.run(shown.append, until_idle=True)

    made = tmp_path / "manifest.jsonl"
    result = CliRunner().invoke(main, ["label", INPUT, "--manifest", str(made), "--workers=1"])
    assert result.exit_code == 0, result.output
    rows = rows_of(local_aws.RESULTS_URI)
    assert [*map(without_moment, rows)] == [*map(without_moment, rows_of(made))]
    wanted = {"broken.jpg": "not-an-image", **dict.fromkeys(keys.values())}
    assert codes(rows) == codes(shown) == wanted


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


def test_a_photo_that_killed_the_function_costs_one_photo(running, photos, monkeypatch):
    real, dies = subprocess.Popen, [sys.executable, "-c", DIES]
    monkeypatch.setattr(subprocess, "Popen", lambda words, **more: real([*dies, words[-1]], **more))
    good = (photos / "alpaca.jpg").read_bytes()
    for number in range(5):
        upload(f"p{number}", good + (b"POISON" if number == 2 else b""))
    # The function died with all of them: SQS shows them again, and counts.
    taken = running.sqs.receive_message(
        QueueUrl=running.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0
    )
    assert len(taken["Messages"]) >= 5
    shown: list[Row] = []
    running.run(shown.append, until_idle=True)
    assert codes(shown) == {"p0": None, "p1": None, "p2": "crashed", "p3": None, "p4": None}


def test_a_failure_is_labelled_once_another_limit_allows_it(running, photos, monkeypatch):
    upload("alpaca.jpg", (photos / "alpaca.jpg").read_bytes())
    monkeypatch.setenv("MAX_PIXELS", "1000")
    running.run(lambda _: None, until_idle=True)
    assert codes(rows_of(local_aws.RESULTS_URI)) == {"alpaca.jpg": "too-many-pixels"}
    monkeypatch.delenv("MAX_PIXELS")
    app._settings.cache_clear()
    app._model.cache_clear()

    words = ["audit", INPUT, local_aws.RESULTS_URI, "--requeue", "--queue", running.queue_url]
    none = CliRunner().invoke(main, words)
    result = CliRunner().invoke(main, [*words, "--failed"])
    running.run(lambda _: None, until_idle=True)
    assert "queued 0" in none.stderr
    assert result.stdout == "failed\ts3://photos/alpaca.jpg\ttoo-many-pixels\n"
    assert [row.label for row in rows_of(local_aws.RESULTS_URI)] == ["alpaca"]


def test_ctrl_c_stops_the_sandbox_and_leaves_nothing(photos, tmp_path, monkeypatch):
    process = start("sandbox", cwd=tmp_path)
    try:
        endpoint = process.stderr.readline().split()[2].rstrip(".")
        with account(monkeypatch, endpoint):
            upload("new.jpg", (photos / "alpaca.jpg").read_bytes())
        assert "s3://photos/new.jpg" in process.stdout.readline()
    finally:
        _, errors = interrupt(process)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("header", ["Origin", "Sec-Fetch-Site"])
def test_no_web_page_is_obeyed(running, header):
    asked = Request(f"{running.endpoint}/moto-api/reset", b"x", {header: "http://evil.example"})
    with pytest.raises(HTTPError, match="403"):
        urlopen(asked)
    assert storage.client().list_buckets()["Buckets"]


def test_a_folder_without_photos_is_one_sentence(tmp_path):
    result = CliRunner().invoke(main, ["sandbox", "--upload", str(tmp_path)])
    assert (result.exit_code, "Error: no photo was uploaded" in result.output) == (1, True)


def test_a_model_that_is_not_there_is_one_sentence_before_anything_is_uploaded(tmp_path):
    done = CliRunner().invoke(main, ["sandbox", "--model", str(tmp_path / "none")])
    assert done.exit_code == 1
    assert f"Error: {tmp_path}/none: no model bundle there" in done.stderr

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from alpaca_labeler import storage
from alpaca_labeler.handler import app, current_model, events
from alpaca_labeler.handler.settings import SettingsError, from_environment
from alpaca_labeler.job import local_aws
from alpaca_labeler.model import bundle
from alpaca_labeler.storage import requeue
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import bucket
from alpaca_labeler.table.facts import Read
from alpaca_labeler.table.row import Row
from tests.support import bundles
from tests.support.aws import forget_function

PHOTOS = Path(__file__).parents[1] / "photos"
RESULTS = "s3://results/labels/"
ALPACA = "s3://photos/alpaca.jpg"


def call(event, seconds=30.0, entry=app.label):
    """Call the function, which has that much time."""
    ends = time.monotonic() + seconds
    left = {"get_remaining_time_in_millis": lambda: int(1000 * (ends - time.monotonic()))}
    context: Any = SimpleNamespace(**vars(local_aws.CONTEXT) | left)
    return entry(event, context)


@pytest.fixture
def function(aws, monkeypatch):
    """Give the buckets, and the environment of the deployed function."""
    monkeypatch.setenv("RESULTS_URI", RESULTS)
    monkeypatch.setenv("INPUT_URI", "s3://photos/")
    monkeypatch.delenv("MODEL_URI", raising=False)
    for name in ("photos", "results", "models"):
        aws.create_bucket(Bucket=name)
    forget_function()
    yield aws
    forget_function()


def put(aws, *names, into=""):
    for name in names:
        aws.put_object(Bucket="photos", Key=into + name, Body=(PHOTOS / name).read_bytes())


def queued(**messages):
    """Make an SQS event: message id -> the keys it announces."""
    bodies = {id_: {"bucket": "photos", "keys": keys} for id_, keys in messages.items()}
    return {"Records": [{"messageId": id_, "body": json.dumps(b)} for id_, b in bodies.items()]}


def failures(answer):
    return [item["itemIdentifier"] for item in answer["batchItemFailures"]]


def written(aws):
    """Return the rows of each part."""
    listed = aws.list_objects_v2(Bucket="results", Prefix="labels/parts/").get("Contents", ())
    bodies = [aws.get_object(Bucket="results", Key=item["Key"])["Body"].read() for item in listed]
    return [[Row.from_line(line) for line in body.splitlines()] for body in bodies]


def before_fetching(monkeypatch, does):
    """Call `does(image)` before each photo is read."""
    real = storage.fetch

    def fetch(image, max_bytes):
        does(image)
        return real(image, max_bytes)

    app._model()
    monkeypatch.setattr(storage, "fetch", fetch)


def failing(monkeypatch, **errors):
    """Let reading a photo raise its error, by the name without its suffix."""

    def fail(image):
        if error := errors.get(Path(image.source_ref).stem):
            raise error

    before_fetching(monkeypatch, fail)


def emitted(capsys):
    """Return the metrics that were written since the last call."""
    lines = capsys.readouterr().out.splitlines()
    return [json.loads(line) for line in lines if '"_aws"' in line]


DENIED = storage.Denied("Access Denied")
SLOW = storage.Transient("SlowDown")
READ = Read("2026-01-01")


# --- label ---


def test_a_batch_becomes_one_part_and_an_empty_answer(function):
    put(function, "alpaca.jpg", "coffee.jpg", into="ü b+/")
    answer = call(queued(m1=["ü b+/alpaca.jpg"], m2=["ü b+/coffee.jpg"]))
    assert answer == {"batchItemFailures": []}
    [rows] = written(function)
    assert [(row.source_ref, row.label) for row in rows] == [
        ("s3://photos/ü b+/alpaca.jpg", "alpaca"),
        ("s3://photos/ü b+/coffee.jpg", "not alpaca"),
    ]


def test_sidecars_and_uploads_that_are_gone_are_no_failures(function, capsys):
    put(function, "alpaca.jpg")
    for name in ("alpaca.json", "alpaca.txt"):
        function.put_object(Bucket="photos", Key=name, Body=b"about")
    names = ["alpaca.jpg", "alpaca.json", "alpaca.txt", "renamed.jpg"]
    assert failures(call(queued(**{name: [name] for name in names}))) == []
    [[row]] = written(function)
    assert row.source_ref == "s3://photos/alpaca.jpg"
    [counts] = emitted(capsys)
    assert (counts["Labelled"], counts["Failed"], counts["Gone"]) == ([1], [0], [1])


@pytest.mark.parametrize(
    ("errors", "handed_back", "codes"),
    [
        ({"coffee": SLOW}, ["coffee"], [None]),
        ({"coffee": DENIED}, [], [None, "denied"]),
        ({"alpaca": DENIED, "coffee": DENIED}, ["alpaca", "coffee"], []),
    ],
    ids=["passing", "one denied", "all denied"],
)
def test_a_fault_hands_back_its_own_message_unless_s3_denies_one_among_others(
    function, monkeypatch, errors, handed_back, codes
):
    put(function, "alpaca.jpg", "coffee.jpg")
    failing(monkeypatch, **errors)
    event = queued(**{name: [f"{name}.jpg"] for name in ("alpaca", "coffee", "gone")})
    assert failures(call(event)) == handed_back
    found = [row for rows in written(function) for row in rows]
    assert [row.failure and row.failure.code for row in found] == codes
    assert all("Access Denied" in row.failure.message for row in found if row.failure)


def test_a_direct_caller_hears_what_is_left(function, monkeypatch):
    put(function, "alpaca.jpg", "coffee.jpg")
    event = {"bucket": "photos", "keys": ["alpaca.jpg", "coffee.jpg"]}
    failing(monkeypatch, coffee=SLOW)
    with pytest.raises(events.Unfinished, match=r"1 of 2 images .* SlowDown"):
        call(event)
    failing(monkeypatch, coffee=DENIED)
    assert call(event) == {"images": 2, "rows": 2}


@pytest.mark.parametrize(
    ("announced", "fetched"),
    [
        ([("0A", 1), ("0B", 2), ("09FF", 3)], ImageVersion(ALPACA, size=2, sequencer="0B")),
        ([(None, 1), (None, 2)], ImageVersion(ALPACA)),  # which is later is unknown
        ([(None, 7), (None, 7)], ImageVersion(ALPACA, size=7)),
    ],
)
def test_an_image_announced_more_than_once_is_labelled_once_in_its_latest_state(
    function, monkeypatch, announced, fetched
):
    put(function, "alpaca.jpg")
    asked: list[ImageVersion] = []
    before_fetching(monkeypatch, asked.append)
    event = queued(**{f"m{number}": [] for number in range(len(announced))})
    for record, (sequencer, size) in zip(event["Records"], announced, strict=True):
        found = {"key": "alpaca.jpg", "size": size, "sequencer": sequencer}
        where = {"bucket": {"name": "photos"}, "object": found}
        record["body"] = json.dumps({"eventName": "ObjectCreated:Put", "s3": where})
    assert failures(call(event)) == []
    assert asked == [fetched]
    assert len(written(function)[0]) == 1


@pytest.mark.slow
def test_before_time_runs_out_what_is_done_is_written_and_the_rest_handed_back(
    function, monkeypatch
):
    put(function, "alpaca.jpg")
    before_fetching(monkeypatch, lambda image: time.sleep(3 * ("slow" in image.source_ref)))
    began = time.monotonic()
    answer = call(queued(m1=["alpaca.jpg"], m2=["slow.jpg"]), seconds=2)
    assert time.monotonic() - began < 2
    assert failures(answer) == ["m2"]
    assert len(written(function)[0]) == 1


def test_counts_are_metrics_without_keys_and_logs_carry_the_request_id(
    function, capsys, monkeypatch
):
    put(function, "alpaca.jpg")
    function.put_object(Bucket="photos", Key="secret.jpg", Body=b"no photo")
    monkeypatch.setattr(app.logger.registered_handler, "stream", sys.stdout)
    assert failures(call(queued(m1=["alpaca.jpg"], m2=["secret.jpg"]))) == []
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [emf] = [line for line in lines if "_aws" in line]
    assert (emf["Labelled"], emf["Failed"], emf["Retried"]) == ([1.0], [1.0], [0.0])
    assert "secret" not in json.dumps(emf)
    [log] = [line for line in lines if line.get("image") == "s3://photos/secret.jpg"]
    assert log["function_request_id"] == local_aws.CONTEXT.aws_request_id


# --- what is left ---


@pytest.fixture
def queue(queue, monkeypatch):
    """Let the function know the queue."""
    monkeypatch.setenv("QUEUE_URL", queue[1])
    app._settings.cache_clear()
    return queue


def test_a_direct_caller_hears_no_error_for_one_slow_photo_which_the_queue_takes(
    function, queue, monkeypatch
):
    put(function, "alpaca.jpg")
    failing(monkeypatch, **{"slow +1": SLOW})
    event = {
        "BatchInput": {"bucket": "photos"},
        "Items": [{"Key": "alpaca.jpg"}, {"Key": "slow +1.jpg", "Size": 5, "Etag": "e"}],
    }
    assert call(event) == {"images": 2, "rows": 1, "queued": 1}
    sqs, url = queue
    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    again = events.parse(json.loads(message["Body"]), within="s3://photos/")
    assert [r.image for r in again.requests] == [
        ImageVersion("s3://photos/slow +1.jpg", size=5, etag="e")
    ]


@pytest.mark.parametrize("body", ["{", '{"bucket": "photos", "keys": ["alpaca.jpg"]}'])
def test_what_is_handed_back_comes_again_soon(function, queue, monkeypatch, body):
    put(function, "alpaca.jpg")
    failing(monkeypatch, alpaca=DENIED)
    asked = []
    monkeypatch.setattr(requeue, "_call", lambda _operation, _queue, entries: asked.extend(entries))
    sqs, url = queue
    sqs.send_message(QueueUrl=url, MessageBody=body)
    [message] = sqs.receive_message(QueueUrl=url, AttributeNames=["All"])["Messages"]
    handle = message["ReceiptHandle"]
    record = {"messageId": "m1", "receiptHandle": handle, "body": message["Body"]}
    event = {"Records": [record | {"attributes": message["Attributes"]}]}
    assert failures(call(event)) == ["m1"]
    assert asked == [{"Id": "0", "ReceiptHandle": handle, "VisibilityTimeout": 30}]


@pytest.mark.usefixtures("queue")
def test_if_nothing_is_labelled_all_is_tried_again_even_without_the_queue(function, monkeypatch):
    put(function, "alpaca.jpg")
    failing(monkeypatch, alpaca=DENIED)
    with pytest.raises(events.Unfinished):
        call({"bucket": "photos", "keys": ["alpaca.jpg"]})
    monkeypatch.setattr(requeue, "_call", Mock(side_effect=storage.Transient("no queue")))
    assert failures(call(queued(m1=["alpaca.jpg"]))) == ["m1"]


# --- compact ---


@pytest.mark.usefixtures("function")
def test_compaction_answers_with_what_it_did_and_waits_until_merging_pays(capsys):
    bucket.write(RESULTS, [Row(f"s3://photos/{number:03}", READ) for number in range(100)])
    done = call({}, entry=app.compact)
    assert done == {"rows": 100, "parts": 1, "broken": 0, "waiting": 0}
    assert [(line["Compacted"], line["PartsMerged"]) for line in emitted(capsys)] == [([1], [1])]
    bucket.write(RESULTS, [Row("s3://photos/new", READ)])
    done = call({}, entry=app.compact)
    assert (done["parts"], done["waiting"]) == (0, 1)


# --- the model in use ---


def publish(aws, folder, *, damaged=False, previous=None, **changes):
    """Put the built-in bundle, changed so, and a pointer to it there; return its version."""
    made = Path(bundles.make(folder, **changes))
    version = json.loads((made / bundle.CARD_FILE).read_text())["version"]
    if damaged:
        (made / bundle.MODEL_FILE).write_bytes(b"damaged")
    for file in made.iterdir():
        aws.upload_file(str(file), "models", f"m/{version}/{file.name}")
    pointer = json.dumps({"version": version, "previous": previous})
    aws.put_object(Bucket="models", Key="m/latest.json", Body=pointer)
    return version


@pytest.mark.usefixtures("function")
def test_a_package_for_another_processor_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "alpaca_labeler.handler.current_model", None)
    with pytest.raises(SettingsError, match="built for another architecture"):
        call(queued(m1=["a.jpg"]))


POINTER = {"MODEL_URI": "s3://models/m/latest.json"}
POINTER |= {"RESULTS_URI": RESULTS, "INPUT_URI": "s3://photos/"}


@pytest.fixture
def follow(function):  # noqa: ARG001 - it starts moto
    """Give the model in use, its clock and its warnings."""
    clock, warnings = Mock(return_value=0), list[str]()

    def start():
        settings = from_environment(POINTER)
        return current_model.CurrentModel(settings, warn=warnings.append, clock=clock)

    return start, clock, warnings


def test_a_pointer_that_moves_is_followed_after_the_stated_time(function, follow, tmp_path):
    start, clock, _ = follow
    old = publish(function, tmp_path)
    current = start()
    first = current.labeler()
    new = publish(function, tmp_path, threshold=0.9)
    clock.return_value = 299
    assert current.labeler() is first
    clock.return_value = 300
    assert (first.card.version, current.labeler().card.version) == (old, new)


def test_a_pointer_to_a_broken_bundle_leaves_the_old_one_in_use_until_it_is_repaired(
    function, follow, tmp_path
):
    start, clock, warnings = follow
    old = publish(function, tmp_path)
    current = start()
    publish(function, tmp_path, damaged=True, previous=old, threshold=0.9)
    clock.return_value = 300
    assert current.labeler().card.version == old
    assert "sha256" in warnings[0]
    new = publish(function, tmp_path, previous=old, threshold=0.9)
    clock.return_value = 600
    assert current.labeler().card.version == new


def test_a_broken_pointer_is_heard_of_and_photos_are_labelled_all_the_same(
    function, tmp_path, monkeypatch, capsys
):
    old = publish(function, tmp_path)
    publish(function, tmp_path, damaged=True, previous=old, threshold=0.9)
    put(function, "alpaca.jpg")
    monkeypatch.setenv("MODEL_URI", POINTER["MODEL_URI"])
    assert failures(call(queued(m1=["alpaca.jpg"]))) == []
    [counts] = emitted(capsys)
    assert (counts["ModelNotFollowed"], counts["Labelled"]) == ([1], [1])
    assert written(function)[0][0].model == old


def test_a_broken_bundle_without_a_previous_one_is_an_error_at_start(function, follow, tmp_path):
    publish(function, tmp_path, damaged=True)
    with pytest.raises(bundle.BundleError, match="sha256"):
        follow[0]()


# --- start ---


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "RESULTS_URI must be an S3 URI"),
        ({"LOG_LEVEL": "loud"}, "Unknown level: 'LOUD'"),
    ],
)
def test_in_lambda_an_invalid_environment_fails_at_start(environment, said):
    done = subprocess.run(
        [sys.executable, "-c", "import alpaca_labeler.handler.app"],
        env={"PATH": os.environ["PATH"], "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert said in done.stderr

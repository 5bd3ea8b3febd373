import json
from pathlib import Path

import pytest

from alpaca_labeler.handler import events
from alpaca_labeler.handler.events import Trigger, UnknownEvent
from alpaca_labeler.handler.image_version import ImageVersion

FOLDER = Path(__file__).parents[1] / "events"
ODD = "s3://photos/farm/red flower+ü%2F100%\n.jpg"
PLAIN_ODD = "s3://photos/farm/red flower+ü%2F.jpg"
ONE = ImageVersion(
    "s3://photos/farm/one.jpg",
    size=12345,
    last_modified="2026-01-31T12:00:00Z",
    etag="b21b84d653bb07b05b1e6b33684dc11b",
    sequencer="0C0F6F405D6ED209E1",
)


def parse(name, within="s3://photos/"):
    return events.parse(json.loads((FOLDER / f"{name}.json").read_text()), within=within)


def refs(batch):
    return [request.image.source_ref for request in batch.requests]


# --- what an event asks for ---


def test_an_s3_notification_carries_every_fact_of_the_version():
    batch = parse("s3-put")
    assert [request.image for request in batch.requests] == [ONE]
    assert batch.trigger is Trigger.CALLER


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s3-put-odd-key", [ODD]),
        ("sqs-s3", ["s3://photos/farm/one.jpg", ODD]),
        ("sqs-several-records", ["s3://photos/farm/one.jpg", ODD]),
        ("eventbridge-created", [PLAIN_ODD]),
        ("sqs-eventbridge", [PLAIN_ODD]),
        ("s3-batch-1.0", [PLAIN_ODD]),
        ("s3-batch-2.0", ["s3://photos/farm/red flower.jpg"]),
        ("distributed-map", [PLAIN_ODD, "s3://photos/two\nlines.jpg"]),
        ("plain", ["s3://photos/farm/one.jpg", PLAIN_ODD]),
        ("sqs-plain", ["s3://photos/farm/one.jpg", PLAIN_ODD]),
    ],
)
def test_a_key_is_decoded_once_by_the_rule_of_its_source(name, expected):
    assert refs(parse(name)) == expected


@pytest.mark.parametrize(
    "name", ["s3-removed", "s3-test-event", "sqs-test-event", "eventbridge-deleted"]
)
def test_what_announces_no_image_asks_for_none(name):
    batch = parse(name)
    assert (batch.requests, batch.broken) == ((), {})


def test_versions_and_sequencers_are_kept_if_the_event_has_them():
    [versioned] = parse("s3-versioned").requests
    assert versioned.image.version_id == "096fKKXTRTtl3on89fVO.nfljtsv6qko"
    [bridged] = parse("eventbridge-created").requests
    assert bridged.image == ImageVersion(
        PLAIN_ODD,
        size=5,
        last_modified="2026-01-31T12:00:00Z",
        etag="b57f9512698f4b09e608f4f2a65852e5",
        version_id="IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
        sequencer="00617F08299329D189",
    )


@pytest.mark.parametrize("etag", ["", '""'])
def test_an_etag_of_quotes_alone_is_none(etag):
    event = {"BatchInput": {"bucket": "photos"}, "Items": [{"Key": "a.jpg", "Etag": etag}]}
    (request,) = events.parse(event, within="s3://photos/").requests
    assert request.image.etag is None


def test_the_dates_and_etags_of_a_listing_become_ours():
    first, second = (request.image for request in parse("distributed-map").requests)
    assert first.etag == "b21b84d653bb07b05b1e6b33684dc11b"
    assert first.last_modified == second.last_modified == "2026-01-31T12:00:00Z"
    assert (first.size, second.size) == (12345, 7)


def test_each_image_is_tied_to_the_message_that_brought_it():
    batch = parse("sqs-several-records")
    assert {request.id for request in batch.requests} == {batch.ids[0]}


def test_a_message_that_cannot_be_read_is_handed_back_alone():
    batch = parse("sqs-poison")
    assert refs(batch) == ["s3://photos/farm/one.jpg"]
    assert [*batch.broken] == [*batch.ids[1:]]
    answer = events.answer(batch, {"s3://photos/farm/one.jpg": "alpaca"}, {})
    assert [item["itemIdentifier"] for item in answer["batchItemFailures"]] == [*batch.ids[1:]]


def record(key="farm/one.jpg", source="aws:s3", name="ObjectCreated:Put"):
    where = {"bucket": {"name": "photos"}, "object": {"key": key}}
    return {"eventSource": source, "eventName": name, "s3": where}


def queued(*bodies, receives=1):
    return [
        {
            "messageId": f"m{number}",
            "receiptHandle": f"r{number}",
            "body": json.dumps(body),
            "attributes": {"ApproximateReceiveCount": str(receives)},
        }
        for number, body in enumerate(bodies)
    ]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("aws:s3", "ObjectCreated:CompleteMultipartUpload"),
        ("minio:s3", "s3:ObjectCreated:Put"),
        ("ceph:s3", "ObjectCreated:Copy"),
        ("ceph:s3", "s3:ObjectCreated:Post"),
        (None, "s3:ObjectCreated:Put"),
    ],
)
def test_a_notification_of_any_store_is_known_by_its_name(source, name):
    event = {
        "EventName": name,
        "Key": "photos/farm/one.jpg",
        "Records": [record("a+b", source, name)],
    }
    assert refs(events.parse(event, within="s3://photos/")) == ["s3://photos/a b"]


S3 = {"Records": [record("a+1"), record("b")]}
EVENT_BRIDGE = {
    "source": "aws.s3",
    "detail-type": "Object Restore Completed",
    "detail": {"bucket": {"name": "photos"}, "object": {"key": "a+1"}},
}


def notification(event):
    return {"Type": "Notification", "TopicArn": "t", "Message": json.dumps(event)}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"Records": queued(notification(S3))}, ["a 1", "b"]),
        ({"Records": queued(S3)}, ["a 1", "b"]),  # SNS with raw delivery
        ({"Records": queued(notification(notification(S3)))}, ["a 1", "b"]),
        (
            {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": json.dumps(S3)}}]},
            ["a 1", "b"],
        ),
        (queued(S3, EVENT_BRIDGE), ["a 1", "b", "a+1"]),
        (queued(notification(EVENT_BRIDGE)), ["a+1"]),
        ([EVENT_BRIDGE, S3], ["a+1", "a 1", "b"]),
        ({"Records": queued([EVENT_BRIDGE])}, ["a+1"]),
    ],
)
def test_what_others_put_around_an_event_is_taken_off(event, expected):
    assert refs(events.parse(event, within="s3://photos/")) == [
        f"s3://photos/{k}" for k in expected
    ]


def test_pipes_hear_of_messages_as_a_queue_does():
    batch = events.parse(queued(S3, {"hello": "world"}), within="s3://photos/")
    done = dict.fromkeys(refs(batch), "alpaca")
    assert events.answer(batch, done, {}) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}


@pytest.mark.parametrize(
    "key", ["farm/", "x/y/", "farm_$folder$", "@eaDir/one.jpg", ".trash/a.jpg"]
)
def test_a_folder_marker_is_not_an_image(key):
    event = {"Records": queued({"Records": [record(key)]})}
    batch = events.parse(event, within="s3://photos/")
    assert (batch.requests, batch.broken) == ((), {})
    assert events.parse({"bucket": "photos", "keys": [key]}, within="s3://photos/").requests == ()


def test_an_object_without_an_image_suffix_is_read():
    batch = events.parse(
        {"bucket": "photos", "keys": ["a.jpg?size=2", "b.php", "c"]}, within="s3://"
    )
    assert len(batch.requests) == 3


def test_a_message_received_again_may_have_killed_the_function():
    assert not events.parse({"Records": queued(S3)}, within="s3://").isolated
    assert events.parse(
        {"Records": [*queued(S3), *queued(S3, receives=2)]}, within="s3://"
    ).isolated
    plain = {"bucket": "photos", "keys": ["a.jpg"]}
    assert not events.parse(plain, within="s3://").isolated
    assert events.parse(plain | {"isolated": True}, within="s3://").isolated


@pytest.mark.parametrize("name", ["s3-put", "eventbridge-created", "distributed-map", "plain"])
def test_an_image_outside_the_input_is_refused(name):
    with pytest.raises(UnknownEvent, match="not below INPUT_URI, s3://photos/barn/"):
        parse(name, within="s3://photos/barn/")


def test_an_image_outside_the_input_is_a_failed_message_or_task():
    assert len(parse("sqs-s3", within="s3://photos/barn/").broken) == 2
    batch = parse("s3-batch-1.0", within="s3://photos/barn/")
    [result] = events.answer(batch, {}, {})["results"]
    assert result["resultCode"] == "PermanentFailure"


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {},
        {"hello": "world"},
        {"Records": []},
        {"Records": [{"eventSource": "aws:dynamodb", "eventName": "INSERT"}]},
        {"Records": [{"eventSource": "aws:kinesis", "kinesis": {}}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "hello"}}]},
        {"Type": "Notification", "Message": "{}"},
        [{"hello": "world"}],
        {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectTagging:Put"}]},
        {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]},
        {"Records": ["text"]},
        {"source": "aws.s3", "detail-type": "Object Tags Added"},
        {"source": "aws.s3", "detail-type": "Object Created", "detail": {}},
        {"BatchInput": {}, "Items": [{"Key": "a.jpg"}]},
        {"bucket": "photos", "keys": "a.jpg"},
        {"bucket": "photos", "keys": [None]},
        {"bucket": "", "keys": ["a.jpg"]},
    ],
    ids=str,
)
def test_an_unknown_event_is_an_error(event):
    with pytest.raises(UnknownEvent):
        events.parse(event, within="s3://photos/")


# --- the answer ---


def test_a_queue_hears_each_message_to_deliver_again_once():
    batch = parse("sqs-several-records")
    again = dict.fromkeys(refs(batch), "throttled")
    assert events.answer(batch, {}, again) == {
        "batchItemFailures": [{"itemIdentifier": batch.ids[0]}]
    }


def test_a_queue_hears_nothing_if_all_is_well():
    batch = parse("sqs-s3")
    assert events.answer(batch, dict.fromkeys(refs(batch), "x"), {}) == {"batchItemFailures": []}


@pytest.mark.parametrize("schema", ["1.0", "2.0"])
def test_a_job_hears_a_result_code_for_each_task(schema):
    batch = parse(f"s3-batch-{schema}")
    [ref] = refs(batch)
    answer = events.answer(batch, {ref: "alpaca"}, {})
    assert answer["invocationSchemaVersion"] == schema
    assert answer["invocationId"] == batch.frame["invocationId"]
    [result] = answer["results"]
    assert result == {
        "taskId": batch.ids[0],
        "resultCode": "Succeeded",
        "resultString": "alpaca",
    }
    [result] = events.answer(batch, {}, {ref: "x" * 2000})["results"]
    assert (result["resultCode"], len(result["resultString"])) == ("TemporaryFailure", 1024)


def test_a_job_hears_of_a_folder_marker_that_it_is_skipped():
    event = json.loads((FOLDER / "s3-batch-1.0.json").read_text())
    event["tasks"][0]["s3Key"] = "farm/"
    [result] = events.answer(events.parse(event, within="s3://"), {}, {})["results"]
    assert (result["resultCode"], result["resultString"]) == ("Succeeded", "not a photo: skipped")


def test_every_other_caller_hears_an_error_while_something_is_left():
    batch = parse("plain")
    first, second = refs(batch)
    with pytest.raises(events.Unfinished, match=r"1 of 2 images .* throttled"):
        events.answer(batch, {first: "alpaca"}, {second: "throttled"})
    assert events.answer(batch, {first: "a", second: "b"}, {}) == {"images": 2, "rows": 2}

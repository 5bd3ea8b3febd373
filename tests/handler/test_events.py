"""Which images each trigger asks for, and what it hears."""

import json
from pathlib import Path

import pytest

from alpaca_labeler.handler import events
from alpaca_labeler.handler.events import UnknownEvent
from alpaca_labeler.storage.image_version import ImageVersion

FOLDER = Path(__file__).parents[1] / "events"
ODD = "farm/red flower+ü%2F100%\n.jpg"
PLAIN_ODD = "farm/red flower+ü%2F.jpg"
ONE = ImageVersion(
    "s3://photos/farm/one.jpg",
    size=12345,
    last_modified="2026-01-31T12:00:00Z",
    etag="b21b84d653bb07b05b1e6b33684dc11b",
    sequencer="0C0F6F405D6ED209E1",
)
BRIDGED = ImageVersion(
    f"s3://photos/{PLAIN_ODD}",
    size=5,
    last_modified="2026-01-31T12:00:00Z",
    etag="b57f9512698f4b09e608f4f2a65852e5",
    version_id="IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
    sequencer="00617F08299329D189",
)


def recorded(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def parse(event, within="s3://photos/"):
    return events.parse(event, within=within)


def keys(batch):
    return [request.image.source_ref.removeprefix("s3://photos/") for request in batch.requests]


def record(key="a.jpg", name="ObjectCreated:Put", source="aws:s3"):
    where = {"bucket": {"name": "photos"}, "object": {"key": key}}
    return {"eventSource": source, "eventName": name, "s3": where}


def bridged(kind="Object Created", key="a.jpg"):
    where = {"bucket": {"name": "photos"}, "object": {"key": key}}
    return {"source": "aws.s3", "detail-type": kind, "detail": where}


def queued(*bodies, receives=1):
    facts = {"attributes": {"ApproximateReceiveCount": str(receives)}, "receiptHandle": "r"}
    messages = ({"messageId": f"m{n}", "body": json.dumps(b)} for n, b in enumerate(bodies))
    return {"Records": [message | facts for message in messages]}


def notification(event):
    return {"Type": "Notification", "TopicArn": "t", "Message": json.dumps(event)}


# --- what an event asks for ---


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s3-put", ["farm/one.jpg"]),
        ("s3-put-odd-key", [ODD]),
        ("sqs-s3", ["farm/one.jpg", ODD]),
        ("eventbridge-created", [PLAIN_ODD]),
        ("distributed-map", [PLAIN_ODD, "two\nlines.jpg"]),
        ("s3-test-event", []),
    ],
)
def test_a_key_is_decoded_once_by_the_rule_of_its_source(name, expected):
    assert keys(parse(recorded(name))) == expected


def test_an_event_carries_every_fact_of_the_version():
    def images(name):
        return [request.image for request in parse(recorded(name)).requests]

    assert images("s3-put") == [ONE]
    assert images("eventbridge-created") == [BRIDGED]
    assert images("s3-versioned")[0].version_id == "096fKKXTRTtl3on89fVO.nfljtsv6qko"
    first, second = images("distributed-map")
    assert first.etag == "b21b84d653bb07b05b1e6b33684dc11b"
    assert first.last_modified == second.last_modified == "2026-01-31T12:00:00Z"
    assert (first.size, second.size) == (12345, 7)
    for etag in ("", '""'):
        item = {"Key": "a.jpg", "Etag": etag}
        [request] = parse({"BatchInput": {"bucket": "photos"}, "Items": [item]}).requests
        assert request.image.etag is None


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("aws:s3", "ObjectCreated:CompleteMultipartUpload"),
        ("minio:s3", "s3:ObjectCreated:Put"),
        ("ceph:s3", "ObjectCreated:Copy"),
        ("ceph:s3", "s3:ObjectSynced:Create"),
        (None, "s3:ObjectRestore:Completed"),
    ],
)
def test_a_notification_of_any_store_is_known_by_its_name(source, name):
    event = {"EventName": name, "Key": "photos/one.jpg", "Records": [record("a+b", name, source)]}
    assert keys(parse(event)) == ["a b"]


S3 = {"Records": [record("a+1"), record("b")]}
RESTORED = bridged("Object Restore Completed", "a+1")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (queued(notification(S3)), ["a 1", "b"]),
        (queued(S3), ["a 1", "b"]),  # SNS with raw delivery
        (queued(notification(notification(S3))), ["a 1", "b"]),
        ({"Records": [{"EventSource": "aws:sns", "Sns": notification(S3)}]}, ["a 1", "b"]),
        (queued(S3, RESTORED), ["a 1", "b", "a+1"]),
        (queued(notification(RESTORED)), ["a+1"]),
        (queued({"bucket": "photos", "keys": ["a+1"]}), ["a+1"]),
    ],
)
def test_what_others_put_around_an_event_is_taken_off(event, expected):
    assert keys(parse(event)) == expected


@pytest.mark.parametrize(
    "event",
    [
        *(
            record(name=name)
            for name in "ObjectTagging:Put ObjectAcl:Put LifecycleTransition IntelligentTiering "
            "s3:ObjectAccessed:Get s3:ObjectLifecycle:Expiration:Current ObjectRemoved:Delete "
            "ObjectRestore:Post ReducedRedundancyLostObject Replication:OperationMissedThreshold "
            "s3:Scanner:BigPrefix".split()
        ),
        *map(
            bridged,
            ["Object Tags Added", "Object ACL Updated", "Object Deleted", "Object Restore Expired"],
        ),
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "photos"},
        {"Type": "SubscriptionConfirmation", "Message": "You have chosen to subscribe"},
    ],
    ids=str,
)
def test_an_event_without_content_asks_for_nothing_and_stops_nothing(event):
    for whole in (event, queued(event), queued(notification(event)), {"Records": [event]}):
        batch = parse(whole)
        assert (batch.requests, batch.unreadable) == ((), ())
    assert keys(parse(queued({"Records": [event, record("new.jpg")]}))) == ["new.jpg"]


@pytest.mark.parametrize(
    "key",
    "farm/ x/y/ farm_$folder$ @eaDir/one.jpg .trash/a.jpg a.json a.txt a.xmp b.php".split(),
)
def test_what_a_folder_skips_by_its_name_is_skipped_here_too(key):
    for event in (queued({"Records": [record(key)]}), {"bucket": "photos", "keys": [key, "c"]}):
        batch = parse(event)
        assert keys(batch) in ([], ["c"])
        assert batch.unreadable == ()


def test_a_message_received_again_may_have_killed_the_function():
    assert not parse(queued(S3)).isolated
    assert parse({"Records": [*queued(S3)["Records"], *queued(S3, receives=2)["Records"]]}).isolated
    plain = {"bucket": "photos", "keys": ["a.jpg"]}
    assert not parse(plain).isolated
    assert parse(plain | {"isolated": True}).isolated


# --- what cannot be read ---

UNKNOWN = [
    {"hello": "world"},
    {"eventSource": "aws:dynamodb", "eventName": "INSERT"},
    {"eventSource": "aws:kinesis", "kinesis": {}},
    {"EventSource": "aws:sns", "Sns": {"Message": "hello"}},
    {"Type": "Notification", "Message": "{}"},
    {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"},
    {"source": "aws.s3", "detail-type": "AWS API Call via CloudTrail", "detail": {}},
    {"source": "aws.s3", "detail-type": "Object Created", "detail": {}},
    {"BatchInput": {}, "Items": [{"Key": "a.jpg"}]},
    {"bucket": "photos", "keys": "a.jpg"},
    {"bucket": "photos", "keys": [None]},
    {"bucket": "photos", "item": {"Key": "a.jpg", "LastModified": 1e17}},
    {"bucket": "", "keys": ["a.jpg"]},
    {"bucket": "barn", "keys": ["a.jpg"]},
    {},
    [],
    "text",
    None,
]


@pytest.mark.parametrize("event", [*UNKNOWN, {"Records": []}, {"Records": ["text"]}], ids=str)
def test_an_unknown_event_is_an_error(event):
    with pytest.raises(UnknownEvent):
        parse(event)


@pytest.mark.parametrize("unknown", UNKNOWN, ids=str)
def test_an_unknown_message_or_record_never_has_a_good_one_labelled_again(unknown):
    batch = parse(queued(S3, unknown))
    assert keys(batch) == ["a 1", "b"]
    assert events.answer(batch, 2, {}) == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    batch = parse(queued({"Records": [unknown, record("a"), unknown, record("b")]}))
    assert keys(batch) == ["a", "b"]
    assert [id_ for id_, _ in batch.unreadable] == ["m0", "m0"]
    assert events.answer(batch, 2, {}) == {"batchItemFailures": []}
    direct = parse({"Records": [unknown, record("a")]})
    assert keys(direct) == ["a"]
    assert events.answer(direct, 1, {})["unreadable"] == 1


@pytest.mark.parametrize("name", ["s3-put", "eventbridge-created", "distributed-map"])
def test_an_image_outside_the_input_is_refused(name):
    with pytest.raises(UnknownEvent, match="not below INPUT_URI, s3://photos/barn/"):
        parse(recorded(name), within="s3://photos/barn/")
    assert len(parse(recorded("sqs-s3"), within="s3://photos/barn/").again({})) == 2

"""What is handed to a queue, against moto's SQS."""

import json

import pytest

from alpaca_labeler import storage
from alpaca_labeler.handler import events
from alpaca_labeler.storage import requeue
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.storage.requeue import Message


def test_an_image_is_announced_as_s3_would(queue):
    sqs, url = queue
    image = ImageVersion("s3://b/red flower+ü.jpg", 3, None, "e", "v", "0A")
    assert requeue.announcement(image)["s3"]["object"]["key"] == "red+flower%2B%C3%BC.jpg"
    assert requeue.send(url, [image] * 23) == 23
    body = sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"]
    [request] = events.parse(json.loads(body), within="s3://b/").requests
    assert request.image == image


def test_a_message_is_visible_again_after_30_seconds_for_each_receive(monkeypatch):
    sent = []
    monkeypatch.setattr(requeue, "_call", lambda *call: sent.append(call))
    requeue.soon("q", [Message(f"r{n}", n) for n in range(1, 13)] + [Message("r", 99)])
    seconds = [e["VisibilityTimeout"] for _, _, entries in sent for e in entries]
    assert seconds == [30 * n for n in range(1, 13)] + [900]
    assert max(len(entries) for _, _, entries in sent) == 10


def test_a_hidden_message_becomes_visible(queue):
    sqs, url = queue
    requeue.send(url, [ImageVersion("s3://b/a.jpg")])
    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    requeue.soon(url, [Message(message["ReceiptHandle"], 0)])
    assert sqs.receive_message(QueueUrl=url)["Messages"]


@pytest.mark.usefixtures("aws")
def test_a_queue_that_is_not_there_is_one_error():
    with pytest.raises(storage.Transient, match="q"):
        requeue.send("https://sqs.us-east-1.amazonaws.com/1/q", [ImageVersion("s3://b/a.jpg")])

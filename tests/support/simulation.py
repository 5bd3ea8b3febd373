"""The whole job in one process: uploads, deliveries, workers and compactions, in seeded order.

Every actor is a thread, but only one runs at a time: at each storage call it hands over, and the
seed decides who goes on. So every run of a seed is the same, whatever the machine does.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from botocore.exceptions import ClientError, ReadTimeoutError

from alpaca_labeler import storage
from alpaca_labeler.handler import app, events
from alpaca_labeler.model.bundle import Bundle, Card
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.photos import images
from alpaca_labeler.pipeline import labeler
from alpaca_labeler.table import compaction, manifest_row, merge, pair
from tests.support.fake_s3 import FakeS3, error

INPUT, RESULTS = "s3://photos/", "s3://results/labels/"
CARD = Card("1-a", "alpaca", ("not", "alpaca"), 0.5, (0.4, 0.6), 8, "test", (1.0, 0.0), "")


class Crash(BaseException):
    """The worker is gone between two calls."""


class Scheduler:
    """Runs actors one at a time, in an order that the random numbers decide."""

    def __init__(self, rng):
        self._rng = rng
        self._back = threading.Semaphore(0)
        self._here = threading.local()
        self._waiting: list[threading.Semaphore] = []
        self._errors: list[BaseException] = []

    def spawn(self, function, *arguments):
        turn = threading.Semaphore(0)

        def run():
            self._here.turn = turn
            turn.acquire()
            try:
                function(*arguments)
            except BaseException as caught:
                self._errors.append(caught)
            self._waiting.remove(turn)
            self._back.release()

        self._waiting.append(turn)
        threading.Thread(target=run, daemon=True).start()

    def switch(self):
        """Let others go first; called by an actor, and without effect in the main thread."""
        turn = getattr(self._here, "turn", None)
        if turn:
            self._back.release()
            turn.acquire()

    def run(self):
        while self._waiting:
            self._rng.choice(self._waiting).release()
            self._back.acquire()
            if self._errors:
                raise self._errors[0]


class FaultyClient:
    """A share of all calls fails, before or after they took effect."""

    def __init__(self, s3, rng, scheduler, rate):
        self._s3, self._rng, self._scheduler, self.rate = s3, rng, scheduler, rate
        self.calls = self.faults = self.refused = 0

    def __getattr__(self, operation):
        return lambda **arguments: self._call(getattr(self._s3, operation), arguments)

    def _call(self, call, arguments):
        try:
            return self._answer(call, arguments)
        except ClientError as refusal:
            self.refused += refusal.response["Error"]["Code"] == "PreconditionFailed"
            raise

    def _answer(self, call, arguments):
        self._scheduler.switch()
        self.calls += 1
        if self._rng.random() >= self.rate:
            return call(**arguments)
        self.faults += 1
        kinds = ["throttle", "timeout", "lost", "retried", "crash", "late crash"]
        if arguments.keys() & {"IfMatch", "IfNoneMatch"}:
            kinds += ["conflict", "race"]
        kind = self._rng.choice(kinds)
        before = {
            "throttle": error("SlowDown", 503),
            "timeout": ReadTimeoutError(endpoint_url="s3"),
            "conflict": error("ConditionalRequestConflict", 409),
            "crash": Crash(),
        }
        after = {"lost": ReadTimeoutError(endpoint_url="s3"), "late crash": Crash()}
        if kind in before:
            raise before[kind]
        if kind == "race":  # somebody touches the very object first
            self._touch(arguments)
        answer = call(**arguments)
        if kind in after:
            raise after[kind]
        if kind == "retried":  # boto3 sends it again by itself: the second answer is what is heard
            body = arguments.get("Body")
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
            self._scheduler.switch()
            return call(**arguments)
        return answer

    def _touch(self, arguments):
        # A reader's editor adds an empty line: another ETag, the same rows.
        stored = self._s3.objects.get((arguments["Bucket"], arguments["Key"]))
        if stored and "IfMatch" in arguments:
            self._s3.put_object(arguments["Bucket"], arguments["Key"], stored.body + b"\n")


class Inline:
    """A thread pool whose work is done when it is asked for: no thread the scheduler lacks."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def map(self, function, items):
        return map(function, items)

    def submit(self, function, *arguments):
        done: Future[Any] = Future()
        done.set_result(function(*arguments))
        return done


class FakeClassifier:
    def __init__(self, bundle):
        self.card = bundle.card

    def predict(self, pixels):
        return decide(self.card, logit_of(pixels.tobytes()))


def decode(data, _size, *, max_pixels):
    assert max_pixels
    if data.startswith(b"bad"):
        raise images.ImageError("corrupt", "the image cannot be decoded")
    digest = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
    return images.ModelInput(digest, 640, 480)


def logit_of(digest: bytes) -> float:
    return (digest[0] - 127.5) / 32


@dataclass
class World:
    """Everything that one run is made of."""

    seed: int
    objects: int
    rate: float = 0.2
    workers: int = 8
    divide_bytes: int = compaction.DIVIDE_BYTES
    """A table that would be larger than this is divided into 16 shards."""
    rng: random.Random = field(init=False)

    def __post_init__(self):
        self.rng = random.Random(self.seed)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.s3 = FakeS3(self.tick, page=500)
        self.scheduler = Scheduler(self.rng)
        self.client = FaultyClient(self.s3, self.rng, self.scheduler, self.rate)
        self.queue: list[dict[str, Any]] = []
        self.uploading = True
        self.busy = 0
        self.versions: dict[str, list[str]] = {}
        self.crashes = self.deliveries = self.runs = 0

    def tick(self):
        # Slow enough that versions of one object often fall into the same second.
        self.now += timedelta(milliseconds=self.rng.randrange(150))
        return self.now

    # --- the actors ---

    def upload(self):
        plan = []
        for number in range(self.objects):
            key = f"farm {number % 7}/ü+{number}.jpg"
            changes = ["put"] * self.rng.choice((1, 1, 1, 2, 3))
            if self.rng.random() < 0.1:
                changes.append("delete")
            plan.append((self.rng.random(), key, changes))
        # Changes of one object keep their order; those of all objects are mixed.
        moments = sorted(
            (start + 0.3 * self.rng.random() * place, place, key, change)
            for start, key, changes in plan
            for place, change in enumerate(changes)
        )
        pending = {key: list(changes) for _, key, changes in plan}
        for _, _, key, _ in moments:
            self._change(key, pending[key].pop(0))
            self.scheduler.switch()
        self.uploading = False

    def _change(self, key, change):
        if change == "delete":
            self.s3.delete_objects("photos", {"Objects": [{"Key": key}]})
            return self._announce(key, "ObjectRemoved:Delete", {})
        seen = self.versions.setdefault(key, [])
        kind = "bad" if self.rng.random() < 0.1 else "good"
        # Some uploads bring back what was there two versions ago.
        back = len(seen) > 1 and self.rng.random() < 0.5
        body = seen[-2] if back else f"{kind} {key} {len(seen)}"
        seen.append(body)
        etag = self.s3.put_object("photos", key, body.encode())["ETag"].strip('"')
        self._announce(key, "ObjectCreated:Put", {"eTag": etag, "size": len(body.encode())})
        return None

    def _announce(self, key, name, facts):
        self._sequence = getattr(self, "_sequence", 0xFFF0) + self.rng.randrange(1, 9)
        from urllib.parse import quote_plus

        found = {"key": quote_plus(key), "sequencer": f"{self._sequence:08X}", **facts}
        record = {
            "eventSource": "aws:s3",
            "eventName": name,
            "eventTime": f"{self.now:%Y-%m-%dT%H:%M:%S.000Z}",
            "s3": {"bucket": {"name": "photos"}, "object": found},
        }
        body = json.dumps({"Records": [record]})
        for copy in range(self.rng.randrange(1, 6)):
            self.queue.append({"messageId": f"{self._sequence}/{copy}", "body": body})

    def work(self):
        reader = labeler.Labeler(Bundle(CARD, b"", {}), clock=self.tick)
        while self.uploading or self.queue or self.busy:
            self.scheduler.switch()
            taken = [self._take() for _ in range(self.rng.randrange(1, 21)) if self.queue]
            if not taken:
                continue
            self.busy += 1
            self.deliveries += len(taken)
            failed = {message["messageId"] for message in taken}
            try:
                failed = self._deliver(taken, reader)
            except Crash:
                self.crashes += 1
                reader = labeler.Labeler(Bundle(CARD, b"", {}), clock=self.tick)
            self.queue += [message for message in taken if message["messageId"] in failed]
            self.busy -= 1

    def _take(self):
        return self.queue.pop(self.rng.randrange(len(self.queue)))

    def _deliver(self, taken, reader):
        records = [{"eventSource": "aws:sqs", **message} for message in taken]
        batch = events.parse({"Records": records}, within=INPUT)
        results, unfinished = app.process(batch, reader, RESULTS, deadline=None)
        answer = events.answer(batch, results, unfinished)
        return {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}

    def backfill(self):
        """Label what is listed now, as a Distributed Map does: no sequencer, no version."""
        reader = labeler.Labeler(Bundle(CARD, b"", {}), clock=self.tick)
        while self.uploading or self.queue:
            listed = self.s3.list_objects_v2("photos", "", f"farm {self.rng.randrange(7)}/")
            items = [
                {"Key": item["Key"], "Size": item["Size"], "Etag": item["ETag"]}
                for item in listed["Contents"][: self.rng.randrange(1, 20)]
            ]
            event = {"BatchInput": {"bucket": "photos"}, "Items": items}
            batch = events.parse(event, within=INPUT)
            try:
                app.process(batch, reader, RESULTS, deadline=None)
            except Crash:
                self.crashes += 1
                reader = labeler.Labeler(Bundle(CARD, b"", {}), clock=self.tick)
            for _ in range(20):
                self.scheduler.switch()

    def compact(self):
        while self.uploading or self.queue or self.busy:
            self.compact_once()

    def compact_once(self):
        self.runs += 1
        try:
            return compaction.compact(
                RESULTS,
                max_parts=self.rng.randrange(1, 40),
                divide_bytes=self.divide_bytes,
                pause=0,
            )
        except storage.StorageError:
            pass
        except Crash:
            self.crashes += 1
        return None

    # --- a run, and what must be true at its end ---

    def run(self, monkeypatch):
        monkeypatch.setattr(storage, "client", lambda: self.client)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        monkeypatch.setattr(compaction, "ThreadPoolExecutor", Inline)
        monkeypatch.setattr(pair, "DIGITS", 1)
        monkeypatch.setattr(labeler, "Classifier", FakeClassifier)
        monkeypatch.setattr(images, "decode", decode)
        monkeypatch.setattr(app.logger, "warning", lambda *_, **__: None)
        monkeypatch.setattr(app.logger, "exception", lambda *_, **__: None)
        monkeypatch.setattr(app.logger, "info", lambda *_, **__: None)
        monkeypatch.setattr(app.metrics, "add_metric", lambda *_, **__: None)
        monkeypatch.setattr(app.metrics, "flush_metrics", lambda *_, **__: None)
        monkeypatch.setattr(merge, "merge", self._slowly(merge.merge))
        for actor in (self.upload, self.compact, self.compact, self.backfill):
            self.scheduler.spawn(actor)
        for _ in range(self.workers):
            self.scheduler.spawn(self.work)
        self.scheduler.run()
        for _ in range(10_000):
            done = self.compact_once()
            if done == compaction.Compacted():
                break
        else:
            raise AssertionError("compaction never comes to rest")
        return self

    def _slowly(self, real):
        def merging(*streams):
            # Merging takes time, in which much happens elsewhere.
            for _ in range(self.rng.choice((0, 3, 30, 100))):
                self.scheduler.switch()
            yield from real(*streams)

        return merging

    def rows(self, kind):
        """Return (shard, row) of each row in the labels ("manifest") or the "failures"."""
        found = []
        for (bucket, key), stored in self.s3.objects.items():
            name = key.removeprefix("labels/")
            shard = pair.shard_named(name) if bucket == "results" else None
            if shard is not None and name.startswith(kind):
                found += [
                    (shard, manifest_row.parse(line)) for line in stored.body.splitlines() if line
                ]
        return found

    def verify(self):
        """Each object that is still there has exactly one row, and it is the right one."""
        assert not [key for bucket, key in self.s3.objects if key.startswith("labels/parts/")]
        found = self.rows("manifest"), self.rows("failures")
        for shard, row in found[0] + found[1]:
            expected = pair.shard_of(row["source-ref"]) if self.divided else pair.WHOLE
            assert shard == expected, "a row is in another shard than its own"
        labels, failures = ([row for _, row in rows] for rows in found)
        assert not [row for row in labels if manifest_row.is_failure(row)]
        assert not [row for row in failures if not manifest_row.is_failure(row)]
        names = [row["source-ref"] for row in labels + failures]
        assert len(names) == len(set(names)), "an image has two rows"
        here = {INPUT + key for bucket, key in self.s3.objects if bucket == "photos"}
        ever = {INPUT + key for key in self.versions}
        assert here <= set(names) <= ever, "an image has no row"
        for row in labels + failures:
            self._verify_row(row)

    @property
    def divided(self):
        """Whether the table is divided into shards."""
        return any(key.startswith("labels/manifest/") for _, key in self.s3.objects)

    def _verify_row(self, row):
        key = row["source-ref"].removeprefix(INPUT)
        current = self.s3.objects.get(("photos", key))
        if current is None:
            return  # it was deleted: a row of any of its versions may be left, or none
        body = self.versions[key][-1].encode()
        facts = row["labeler"]
        etag = hashlib.md5(body).hexdigest()
        assert facts["etag"] == etag, f"{key}: the row is of an older version"
        assert facts["last-modified"] == f"{current.modified:%Y-%m-%dT%H:%M:%SZ}"
        if body.startswith(b"bad"):
            assert row["failure"]["code"] == "corrupt"
            return
        prediction = decide(CARD, logit_of(hashlib.sha256(body).digest()))
        assert row["alpaca"] == prediction.index
        assert facts["probability"] == prediction.probability

"""The whole job in one process: uploads, deliveries, people, compactions, in seeded order.

Every actor is a thread, but only one runs at a time: at each storage call it hands over, and the
seed decides who goes on. So every run of a seed is the same, whatever the machine does.

What must be true at the end is said by docs/architecture.md's table of facts, from what the actors
saw and did: nothing here merges rows.
"""

import contextlib
import hashlib
import itertools
import json
import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote_plus

import numpy as np
from botocore.exceptions import ReadTimeoutError
from msgspec import structs

from alpaca_labeler import storage
from alpaca_labeler.handler import app, events
from alpaca_labeler.model.bundle import Bundle, Card
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.photos import images
from alpaca_labeler.pipeline import labeler
from alpaca_labeler.table import bucket, lines, prune
from alpaca_labeler.table.facts import Decision
from alpaca_labeler.table.row import Row, merge
from alpaca_labeler.table.table import open_table
from tests.support.fake_s3 import FakeS3, error

INPUT, RESULTS = "s3://photos/", "s3://results/labels/"
CARD = Card("1-a", "alpaca", ("not", "alpaca"), 0.5, (0.4, 0.6), 8, "test", (1.0, 0.0), "")
MODELS = [structs.replace(CARD, version=version) for version in ("1-a", "2-b", "3-c")]


class Crash(BaseException):
    """The worker is gone between two calls."""


class Scheduler:
    """Runs actors one at a time, in an order that the random numbers decide."""

    def __init__(self, rng):
        self._rng = rng
        self._back = threading.Semaphore(0)
        self.here = threading.local()
        self._waiting: list[threading.Semaphore] = []
        self._errors: list[BaseException] = []

    def spawn(self, function, *arguments):
        turn = threading.Semaphore(0)

        def run():
            self.here.turn = turn
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
        turn = getattr(self.here, "turn", None)
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
        self.calls = 0

    def __getattr__(self, operation):
        return lambda **arguments: self._answer(getattr(self._s3, operation), arguments)

    def _answer(self, call, arguments):
        self._scheduler.switch()
        self.calls += 1
        steady = getattr(self._scheduler.here, "steady", False)
        if steady or self._rng.random() >= self.rate:
            return call(**arguments)
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
        if kind == "race":  # somebody adds an empty line first: another ETag, the same rows
            where = arguments["Bucket"], arguments["Key"]
            if where in self._s3.objects and "IfMatch" in arguments:
                self._s3.put_object(*where, self._s3.objects[where].body + b"\n")
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


def in_this_thread(*_):
    """Return a pool whose work is done when it is asked for: no thread the scheduler lacks."""
    return contextlib.nullcontext(SimpleNamespace(map=map))


class FakeClassifier:
    def __init__(self, bundle):
        self.card = bundle.card

    def predict(self, pixels):
        return decide(self.card, logit_of(pixels.tobytes(), self.card.version))


def decode(data, _size, *, max_pixels):
    assert max_pixels
    if data.startswith(b"bad"):
        raise images.ImageError("corrupt", "the image cannot be decoded")
    digest = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
    return images.ModelInput(digest, 640, 480)


def logit_of(digest: bytes, model: str) -> float:
    """What a model says of a picture: another one often says something else."""
    return (digest[int(model[0])] - 127.5) / 32


def order(row: Row):
    """The later read, then the later upload, then the greater sequencer."""
    assert row.read
    return row.read.at, row.read.last_modified or "", row.read.sequencer or ""


@dataclass
class Said:
    """What was written of one photo, by whom, and in which time by the count of calls."""

    row: Row
    begin: int
    """When its writer last looked."""
    end: int = 0
    acknowledged: bool = False


class World:
    """Everything that one run is made of."""

    def __init__(self, seed, objects, rate=0.2):
        self.objects = objects
        self.rng = random.Random(seed)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.s3 = FakeS3(self.tick, page=500, versioned=True)
        self.scheduler = Scheduler(self.rng)
        self.client = FaultyClient(self.s3, self.rng, self.scheduler, rate)
        self.queue: list[dict[str, Any]] = []
        self.model = MODELS[0]
        self.uploading = True
        self.busy = 0
        self.versions: dict[str, list[str]] = {}
        self.said: dict[str, list[Said]] = {}
        self._sequence = 0xFFF0

    def tick(self):
        # Slow enough that versions of one object often fall into the same second.
        self.now += timedelta(milliseconds=self.rng.randrange(150))
        return self.now

    @property
    def going_on(self):
        return self.uploading or self.queue or self.busy

    def upload(self):
        moments = []
        for number in range(self.objects):
            changes = ["put"] * self.rng.choice((1, 1, 1, 2, 3))
            if self.rng.random() < 0.1:
                changes.append("delete")
                changes += ["put"] * (self.rng.random() < 0.5)
            # Changes of one object keep their order; those of all objects are mixed.
            start = self.rng.random()
            times = sorted(start + 0.3 * self.rng.random() for _ in changes)
            key = f"farm {number % 7}/ü+{number}.jpg"
            moments += [(time, key, change) for time, change in zip(times, changes, strict=True)]
        for _, key, change in sorted(moments):
            self.change(key, change)
            self.scheduler.switch()
            if self.rng.random() < 20 / self.objects:  # a promotion or a rollback
                self.model = self.rng.choice(MODELS)
        self.uploading = False

    def change(self, key, change="put"):
        if change == "delete":
            self.s3.delete_objects("photos", {"Objects": [{"Key": key}]})
            self._announce(key, "ObjectRemoved:Delete", {})
            return
        seen = self.versions.setdefault(key, [])
        kind = "bad" if self.rng.random() < 0.1 else "good"
        drawn = self.rng.random()
        if len(seen) > 1 and drawn < 0.5:
            body = seen[-2]  # what was there two versions ago
        elif drawn < 0.55 and self.versions:
            other = self.rng.choice([*self.versions.values()])
            body = other[-1] if other else f"{kind} {key}"  # a copy of another photo
        else:
            body = f"{kind} {key} {len(seen)}"
        seen.append(body)
        etag = self.s3.put_object("photos", key, body.encode())["ETag"].strip('"')
        self._announce(key, "ObjectCreated:Put", {"eTag": etag, "size": len(body.encode())})

    def _announce(self, key, name, facts):
        self._sequence += self.rng.randrange(1, 9)
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
        while self.going_on:
            self.scheduler.switch()
            taken = [self.take() for _ in range(self.rng.randrange(1, 21)) if self.queue]
            if not taken:
                continue
            self.busy += 1
            failed = {message["messageId"] for message in taken}
            with contextlib.suppress(Crash):
                failed = self.deliver(taken)
            self.queue += [message for message in taken if message["messageId"] in failed]
            self.busy -= 1

    def take(self):
        return self.queue.pop(self.rng.randrange(len(self.queue)))

    def deliver(self, taken):
        """Have the function label some messages; return the ids of those that come again."""
        records = [{"eventSource": "aws:sqs", **message} for message in taken]
        batch = events.parse({"Records": records}, within=INPUT)
        answer = events.answer(batch, *self._process(batch))
        return {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}

    def _process(self, batch):
        reader = labeler.Labeler(Bundle(self.model, b"", {}), clock=lambda: self.now)
        return app.process(batch, reader, RESULTS, deadline=None)

    def backfill(self):
        """Label what is listed now, as a Distributed Map does: no sequencer, no version."""
        listed = self.s3.list_objects_v2("photos", "", f"farm {self.rng.randrange(7)}/")
        items = [
            {"Key": item["Key"], "Size": item["Size"], "Etag": item["ETag"]}
            for item in listed["Contents"][: self.rng.randrange(1, 20)]
        ]
        event = {"BatchInput": {"bucket": "photos"}, "Items": items}
        self._process(events.parse(event, within=INPUT))

    def review(self, who):
        """Open the table, decide some of it by some clock, and take some decisions back."""
        wrong = timedelta(days=self.rng.choice((-400, 0, 400)))
        opened = self.client.calls
        rows = {row.source_ref: row for row in self._table()}
        for _ in range(self.rng.randrange(12)) if rows else ():
            row = rows[self.rng.choice(list(rows)[:3])]
            label = self.rng.choice(["alpaca", "not", "goat", None])
            said = row.decided(label, who, self.now + wrong, index=0, attribute="alpaca")
            self.scheduler.here.since = opened
            bucket.write(RESULTS, [said])
            rows[row.source_ref] = merge(row, said)

    def prune(self):
        names = [row.source_ref for row in self._table()]
        bucket.write(RESULTS, prune.gone_in_s3(names))

    def _table(self):
        # One call for each part: with faults nobody would ever see a table.
        self.scheduler.here.steady = True
        try:
            return [*open_table(RESULTS).rows()]
        finally:
            self.scheduler.here.steady = False

    def compact(self):
        while self.going_on:
            self.compact_once()

    def compact_once(self):
        # What it writes is said for a person, about a copy: it may count, and need not.
        self.scheduler.here.since, self.scheduler.here.compacts = self.client.calls, True
        return self._or_fail(
            lambda: bucket.compact(
                RESULTS,
                max_parts=self.rng.randrange(1, 40),
                until="0",
                pause=0,
                part_bytes=self.rng.choice((250 * self.objects, 10**9)),  # several parts, or one
            )
        )

    def _or_fail(self, act):
        with contextlib.suppress(storage.StorageError, Crash):
            return act()

    def often(self, act, *arguments):
        while self.going_on:
            self._or_fail(lambda: act(*arguments))
            for _ in range(20):
                self.scheduler.switch()

    def run(self, monkeypatch):
        self.patch(monkeypatch)
        self.scheduler.spawn(self.upload)
        for actor in [self.compact] * 3 + [self.work] * 8:
            self.scheduler.spawn(actor)
        for act in ([self.backfill], [self.prune], [self.review, "kim"], [self.review, "ann"]):
            self.scheduler.spawn(self.often, *act)
        self.scheduler.run()
        self.come_to_rest()
        return self

    def patch(self, monkeypatch):
        """Let the product run in this world."""
        monkeypatch.setattr(storage, "client", lambda: self.client)
        monkeypatch.setattr(time, "sleep", lambda _: None)
        for module in (bucket, prune):
            monkeypatch.setattr(module, "ThreadPoolExecutor", in_this_thread)
        monkeypatch.setattr(labeler, "Classifier", FakeClassifier)
        monkeypatch.setattr(images, "decode", decode)
        for name in ("logger", "metrics"):
            monkeypatch.setattr(app, name, Mock())
        monkeypatch.setattr(lines, "merge", self._slowly(lines.merge))
        monkeypatch.setattr(bucket, "write", self._noted(bucket.write))

    def come_to_rest(self):
        """Compact until nothing waits, then say what is gone, without a fault."""
        for attempt in itertools.count():
            # Fewer than one in twenty comes through, with some twenty of up to 2 parts an object.
            assert attempt < 10_000 + 20 * self.objects, "compaction never comes to rest"
            done = self.compact_once()
            if done and not done.parts and not done.waiting:
                break
        self.client.rate = 0
        self.now += timedelta(seconds=1)
        self.prune()
        bucket.compact(RESULTS, until="0")

    def _slowly(self, real):
        def merging(*streams):
            # Merging takes time, in which much happens elsewhere.
            for _ in range(self.rng.choice((0, 3, 30, 100))):
                self.scheduler.switch()
            yield from real(*streams)

        return merging

    def _noted(self, real):
        def write(results, rows):
            begin = getattr(self.scheduler.here, "since", 0)
            noted = [Said(row, begin) for row in rows]
            for each in noted:
                self.said.setdefault(each.row.source_ref, []).append(each)
            try:
                real(results, rows)
            finally:
                for each in noted:
                    each.end = self.client.calls
            for each in noted:
                each.acknowledged = not getattr(self.scheduler.here, "compacts", False)

        return write

    def verify(self):
        """Each object has exactly one visible row, of its content, with the label that counts."""
        parts = [key for _, key in self.s3.objects if key.startswith("labels/parts/")]
        assert not parts, "parts are left"
        manifest = self.s3.objects["results", "labels/manifest.jsonl"]
        rows = [Row.from_line(line) for line in manifest.body.splitlines() if line]
        assert len(rows) == len({row.source_ref for row in rows}), "an image has two rows"
        visible = {row.source_ref: row for row in rows if not row.hidden}
        here = {INPUT + key for bucket, key in self.s3.objects if bucket == "photos"}
        assert visible.keys() == here, f"rows and objects differ: {visible.keys() ^ here}"
        for row in visible.values():
            self._verify_read(row)
            self._verify_decision(row)

    def _verify_read(self, row):
        key = row.source_ref.removeprefix(INPUT)
        body, stored = self.versions[key][-1].encode(), self.s3.objects["photos", key]
        digest = hashlib.sha256(body).digest()
        assert row.read, f"{key}: what was read is lost"
        assert row.read.content == f"sha256:{digest.hex()}", f"{key}: of an older version"
        assert row.read.etag == stored.etag.strip('"'), f"{key}: the row is of an older upload"
        read = [said for said in self.said[row.source_ref] if said.row.read]
        newest = max(order(said.row) for said in read if said.acknowledged)
        assert order(row) >= newest, f"{key}: a later read was lost"
        may = {(*order(said.row), said.row.model) for said in read}
        assert (*order(row), row.model) in may, f"{key}: nobody has read this"
        if body.startswith(b"bad"):
            assert row.answer.failure.code == "corrupt"
            return
        [card] = [card for card in MODELS if card.version == row.model]
        prediction = decide(card, logit_of(digest, card.version))
        assert (row.answer.label, row.probability) == (prediction.label, prediction.probability)

    def _verify_decision(self, row):
        content, name = row.read.content, row.source_ref
        about = [said for said in self.said[name] if content in said.row.people]
        found = row.people.get(content)
        known = {said.row.people[content] for said in about}
        assert found is None or found in known, f"{name}: nobody has said this"
        for said in about:
            if said.acknowledged:
                assert found is not None, f"{name}: a decision was lost"
                assert not self._before(found, about, content, said), (
                    f"{name}: a later decision was acknowledged, and does not count"
                )
        stands = found is not None and found.label is not None
        assert row.label == (found.label if stands else row.answer.label)
        assert (row.decision and row.decision.who) == (found.who if stands else None)

    def _before(self, found: Decision, about, content, said):
        """Tell whether the person who said `said` looked after `found` had been written."""
        written = max(other.end for other in about if other.row.people[content] == found)
        return said.row.people[content] != found and written <= said.begin

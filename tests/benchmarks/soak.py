"""Steady uploads with faults, for as long as asked: is anything lost, does anything grow?

    python tests/benchmarks/soak.py --minutes 30

S3 and the queue are moto's, in this process, which uploads. The function is in a process of its
own, which is what is measured: resident memory, open files and threads, every few seconds. Of the
uploads some are broken, some replace a photo that is there; messages come twice, late and
unreadable; and one request of the function in fifty gets a 503 instead of being sent. In the end
every photo must have exactly one row, of its last version, with the right label.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from PIL import Image

from alpaca_labeler import storage
from alpaca_labeler.job import local_aws
from alpaca_labeler.table import bucket

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "tests" / "photos"
SAMPLE_SECONDS = 5.0
COMPACT_SECONDS = 30.0
UPLOADS_A_SECOND = 4.0
BROKEN, AGAIN, TWICE, LATE, POISON = 0.05, 0.15, 0.1, 0.05, 0.02
"""Shares of the uploads: broken, replacing one that is there; of the messages: come twice, ten
seconds late, and beside one that nobody can read."""
FAILING = 0.02
"""Share of the function's requests that get a 503."""
COLUMNS = ("seconds", "megabytes", "files", "threads", "labelled")


# --- the function's side -------------------------------------------------------------------------


def serve(queue_url: str) -> None:
    """Be the function: take messages until standard input ends, and say how it fares."""
    import boto3
    from botocore.awsrequest import AWSResponse

    from alpaca_labeler.handler import app

    chance = random.Random(2)

    class Nothing(io.BytesIO):
        def stream(self, **_):
            return iter(())

    def fail(request, **_):
        return AWSResponse(request.url, 503, {}, Nothing()) if chance.random() < FAILING else None

    storage.client().meta.events.register("before-send.s3", fail)
    box = local_aws.Sandbox(os.environ["AWS_ENDPOINT_URL"], queue_url, boto3.client("sqs"), app)
    ended = threading.Event()

    def wait_for_the_end():
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    began = sampled = compacted = time.monotonic()
    labelled = 0
    while not ended.is_set():
        labelled += sum(1 for _ in box.step())
        now = time.monotonic()
        if now - compacted > COMPACT_SECONDS:
            box.compact()
            compacted = now
        if now - sampled > SAMPLE_SECONDS:
            print(json.dumps([round(now - began), *usage(), labelled]), flush=True)
            sampled = now
    box.compact()


def usage() -> tuple[float, int, int]:
    """Resident megabytes, open files and threads of this process."""
    with open("/proc/self/status", encoding="ascii") as file:
        facts = dict(line.split(":", 1) for line in file)
    resident = int(facts["VmRSS"].split()[0]) / 1024
    return round(resident, 1), len(os.listdir("/proc/self/fd")), int(facts["Threads"])


# --- everybody else's ----------------------------------------------------------------------------


class Uploads:
    """Photos under ever new names, and what should come of each."""

    def __init__(self, box: local_aws.Sandbox) -> None:
        self.box, self.chance = box, random.Random(1)
        self.wanted: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.photos = {}
        for path in sorted(PHOTOS.glob("*.jpg")):
            small, out = Image.open(path), io.BytesIO()
            small.thumbnail((480, 480))
            small.save(out, "JPEG")
            self.photos[path.stem] = out.getvalue()

    def one(self) -> None:
        stem, data = self.chance.choice(list(self.photos.items()))
        number = len(self.wanted)
        if self.wanted and self.chance.random() < AGAIN:
            number = self.chance.randrange(number)
            self.counts["replaced"] += 1
        name = f"farm {number // 1000}/photo+{number:06}.jpg"
        if self.chance.random() < BROKEN:
            stem, data = "", data[: len(data) // 2]
            self.counts["broken"] += 1
        storage.client().put_object(Bucket=local_aws.INPUT_BUCKET, Key=name, Body=data)
        self.wanted[f"s3://{local_aws.INPUT_BUCKET}/{name}"] = stem
        self.counts["uploads"] += 1
        self._disturb(name)

    def _disturb(self, name: str) -> None:
        for share, called, delay in ((TWICE, "twice", 0), (LATE, "late again", 10)):
            if self.chance.random() < share:
                self._send(_announcement(name), delay)
                self.counts[called] += 1
        if self.chance.random() < POISON:
            self._send("{not json", 0)
            self.counts["poison"] += 1

    def _send(self, body: str, delay: int) -> None:
        self.box.sqs.send_message(QueueUrl=self.box.queue_url, MessageBody=body, DelaySeconds=delay)


def _announcement(key: str) -> str:
    from urllib.parse import quote_plus

    s3 = {"bucket": {"name": local_aws.INPUT_BUCKET}, "object": {"key": quote_plus(key)}}
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3}
    return json.dumps({"Records": [record]})


def audit(uploads: Uploads) -> list[str]:
    """Return what is wrong with the table: lost, doubled, of an older version, wrongly labelled."""
    wrong = []
    labels: dict[str, set[str]] = {}
    seen: Counter[str] = Counter()
    for row in bucket.read(local_aws.RESULTS_URI):
        name = row.source_ref
        seen[name] += 1
        stem = uploads.wanted.get(name)
        now = storage.stamp_of(name)
        if now is None or row.read is None or row.read.etag != now.etag.strip('"'):
            wrong.append(f"{name}: a row of an older version")
        elif bool(row.failure) == bool(stem):
            wrong.append(f"{name}: {row.failure or 'labelled, and was broken'}")
        elif stem:
            labels.setdefault(stem, set()).add(row.label or "")
    wrong += [f"{name}: {seen[name]} rows" for name in uploads.wanted if seen[name] != 1]
    wrong += [f"{stem}: labelled {found}" for stem, found in labels.items() if len(found) > 1]
    return wrong


def report(samples: list[list[float]]) -> None:
    third = len(samples) // 3
    print(f"{'':12} {'first third':>26}  {'last third':>26}   (min, median, max)")
    for place, name in enumerate(COLUMNS[1:4], 1):
        parts = []
        for part in (samples[:third], samples[-third:]):
            values = [sample[place] for sample in part]
            parts.append(
                f"{min(values):>8,.0f} {statistics.median(values):>8,.0f} {max(values):>8,.0f}"
            )
        print(f"{name:12} {parts[0]:>26}  {parts[1]:>26}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--serve", metavar="QUEUE", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve)
        return 0
    with local_aws.start() as box:
        function = subprocess.Popen(
            [sys.executable, __file__, "--serve", box.queue_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert function.stdin
        assert function.stdout
        printed = function.stdout
        samples: list[list[float]] = []
        reader = threading.Thread(
            target=lambda: samples.extend(
                json.loads(line) for line in printed if line.startswith("[")
            )
        )
        reader.start()
        uploads, began = Uploads(box), time.monotonic()
        ends = began + 60 * asked.minutes
        try:
            while (now := time.monotonic()) < ends:
                uploads.one()
                time.sleep(max(0.0, 1 / UPLOADS_A_SECOND - (time.monotonic() - now)))
            drain(box, uploads.counts["poison"])
        finally:
            function.stdin.close()
            function.wait(timeout=120)
            reader.join()
        wrong = audit(uploads)
    print(
        f"{asked.minutes:g} minutes:",
        ", ".join(f"{n:,} {what}" for what, n in uploads.counts.items()),
    )
    report(samples)
    print(f"{len(uploads.wanted):,} photos, {len(wrong)} wrong", *wrong[:20], sep="\n")
    return bool(wrong or function.returncode)


def drain(box: local_aws.Sandbox, unreadable: int) -> None:
    """Wait until nothing is left but the messages that nobody can read."""
    names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesDelayed",
        "ApproximateNumberOfMessagesNotVisible",
    ]
    for _ in range(120):
        time.sleep(1)
        left = box.sqs.get_queue_attributes(QueueUrl=box.queue_url, AttributeNames=names)
        if sum(int(count) for count in left["Attributes"].values()) <= unreadable:
            return


if __name__ == "__main__":
    sys.exit(main())

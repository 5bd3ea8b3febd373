"""How do compaction and audit grow with the table?

Against moto's S3 server in a process of its own. The table gets 10,000 new rows in 100 parts, half
of them new versions of images that it has. The audit reads the same table; the list of the bucket
is made up, since moto sorts all its keys for every page.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

from msgspec import structs

sys.path.insert(0, str(Path(__file__).parents[2]))

from alpaca_labeler import storage
from alpaca_labeler.job.operate import compare
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import bucket
from alpaca_labeler.table.facts import Answer, Read
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import open_table
from tests.benchmarks import harness
from tests.support.aws import CREDENTIALS

RESULTS = "s3://results/labels/"
NEW, ROWS_PER_PART = 10_000, 100
SERVER = """
import sys; from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False); server.start()
print(server.get_host_and_port()[1], flush=True); sys.stdin.read()
"""


def measure(rows: int) -> dict[str, float]:
    """Return MB of the table, and seconds and MB of memory of compaction and audit."""
    harness.say(f"a table of {rows:,} rows")
    cores = os.sched_getaffinity(0)
    server = harness.start(["-c", SERVER], cores, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout
    port = server.stdout.readline().strip()
    os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    try:
        harness.run([__file__, rows, "fill"], cores)
        done = harness.start([__file__, rows, "run"], cores, stdout=subprocess.PIPE)
        answer, _ = done.communicate()
        found: dict[str, float] = json.loads(answer)
        return found
    finally:
        server.communicate()


def section(found: dict[int, dict[str, float]]) -> str:
    """Return the table of all sizes."""
    header = ("rows", "table, MB", "compaction, s", "MB", "audit, s", "MB")
    rows = [[f"{count:,}", *figures.values()] for count, figures in found.items()]
    return f"{TEXT}\n\n{harness.table(header, rows)}"


def steepest(found: dict[int, dict[str, float]]) -> float | None:
    """Return the largest growth of time over growth of rows, from one size to the next."""
    return max(
        (
            found[more][what] / found[fewer][what] / (more / fewer)
            for what in ("compaction s", "audit s")
            for fewer, more in pairwise(sorted(found))
        ),
        default=None,
    )


TEXT = """\
## The table of a bucket

Compaction merges 10,000 new rows in 100 parts into a table of the size given, through a stand-in
for S3 on the same machine. Audit compares the table with a listing of the bucket that takes no
time."""


def row(number: int, version: int) -> Row:
    day, digest = f"2026-01-0{version}T12:00:0", number * 7919 + version
    content, etag = f"sha256:{digest:064x}", f"{digest:032x}"
    read = Read(f"{day}1.000000Z", content, etag, 123_456, f"{day}0Z", width=4032, height=3024)
    read = structs.replace(read, sequencer=f"0055AED6DC{version}{number:07X}")
    index = int(number % 17 > 8)
    label, model = ("not alpaca", "alpaca")[index], "20260101T000000Z-0123456789ab"
    answer = Answer(model, label, index, "alpaca", (number % 17) / 17, 0.5, number % 17 == 8)
    return Row(f"s3://photos/farm/2026/01/IMG_{number:010}.jpg", read, answer)


def fill(rows: int) -> None:
    storage.client().create_bucket(Bucket="results")
    with tempfile.TemporaryFile() as file:
        file.writelines(row(2 * number, 1).to_line() for number in range(rows))
        file.seek(0)
        storage.client().put_object(Bucket="results", Key="labels/manifest.jsonl", Body=file)
    chosen = random.Random(1)
    for _ in range(NEW // ROWS_PER_PART):  # an odd number is a new image
        numbers = {2 * chosen.randrange(rows) + odd % 2 for odd in range(ROWS_PER_PART)}
        bucket.write(RESULTS, [row(number, 2) for number in numbers])


def run(rows: int) -> None:
    began = time.perf_counter()
    bucket.compact(RESULTS)
    compacted, held = time.perf_counter() - began, harness.peak()
    answer = storage.client().head_object(Bucket="results", Key="labels/manifest.jsonl")
    began = time.perf_counter()
    listed = (
        ImageVersion(f"s3://photos/farm/2026/01/IMG_{number:010}.jpg", etag="another")
        for number in range(0, 2 * rows, 2)
    )
    states = Counter(state for state, _, _ in compare(listed, open_table(RESULTS).rows()))
    assert states["stale"]
    figures = {
        "table MB": answer["ContentLength"] / 2**20,
        "compaction s": compacted,
        "compaction MB": held,
        "audit s": time.perf_counter() - began,
        "audit MB": harness.peak(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    {"fill": fill, "run": run}[sys.argv[2]](int(sys.argv[1]))

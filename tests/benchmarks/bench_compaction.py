"""Seconds and memory of a compaction, as the table grows.

    python tests/benchmarks/bench_compaction.py [ROWS ...]

Each size runs in a process of its own, against moto's S3 server on this machine, in another. The
table of so many rows gets 10,000 new ones, half of them new versions of images that it has.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = "s3://results/labels/"
NEW = 10_000
ROWS_A_PART = 100


def main() -> None:
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:2] == ["--run"]:
        run()
        return
    if sys.argv[1:2] == ["--fill"]:
        fill(int(sys.argv[2]))
        return
    from moto.server import ThreadedMotoServer

    if sys.argv[1:2] == ["--server"]:
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        print(server.get_host_and_port()[1], flush=True)
        sys.stdin.read()
        return
    print(f"{'rows':>10} {'table, MB':>10} {'seconds':>8} {'peak MB':>8}")
    for rows in [int(given) for given in sys.argv[1:]] or [10**4, 10**5, 10**6]:
        measure(rows)


def measure(rows: int) -> None:
    with subprocess.Popen(
        [sys.executable, __file__, "--server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a line for each request
        text=True,
    ) as server:
        assert server.stdout
        assert server.stdin
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        subprocess.run([sys.executable, __file__, "--fill", str(rows)], check=True)
        done = subprocess.run(
            [sys.executable, __file__, "--run"], check=True, capture_output=True, text=True
        )
        print(f"{rows:>10,} {done.stdout.strip()}", flush=True)
        server.stdin.close()


def row(number: int, version: int) -> dict[str, object]:
    from handler import manifest
    from handler.bundle import Card
    from handler.classifier import decide
    from handler.storage import ImageVersion

    card = Card(
        "20260101T000000Z-0123456789ab",
        "alpaca",
        ("not alpaca", "alpaca"),
        0.5,
        (0.4, 0.6),
        256,
        "crop",
        (1.0, 0.0),
        "",
    )
    image = ImageVersion(
        f"s3://photos/farm/2026/01/IMG_{number:010}.jpg",
        size=123_456,
        last_modified=f"2026-01-0{version}T12:00:00Z",
        etag=f"{number * 7919 + version:032x}",
        sequencer=f"0055AED6DC{version}{number:07X}",
    )
    prediction = decide(card, (number % 17 - 8) / 2)
    return manifest.label_row(
        image, (4032, 3024), prediction, card, datetime(2026, 1, 9, tzinfo=UTC)
    )


def fill(rows: int) -> None:
    import tempfile

    from handler import manifest, parts, storage
    from handler.compaction import compact

    storage.client().create_bucket(Bucket="results")
    with tempfile.TemporaryFile() as file:
        for number in range(rows):
            file.write(manifest.encode(row(2 * number, 1)))
        file.seek(0)
        storage.client().put_object(Bucket="results", Key="labels/manifest.jsonl", Body=file)
    compact(RESULTS)  # so that the table bears the marks of a compaction, as it would
    chosen = random.Random(1)
    new = [
        row(2 * chosen.randrange(rows) + number % 2, 2)  # an odd number is a new image
        for number in range(NEW)
    ]
    for start in range(0, NEW, ROWS_A_PART):
        once = {each["source-ref"]: each for each in new[start : start + ROWS_A_PART]}
        parts.write(RESULTS, [*once.values()])


def run() -> None:
    from handler import storage
    from handler.compaction import compact

    began = time.perf_counter()
    done = compact(RESULTS)
    seconds = time.perf_counter() - began
    assert done.committed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer = storage.client().head_object(Bucket="results", Key="labels/manifest.jsonl")
    print(f"{answer['ContentLength'] / 2**20:>10.1f} {seconds:>8.2f} {peak:>8.0f}")


if __name__ == "__main__":
    main()

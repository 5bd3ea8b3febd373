"""Seconds and memory of a compaction and of an audit, as the table grows.

    python tests/benchmarks/bench_compaction.py [--json] [ROWS ...]

Each size runs in a process of its own, against moto's S3 server on this machine, in another. The
table of that many rows gets 10,000 new ones, half of them new versions of images that it has. The
audit reads the table the same way, but the list of the bucket is made up: moto sorts all its keys
for every page.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = "s3://results/labels/"
NEW = 10_000
ROWS_A_PART = 100
FIGURES = ("table MB", "compaction s", "compaction MB", "audit s", "audit MB")


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
    given = sys.argv[1:]
    if as_json := given[:1] == ["--json"]:
        del given[0]
    else:
        print(" ".join(f"{name:>13}" for name in ("rows", *FIGURES)))
    for rows in [int(number) for number in given] or [10**4, 10**5, 10**6]:
        found = measure(rows)
        if as_json:
            print(json.dumps(found), flush=True)
        else:
            figures = " ".join(f"{found[name]:>13.2f}" for name in FIGURES)
            print(f"{rows:>13,} {figures}", flush=True)


def measure(rows: int) -> dict[str, float]:
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
        server.stdin.close()
        found: dict[str, float] = json.loads(done.stdout)
        return found


def row(number: int, version: int) -> dict[str, object]:
    from alpaca_labeler.handler import manifest_row
    from alpaca_labeler.handler.bundle import Card
    from alpaca_labeler.handler.classifier import decide
    from alpaca_labeler.handler.image_version import ImageVersion

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
    return manifest_row.label_row(
        image, (4032, 3024), prediction, card, datetime(2026, 1, 9, tzinfo=UTC)
    )


def fill(rows: int) -> None:
    import tempfile

    from alpaca_labeler.handler import manifest_row, parts, storage
    from alpaca_labeler.handler.compaction import compact

    storage.client().create_bucket(Bucket="results")
    with tempfile.TemporaryFile() as file:
        for number in range(rows):
            file.write(manifest_row.encode(row(2 * number, 1)))
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
    from alpaca_labeler.handler import manifest_row, storage
    from alpaca_labeler.handler.compaction import compact, table
    from alpaca_labeler.handler.image_version import ImageVersion
    from alpaca_labeler.job.operate import compare

    began = time.perf_counter()
    done = compact(RESULTS)
    compaction = time.perf_counter() - began
    assert done.committed
    answer = storage.client().head_object(Bucket="results", Key="labels/manifest.jsonl")
    compaction_peak = peak()

    began = time.perf_counter()
    # A bucket of about the same images: some have no row, and some rows have no image.
    listed = (
        ImageVersion(f"s3://photos/farm/2026/01/IMG_{number:010}.jpg", etag="another")
        for number in range(0, 2 * done.labels, 2)
    )
    rows = (manifest_row.parse(line) for line, _ in table(RESULTS))
    states = Counter(found.state for found in compare(listed, rows))
    audit = time.perf_counter() - began
    assert states["stale"]
    figures = (answer["ContentLength"] / 2**20, compaction, compaction_peak, audit, peak())
    print(json.dumps(dict(zip(FIGURES, figures, strict=True))))


def peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()

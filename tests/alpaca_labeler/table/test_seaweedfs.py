"""Compaction on a real S3 server, with uploads in parts, races and crashes: `make test-s3`."""

import json
import os
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest

from alpaca_labeler import storage
from alpaca_labeler.storage.upload import Upload
from alpaca_labeler.table.bucket import compact, write
from alpaca_labeler.table.facts import timestamp
from tests.support.aws import account
from tests.support.rows import reading, rows_of
from tests.support.runs import free_port

pytestmark = pytest.mark.skipif(
    not os.environ.get("SEAWEEDFS"), reason="needs a server of 360 MB: `make test-s3`"
)
RESULTS = "s3://results/labels/"
PART = 5 * 2**20  # the smallest that S3 takes
NOW = datetime.now(UTC)


class Crash(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seaweedfs")
    keys = {"accessKey": "testing", "secretKey": "testing"}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    users = [{"name": "test", "credentials": [keys], "actions": actions}]
    (folder / "s3.json").write_text(json.dumps({"identities": users}))
    port = free_port()
    where = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={port}"]
    # Its other ports follow from those given: each two servers of one machine need their own.
    ports = [f"-{kind}.port={port + n}" for n, kind in enumerate(("master", "volume", "filer"), 1)]
    command = [os.environ["SEAWEEDFS"], "server", f"-dir={folder}", *where, *ports]
    command += ["-s3", f"-s3.config={folder / 's3.json'}", "-filer", "-volume.max=50"]
    with (
        open(folder / "log", "wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
    ):
        try:
            yield _ready(f"http://127.0.0.1:{port}", folder / "log")
        finally:
            server.kill()


def _ready(endpoint, log):
    with pytest.MonkeyPatch.context() as patch, _account(patch, endpoint):
        for _ in range(120):
            try:
                storage.client().create_bucket(Bucket="results")
            except Exception as error:
                said = str(error)
                time.sleep(0.5)
            else:
                return endpoint
    raise AssertionError(f"{said}: {log.read_text()[-2000:]}")


@contextmanager
def _account(patch, endpoint):
    with account(patch, endpoint):
        patch.delenv("AWS_SESSION_TOKEN")  # which is of no use without a service that gives them
        yield


@pytest.fixture
def s3(endpoint, monkeypatch):
    with _account(monkeypatch, endpoint):
        client = storage.client()
        storage.delete([o.source_ref for o in storage.list_objects(RESULTS)])
        yield client


def rows(count, start=0):
    return [row(f"{number:06}{'x' * 1000}") for number in range(start, start + count)]


def row(name):
    return reading(f"s3://photos/{name}", timestamp(NOW), f"sha256:{name[:6]}")


def names():
    return [row.source_ref.removeprefix("s3://photos/")[:6] for row in rows_of(RESULTS)]


def uploads(client):
    return client.list_multipart_uploads(Bucket="results").get("Uploads", [])


def test_a_large_manifest_is_replaced_in_parts_and_under_its_condition(s3):
    write(RESULTS, rows(9000))
    assert compact(RESULTS, part_bytes=PART).rows == 9000
    stamp = storage.stamp_of(f"{RESULTS}manifest.jsonl")
    before = stamp.etag if stamp else None
    write(RESULTS, rows(10, 9000))
    assert compact(RESULTS, part_bytes=PART).rows == 9010
    assert names() == [f"{number:06}" for number in range(9010)]
    with Upload(f"{RESULTS}manifest.jsonl", before, "application/jsonl", PART) as late:
        late.write(b"x" * 2 * PART)
        with pytest.raises(storage.Conflict):
            late.commit()
    assert names() == [f"{number:06}" for number in range(9010)]
    assert uploads(s3) == []


@pytest.mark.parametrize("count", [4000, 9000], ids=["one call", "parts"])
def test_compactions_that_race_lose_nothing(s3, count):
    for start in range(0, count, count // 8):
        write(RESULTS, rows(count // 8, start))

    def work(_):
        while compact(RESULTS, max_parts=2, pause=0.05, part_bytes=PART).parts:
            pass

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert names() == [f"{number:06}" for number in range(count)]
    assert uploads(s3) == []


@pytest.mark.usefixtures("s3")
def test_a_crash_between_any_two_calls_loses_nothing(monkeypatch):
    rng, real = random.Random(3), storage._call
    write(RESULTS, rows(6000))
    for crash in range(1, 12):
        said = row(f"{crash:06}{'x' * 1000}").decided("goat", "kim", NOW + timedelta(1), index=0)
        write(RESULTS, [said])
        left = [crash]

        def call(uri, operation, _left=left, **arguments):
            _left[0] -= 1
            if _left[0] < 0:
                raise Crash
            answer = real(uri, operation, **arguments)
            if _left[0] == 0 and rng.random() < 0.5:
                raise Crash  # after it was done, before anybody heard
            return answer

        with monkeypatch.context() as patch:
            patch.setattr(storage, "_call", call)
            with suppress(Crash):
                compact(RESULTS, part_bytes=PART, pause=0)
        found = rows_of(RESULTS)
        assert len(found) == 6000
        assert {r.source_ref[:17] for r in found if r.label == "goat"} == {
            f"s3://photos/{n:06}"[:17] for n in range(1, crash + 1)
        }
    compact(RESULTS, part_bytes=PART)
    assert len(names()) == 6000

"""The function in AWS's own runtime loop: a cold call, then a warm one.

The Lambda runtime interface emulator speaks to the real runtime client; S3 is moto's server. The
package is handler/ beside this environment's own libraries; tests/infra/test_sam.py has the built
one.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import boto3
import pytest

from tests.support import stacks
from tests.support.aws import account
from tests.support.package import copied
from tests.support.rows import rows_of
from tests.support.runs import free_port, wait_for_port

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "emulator"
EMULATOR = "aws-lambda-rie-x86_64"

# Times what the environment does before and during the first call, from inside it.
TIMED = """
import time
began = time.perf_counter()
from alpaca_labeler.handler import app
ready = time.perf_counter()
calls = []
def label(event, context):
    start = time.perf_counter()
    app.label(event, context)
    calls.append(time.perf_counter() - start)
    return {"init": ready - began, "calls": calls}
"""

pytestmark = [
    pytest.mark.slow,  # it packs the function and starts it
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"),
        reason="the emulator in the wheel is for Linux on x86_64",
    ),
]


def pip(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"pip could not get it: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="session")
def emulator():
    """Give (path of the emulator, folder with the runtime client), fetched once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    program, client = CACHE / EMULATOR, CACHE / "client"
    if not program.exists():
        pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(CACHE), "aws-sam-cli")
        [wheel] = CACHE.glob("aws_sam_cli-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            program.write_bytes(archive.read(f"samcli/local/rapid/{EMULATOR}"))
        program.chmod(0o755)
        wheel.unlink()
    if not client.exists():
        pip("install", "--target", str(client), "awslambdaric")
    return program, client


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """Give the function's package: a folder with handler/ and the rooms that it imports."""
    folder = copied(tmp_path_factory.mktemp("package"))
    (folder / "timed.py").write_text(TIMED)
    return folder


@pytest.fixture
def s3(monkeypatch):
    """Give an S3 client of a server on this machine, holding one photo."""
    with stacks.server() as url, account(monkeypatch, url):
        client = boto3.client("s3")
        for bucket in ("photos", "results"):
            client.create_bucket(Bucket=bucket)
        client.upload_file(str(ROOT / "tests/photos/alpaca.jpg"), "photos", "farm/ü +.jpg")
        yield client


@pytest.fixture
def call(emulator, package, s3, tmp_path):  # noqa: ARG001 - its server is in the environment
    """Give a function that sends an event to the running function."""
    program, client = emulator
    address, internal = free_port(), free_port()
    libraries = [str(client), *filter(None, sys.path[1:])]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                str(program),
                *("--runtime-interface-emulator-address", f"127.0.0.1:{address}"),
                *("--runtime-api-address", f"127.0.0.1:{internal}"),
                *(sys.executable, "-m", "awslambdaric", "timed.label"),
            ],
            cwd=package,
            stdout=output,
            stderr=output,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.pathsep.join([str(package), *libraries]),
                "HOME": str(tmp_path),
                "AWS_LAMBDA_FUNCTION_NAME": "label",
                "AWS_LAMBDA_FUNCTION_TIMEOUT": "30",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
                **{name: os.environ[name] for name in os.environ if name.startswith("AWS_")},
                "INPUT_URI": "s3://photos/",
                "RESULTS_URI": "s3://results/labels/",
                "_HANDLER": "handler.app.label",
            },
        )
    url = f"http://127.0.0.1:{address}/2015-03-31/functions/function/invocations"
    wait_for_port(address, process, log)

    def send(event):
        request = urllib.request.Request(url, json.dumps(event).encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = json.load(answer)
        except (urllib.error.HTTPError, ValueError) as error:
            pytest.fail(f"{error}\n{log.read_text()}")
        assert "errorMessage" not in found, (found, log.read_text())
        return found

    yield send
    process.terminate()
    process.wait(10)


def test_a_cold_call_and_a_warm_call_label_the_photo(call):
    event = {"bucket": "photos", "keys": ["farm/ü +.jpg"]}
    cold = call(event)
    warm = call(event)
    [row] = rows_of("s3://results/labels/")  # each call has read the photo anew
    assert row.source_ref == "s3://photos/farm/ü +.jpg"
    assert row.label == "alpaca"
    assert cold["init"] + cold["calls"][0] < 5
    assert warm["calls"][1] < cold["calls"][0] + 1

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

CACHE = Path(__file__).parents[2] / ".cache" / "emulator"
EMULATOR = "aws-lambda-rie-x86_64"

pytestmark = [
    pytest.mark.slow,  # it packs the function and starts it
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"),
        reason="the emulator in the wheel is for Linux on x86_64",
    ),
]


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
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


def test_a_cold_call_and_a_warm_call_label_the_photo(emulator, photos, tmp_path, monkeypatch):
    program, client = emulator
    package, log = copied(tmp_path), tmp_path / "log"
    address, internal = free_port(), free_port()
    with stacks.server() as url, account(monkeypatch, url), log.open("wb") as output:
        s3 = boto3.client("s3")
        for bucket in ("photos", "results"):
            s3.create_bucket(Bucket=bucket)
        s3.upload_file(str(photos / "alpaca.jpg"), "photos", "farm/ü +.jpg")
        process = subprocess.Popen(
            [
                str(program),
                *("--runtime-interface-emulator-address", f"127.0.0.1:{address}"),
                *("--runtime-api-address", f"127.0.0.1:{internal}"),
                *(sys.executable, "-m", "awslambdaric", "handler.app.label"),
            ],
            cwd=package,
            stdout=output,
            stderr=output,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(package), str(client), *sys.path[1:]]),
                "HOME": str(tmp_path),
                "AWS_LAMBDA_FUNCTION_NAME": "label",
                "AWS_LAMBDA_FUNCTION_TIMEOUT": "30",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
                "INPUT_URI": "s3://photos/",
                "RESULTS_URI": "s3://results/labels/",
                "_HANDLER": "handler.app.label",
            },
        )
        try:
            wait_for_port(address, process, log)
            event = json.dumps({"bucket": "photos", "keys": ["farm/ü +.jpg"]}).encode()
            calls = f"http://127.0.0.1:{address}/2015-03-31/functions/function/invocations"
            for _ in range(2):
                with urllib.request.urlopen(calls, event, timeout=60) as answer:
                    assert json.load(answer) == {"images": 1, "rows": 1}, log.read_text()
        finally:
            process.terminate()
            process.wait(10)
        [row] = rows_of("s3://results/labels/")  # each call has read the photo anew
    assert (row.source_ref, row.label) == ("s3://photos/farm/ü +.jpg", "alpaca")

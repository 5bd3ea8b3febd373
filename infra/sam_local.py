"""`make sam-local`: the built package in Lambda's own container, from upload to row.

The target installs the SAM CLI if there is none, and needs Docker (or Finch or Podman, with
DOCKER_HOST set as SAM asks for). This builds for this machine's processor, puts a photo into an S3
that the container can reach, has SAM invoke the label function with a message of its queue, and
shows the row. Only the build stays behind.

    SAM                the command of the SAM CLI, if it is not on the PATH
    SAM_HOST           an address of this machine that containers reach, if it cannot be found
    SAM_BUILD_FLAGS    more options for `sam build`
    SAM_INVOKE_FLAGS   more options for `sam local invoke`
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SAM = os.environ.get("SAM") or shutil.which("sam") or ""
ENGINE = shutil.which("docker") or shutil.which("podman") or shutil.which("finch")
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
OVERRIDES = ("--parameter-overrides", f"Architecture={ARCHITECTURE}")
PHOTO = ROOT / "tests/photos/alpaca.jpg"
KEY = "farm/alpaca 1.jpg"
"""The photo that the events in infra/events/ announce."""


def host() -> tuple[str, str] | None:
    """Return (address to listen at, name by which a container reaches it); None if unknown.

    Docker Desktop has a name that leads to the host's 127.0.0.1. On Linux a container reaches the
    host at the address of the engine's bridge, and `--docker-network host` does not change that.
    """
    if found := os.environ.get("SAM_HOST"):
        return found, found
    if sys.platform != "linux":
        return "127.0.0.1", "host.docker.internal"
    for network in ("bridge", "podman"):
        asked = subprocess.run(
            [str(ENGINE), "network", "inspect", network],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.returncode == 0:
            [found] = json.loads(asked.stdout)
            ranges = found.get("IPAM", {}).get("Config") or found.get("subnets") or [{}]
            gateway = ranges[0].get("Gateway") or ranges[0].get("gateway")
            return (gateway, gateway) if gateway else None
    return None


def ready() -> tuple[str, str]:
    """Return what `host` does, or exit with the name of what is missing."""
    if not SAM:
        sys.exit("There is no `sam` on the PATH: pip install aws-sam-cli, or set SAM.")
    if not ENGINE or subprocess.run([ENGINE, "info"], capture_output=True, check=False).returncode:
        sys.exit("No container engine is running: start Docker, Podman or Finch.")
    return host() or sys.exit(
        "Set SAM_HOST to an address of this machine that containers reach, as 172.17.0.1."
    )


def sam(*arguments: str, flags: str) -> str:
    """Run the SAM CLI with more options from a variable; return its last line of output."""
    done = subprocess.run(
        [SAM, *arguments, *shlex.split(os.environ.get(flags, ""))],
        cwd=ROOT,
        env={
            "AWS_DEFAULT_REGION": "us-east-1",
            **os.environ,
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",
            "SAM_CLI_TELEMETRY": "0",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"sam {arguments[0]} failed: see above")
    return (done.stdout.strip().splitlines() or [""])[-1]


@contextmanager
def laptop(build: Path) -> Iterator[tuple[Any, Callable[[str, str], dict[str, Any]]]]:
    """Build the package; yield an S3 with the photo, and what sends a function an event by name."""
    address = ready()
    import boto3
    from moto.server import ThreadedMotoServer

    sam("build", "--build-dir", str(build), *OVERRIDES, flags="SAM_BUILD_FLAGS")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    server = ThreadedMotoServer(address[0], 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{address[0]}:{port}",
        region_name="us-east-1",
        aws_access_key_id="sandbox",
        aws_secret_access_key="sandbox",  # noqa: S106 - moto takes any
    )
    variables = json.loads((ROOT / "infra/env.json").read_text(encoding="utf-8"))
    variables["Parameters"]["AWS_ENDPOINT_URL"] = f"http://{address[1]}:{port}"
    try:
        for bucket in ("photos", "results"):
            s3.create_bucket(Bucket=bucket)
        s3.upload_file(str(PHOTO), "photos", KEY)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(variables, file)
            file.flush()

            def invoke(function: str, event: str) -> dict[str, Any]:
                said = sam(
                    *("local", "invoke", function, *OVERRIDES, "--env-vars", file.name),
                    *("--template", str(build / "template.yaml")),
                    *("--event", str(ROOT / f"infra/events/{event}.json")),
                    flags="SAM_INVOKE_FLAGS",
                )
                # SAM exits with 0 even if the function fails, so the answer decides.
                answer: dict[str, Any] = json.loads(said or "{}")
                if not answer or "errorMessage" in answer or answer.get("batchItemFailures"):
                    sys.exit(f"The function answered: {said}")
                return answer

            yield s3, invoke
    finally:
        server.stop()


def main() -> None:
    """Build, upload, invoke, and show the row."""
    with laptop(ROOT / "build/sam-local") as (s3, invoke):
        invoke("LabelFunction", "sqs-s3")
        for part in s3.list_objects_v2(Bucket="results").get("Contents", ()):
            print(s3.get_object(Bucket="results", Key=part["Key"])["Body"].read().decode().rstrip())


if __name__ == "__main__":
    main()

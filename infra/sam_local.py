"""`make sam-local`: the built package in Lambda's own container, from upload to row.

The target installs the SAM CLI if there is none, and needs Docker (or Finch or Podman, with
DOCKER_HOST set as SAM asks for). This builds for this machine's processor, puts a photo into an S3
that the container can reach, has SAM invoke the label function with a message of its queue, and
shows the row. Only the build stays behind.

    SAM         the command of the SAM CLI, if it is not on the PATH
    SAM_HOST    an address of this machine that containers reach, if it cannot be found
"""

from __future__ import annotations

import json
import logging
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SAM = os.environ.get("SAM") or "sam"
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
OVERRIDES = ("--parameter-overrides", f"Architecture={ARCHITECTURE}")
PHOTO = ROOT / "tests/photos/alpaca.jpg"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "sandbox",
    "AWS_SECRET_ACCESS_KEY": "sandbox",
    "AWS_DEFAULT_REGION": "us-east-1",
    "SAM_CLI_TELEMETRY": "0",
}
KEY = "farm/alpaca 1.jpg"
"""The photo that the events in infra/events/ announce."""


def host() -> tuple[str, str]:
    """Return (address to listen at, name by which a container reaches it), or exit.

    Docker Desktop has a name that leads to the host's 127.0.0.1. On Linux a container reaches the
    host at the address of the engine's bridge, and `--docker-network host` does not change that.
    """
    found = os.environ.get("SAM_HOST")
    if not found and sys.platform != "linux":
        return "127.0.0.1", "host.docker.internal"
    command = ["docker", "network", "inspect", "bridge"]
    form = ("--format", "{{(index .IPAM.Config 0).Gateway}}")
    try:
        found = found or subprocess.check_output([*command, *form], text=True).strip()
        socket.create_server((found, 0)).close()  # moto's server would wait for ever
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{error}: start Docker, or set SAM_HOST to this machine's address in its network")
    return found, found


def sam(*arguments: str) -> str:
    """Run the SAM CLI; return its last line of output."""
    done = subprocess.run(
        [SAM, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"sam {arguments[0]} failed: see above")
    return (done.stdout.strip().splitlines() or [""])[-1]


@contextmanager
def laptop(build: Path) -> Iterator[tuple[Any, Callable[[str, str], dict[str, Any]]]]:
    """Build the package; yield an S3 with the photo, and what sends a function an event by name."""
    import boto3
    from moto.server import ThreadedMotoServer

    address, name = host()
    os.environ |= ENVIRONMENT
    sam("build", "--build-dir", str(build), *OVERRIDES)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    server = ThreadedMotoServer(address, 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    s3 = boto3.client("s3", endpoint_url=f"http://{address}:{port}")
    variables = json.loads((ROOT / "infra/env.json").read_text(encoding="utf-8"))
    variables["Parameters"]["AWS_ENDPOINT_URL"] = f"http://{name}:{port}"
    try:
        for bucket in ("photos", "results"):
            s3.create_bucket(Bucket=bucket)
        s3.upload_file(str(PHOTO), "photos", KEY)
        environment = build / "env.json"
        environment.write_text(json.dumps(variables), encoding="utf-8")

        def invoke(function: str, event: str) -> dict[str, Any]:
            said = sam(
                *("local", "invoke", function, *OVERRIDES, "--env-vars", str(environment)),
                *("--template", str(build / "template.yaml")),
                *("--event", str(ROOT / f"infra/events/{event}.json")),
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

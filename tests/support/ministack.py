"""MiniStack, which deploys template.yaml on this machine: AWS's services with IAM and TLS enforced.

It stands beside the project, in an environment of its own: `make test-deploy` installs it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

from samtranslator.yaml_helper import yaml_parse

from tests.support.runs import free_port, wait_for_port

UNKNOWN = ("CompactErrorsAlarm", "FailureRateAlarm", "RetriesAlarm")
"""Alarms on expressions, which MiniStack cannot make."""


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1; return (certificate, key)."""
    found = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(found[0]), "-keyout", str(found[1])),
        ],
        check=True,
        capture_output=True,
    )
    return found


@contextmanager
def running(command: str, folder: Path):
    """Run MiniStack; yield the environment with which its root reaches it."""
    port, log = free_port(), folder / "ministack.log"
    cert, key = certificate(folder)
    path = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    settings = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "AUTH": "true",
        "USE_SSL": "1",
        "MINISTACK_SSL_CERT": str(cert),
        "MINISTACK_SSL_KEY": str(key),
        "STATE_DIR": str(folder / "state"),
        "S3_DATA_DIR": str(folder / "s3"),
    }
    reach = {
        "AWS_ENDPOINT_URL": f"https://127.0.0.1:{port}",
        "AWS_CA_BUNDLE": str(cert),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "SAM_CLI_TELEMETRY": "0",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [command], env=path | settings, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_for_port(port, process, log)
        yield reach
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def fit(built: Path) -> Path:
    """Write the least that must differ for MiniStack beside a built template; return its path."""
    template = yaml_parse(built.read_text(encoding="utf-8"))
    for name in UNKNOWN:
        del template["Resources"][name]
    body = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]
    names = "|".join(UNKNOWN)
    body["Fn::Sub"] = re.sub(rf'"\$\{{({names})\.Arn\}}",?', "", body["Fn::Sub"])
    # AWS asks for the permission of the single call, MiniStack for one that IAM does not have.
    [policy] = template["Resources"]["LabelRole"]["Properties"]["Policies"]
    for statement in policy["PolicyDocument"]["Statement"]:
        if statement.get("Sid") == "HandPhotosBackToTheQueue":
            statement["Action"] += [f"{action}Batch" for action in statement["Action"]]
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    variables |= {name: os.environ[name] for name in ("AWS_ENDPOINT_URL", "AWS_CA_BUNDLE")}
    fitted = built.with_name(f"{built.stem}-ministack.json")
    fitted.write_text(json.dumps(template, default=str), encoding="utf-8")
    return fitted


def set_numbers(mappings, **numbers: int) -> None:
    """Give the queue's mapping its numbers again: as CloudFormation sets them, they are text."""
    [mapping] = mappings.list_event_source_mappings()["EventSourceMappings"]
    mappings.update_event_source_mapping(
        UUID=mapping["UUID"],
        BatchSize=numbers["BatchSize"],
        MaximumBatchingWindowInSeconds=numbers["BatchWindow"],
        ScalingConfig={"MaximumConcurrency": numbers["MaximumConcurrency"]},
    )

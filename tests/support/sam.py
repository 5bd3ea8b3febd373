"""The SAM CLI, as the tests that need it call it."""

import os
import subprocess
from pathlib import Path

from infra.sam_local import SAM

ROOT = Path(__file__).parents[2]


def sam(*words, **environment):
    """Run `sam` in the project's folder; return what it ended with, output included."""
    assert SAM, "there is no `sam` on the PATH: pip install aws-sam-cli, or set SAM"
    fixed = {"SAM_CLI_TELEMETRY": "0", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    return subprocess.run(
        [SAM, *words],
        cwd=ROOT,
        env={"AWS_DEFAULT_REGION": "us-east-1", **os.environ, **fixed, **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )

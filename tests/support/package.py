"""The function's package, as infra/build/package.mk says what is in it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

RULES = Path(__file__).parents[2] / "infra/build/package.mk"
ROOMS = re.findall(r"^ROOMS := (.*)$", RULES.read_text(), re.MULTILINE)[0].split()


def copied(folder: Path) -> Path:
    """Copy the code of the package into a folder, as the build does; return the folder."""
    command = ["make", "--silent", f"--file={RULES}", "code", f"ARTIFACTS_DIR={folder}"]
    subprocess.run(command, check=True)
    return folder

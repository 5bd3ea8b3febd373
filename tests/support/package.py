"""The function's package, as infra/build/package.mk says what is in it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = re.findall(r"^ROOMS := (.*)$", (ROOT / "infra/build/package.mk").read_text(), re.MULTILINE)[
    0
].split()


def copied(folder: Path) -> Path:
    """Copy handler/ and the rooms of the library that go with it into a folder; return it."""
    ignore = shutil.ignore_patterns("__pycache__", "handler")
    shutil.copytree(ROOT / "handler", folder / "handler", ignore=ignore)
    (folder / "alpaca_labeler").mkdir()
    for room in ROOMS:
        source, target = (top / "alpaca_labeler" / room for top in (ROOT, folder))
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignore)
        else:
            shutil.copy(source, target)
    return folder

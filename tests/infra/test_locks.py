"""What the function's package is made of: fixed versions, fixed contents, and those tested here."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = (ROOT / "handler/requirements.txt").read_text(encoding="utf-8")
PINNED = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)


def name(requirement):
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower()


def test_every_file_that_may_be_installed_has_its_hash():
    parts = re.split(r"\n(?! )", PACKAGE.strip())
    assert len(parts) > 10
    for part in parts:
        assert PINNED.match(part), part
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", part), part
    rules = (ROOT / "infra/build/package.mk").read_text(encoding="utf-8")
    assert "--require-hashes --requirement requirements.txt" in rules


def test_the_package_holds_what_the_tests_ran_with():
    tested = set(PINNED.findall((ROOT / "requirements.txt").read_text(encoding="utf-8")))
    assert set(PINNED.findall(PACKAGE)) <= tested


@pytest.mark.parametrize("wanted", ["handler/requirements.in", "pyproject.toml"])
def test_what_the_function_needs_is_in_its_package(wanted):
    text = (ROOT / wanted).read_text(encoding="utf-8")
    if wanted.endswith(".toml"):
        needed = {name(one) for one in tomllib.loads(text)["project"]["dependencies"]}
        needed -= {"click", "jinja2"}  # of the application only
    else:
        needed = {name(line) for line in text.splitlines() if line and line[0] != "#"}
    assert needed <= {found for found, _ in PINNED.findall(PACKAGE)}

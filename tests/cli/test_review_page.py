"""`alpaca review` as a person meets it: the command, its address, and a real Chromium."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import NARROW, WIDE, is_too_wide, violations

from handler import manifest
from handler.bundle import Card
from handler.classifier import decide
from handler.manifest import Failure
from handler.storage import ImageVersion

PHOTOS = Path(__file__).parent.parent / "photos"
CARD = Card("1-a", "alpaca", ("not alpaca", "alpaca"), 0.5, (0.3, 0.7), 8, "", (1.0, 0.0), "")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOSTILE = "<img src=x onerror=alert(1)>.jpg"
DOUBTFUL = "goat.jpg"


@pytest.fixture
def folder(tmp_path):
    """A manifest of a few photos, one of a hostile name, the goat the least certain."""
    rows = []
    for name, logit in ((DOUBTFUL, 0.1), ("alpaca.jpg", 4.0), ("rocket.jpg", -5.0), (HOSTILE, 2.0)):
        source = "coffee.jpg" if name == HOSTILE else name
        shutil.copy(PHOTOS / source, tmp_path / name)
        version = ImageVersion(name, size=(tmp_path / name).stat().st_size)
        rows.append(manifest.label_row(version, (640, 480), decide(CARD, logit), CARD, NOON))
    rows.sort(key=lambda row: row["source-ref"])
    (tmp_path / "manifest.jsonl").write_bytes(b"".join(map(manifest.encode, rows)))
    failed = manifest.failure_row(ImageVersion("gone.jpg"), Failure("corrupt", "cut"), "1-a", NOON)
    (tmp_path / "failures.jsonl").write_bytes(manifest.encode(failed))
    return tmp_path


@pytest.fixture
def address(folder):
    """The address that the running command printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "review", "--no-browser", "--annotator", "kim"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(PHOTOS.parent.parent)},
    )  # fmt: skip
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert "Traceback" not in said


def corrections(folder):
    file = folder / "corrections.jsonl"
    return (
        [manifest.parse(line) for line in file.read_bytes().splitlines()] if file.exists() else []
    )


def ask(address, method="GET", path="start", body=None, **headers):
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"{parts.path}{path}", body, sent)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def saved(page, folder, count):
    """Wait until so many corrections are on the disk."""
    for _ in range(100):
        if len(found := corrections(folder)) == count:
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"{len(found)} corrections, not {count}")


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_accessible_whatever_the_window(address, pages, width, dark):
    page = pages(width, dark=dark)
    page.goto(address)
    page.wait_for_selector(".tile img:not([hidden])")
    assert page.get_by_text(HOSTILE).count() > 0
    assert violations(page) == []
    assert not is_too_wide(page)
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    assert violations(page) == []


def test_two_keys_correct_and_undo(address, pages, folder):
    page = pages()
    page.goto(address)
    page.wait_for_selector(".tile img:not([hidden])")
    page.locator("#gallery").focus()
    page.keyboard.press("n")
    (row,) = saved(page, folder, 1)
    assert row["source-ref"] == DOUBTFUL  # the least certain comes first
    assert row["alpaca"] == 0
    assert row["alpaca-metadata"]["class-name"] == "not alpaca"
    assert manifest.is_human(row)
    assert row["labeler"]["annotator"] == "kim"
    model = next(
        manifest.parse(line)
        for line in (folder / "manifest.jsonl").read_bytes().splitlines()
        if DOUBTFUL in line.decode()
    )
    assert manifest.winner([model, row]) == row
    page.keyboard.press("z")
    saved(page, folder, 0)


def test_only_who_knows_the_token_sees_anything(address):
    parts = urlsplit(address)
    assert ask(address)[0] == 200
    assert ask(f"http://{parts.netloc}/", path="start")[0] == 404
    assert ask(f"http://{parts.netloc}/wrong/")[0] == 404
    assert ask(address, Host="evil.example")[0] == 403


@pytest.mark.parametrize("path", ["../manifest.jsonl", "%2e%2e/manifest.jsonl", "command.py", "x"])
def test_no_path_leads_out_of_the_page(address, path):
    assert ask(address, path=path)[0] == 404


def test_only_the_page_itself_may_write(address, folder):
    body = json.dumps({"generation": 0, "row": 0, "class": 1})
    parts = urlsplit(address)
    own = f"http://{parts.netloc}"
    plain, form = "application/json", "text/plain"
    assert ask(address, "POST", "correct", body, Content_Type=plain)[0] == 403
    evil = "http://evil.example"
    assert ask(address, "POST", "correct", body, Content_Type=plain, Origin=evil)[0] == 403
    assert ask(address, "POST", "correct", body, Content_Type=form, Origin=own)[0] == 415
    large = body + " " * 5000
    assert ask(address, "POST", "correct", large, Content_Type=plain, Origin=own)[0] == 413
    assert corrections(folder) == []

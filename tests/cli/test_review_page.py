"""`alpaca review` as a person meets it: the command, its address, and a real Chromium."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from browser import NARROW, WIDE, is_too_wide, reviewing, until, violations

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
    with reviewing(folder, "--annotator", "kim") as printed:
        yield printed


@pytest.fixture
def page(address, pages):
    """The page as it is once the first photo has come."""
    return opened(pages(), address)


def opened(page, address):
    page.goto(address)
    page.wait_for_selector(".tile img:not([hidden])")
    return page


def corrections(folder):
    """Source-ref, class and annotator of each row in the file."""
    file = folder / "corrections.jsonl"
    lines = file.read_bytes().splitlines() if file.exists() else []
    return [
        (row["source-ref"], row["alpaca-metadata"]["class-name"], row["labeler"]["annotator"])
        for row in map(manifest.parse, lines)
    ]


def saved(page, folder, count):
    """Wait until so many corrections are on the disk, and return them."""
    until(page, lambda: len(corrections(folder)) == count)
    return corrections(folder)


def names(page):
    """The names in the gallery, in the order of their places."""
    return page.locator(".tile:not([hidden]) .name").all_text_contents()


def active(page):
    """The name of the photo that the keys are about."""
    return page.locator('[aria-selected="true"] .name').text_content()


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_accessible_whatever_the_window(address, pages, width, dark):
    page = opened(pages(width, dark=dark), address)
    assert page.get_by_text(HOSTILE).count() > 0
    assert violations(page) == []
    assert not is_too_wide(page)
    page.keyboard.press("Enter")
    page.wait_for_selector("#large-photo[src]")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    assert violations(page) == []


def test_two_keys_correct_and_undo(page, folder):
    assert active(page) == DOUBTFUL  # the least certain comes first
    page.keyboard.press("n")
    assert saved(page, folder, 1) == [(DOUBTFUL, "not alpaca", "kim")]
    (row,) = map(manifest.parse, (folder / "corrections.jsonl").read_bytes().splitlines())
    assert manifest.is_human(row)
    model = next(
        manifest.parse(line)
        for line in (folder / "manifest.jsonl").read_bytes().splitlines()
        if DOUBTFUL in line.decode()
    )
    assert manifest.winner([model, row]) == row
    page.keyboard.press("z")
    saved(page, folder, 0)


def test_a_decision_and_a_skip_go_on_to_the_next_photo_and_the_progress_counts(page, folder):
    order = names(page)
    page.keyboard.press("n")
    until(page, lambda: active(page) == order[1])
    page.keyboard.press("s")
    until(page, lambda: active(page) == order[2])
    page.keyboard.press("a")
    saved(page, folder, 2)
    shown = page.locator("#progress")
    until(page, lambda: shown.text_content() == "1 changed, 1 confirmed, 3 left")


def test_arrows_move_and_the_large_view_opens_and_closes(page):
    order = names(page)
    page.keyboard.press("ArrowRight")
    assert active(page) == order[1]
    page.keyboard.press("ArrowLeft")
    assert active(page) == order[0]
    page.keyboard.press("Enter")
    page.wait_for_selector("#large[open]")
    page.keyboard.press("ArrowRight")
    until(page, lambda: page.locator("#large-name").text_content() == order[1])
    page.keyboard.press("Escape")
    assert page.locator("#large[open]").count() == 0
    page.keyboard.press("End")
    assert active(page) == order[-1] == "gone.jpg"  # failures come last


def test_search_and_filters_show_what_is_asked_for(page):
    page.keyboard.press("/")
    page.keyboard.type("ROCK")
    until(page, lambda: names(page) == ["rocket.jpg"])
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "gallery"
    page.locator("#search").fill("")
    page.locator("#kind").select_option("failed")
    until(page, lambda: names(page) == ["gone.jpg"])
    page.locator("#kind").select_option("review")
    until(page, lambda: names(page) == [DOUBTFUL])
    page.locator("#search").fill("nothing")
    page.get_by_role("button", name="Show everything").click()
    until(page, lambda: len(names(page)) == 5)


def test_one_window_learns_what_was_said_in_another(page, address, pages, folder):
    other = opened(pages(NARROW), address)
    page.keyboard.press("n")
    until(other, lambda: "1 changed" in other.locator("#progress").text_content())
    other.keyboard.press("End")
    other.keyboard.press("ArrowUp")
    other.keyboard.press("a")
    assert len(saved(page, folder, 2)) == 2
    until(page, lambda: "3 left" in page.locator("#progress").text_content())

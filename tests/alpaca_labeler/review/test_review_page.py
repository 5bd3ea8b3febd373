"""`alpaca review` as a person meets it: the command, its address, and a real Chromium."""

import os
import shutil
from pathlib import Path

import pytest

from alpaca_labeler.handler import manifest_row
from alpaca_labeler.handler.bundle import Card
from tests.support.browser import NARROW, WIDE, is_too_wide, reviewing, until, violations
from tests.support.reviews import failure, row, write

PHOTOS = Path(__file__).parents[2] / "photos"
CARD = Card("1-a", "alpaca", ("not alpaca", "alpaca"), 0.5, (0.3, 0.7), 8, "", (1.0, 0.0), "")
HOSTILE = "<img src=x onerror=alert(1)>.jpg"
DOUBTFUL = "goat.jpg"


@pytest.fixture
def folder(tmp_path):
    """A manifest of a few photos, one of a hostile name, the goat the least certain."""
    rows = []
    for name, logit in ((DOUBTFUL, 0.1), ("alpaca.jpg", 4.0), ("rocket.jpg", -5.0), (HOSTILE, 2.0)):
        source = "coffee.jpg" if name == HOSTILE else name
        shutil.copy(PHOTOS / source, tmp_path / name)
        size = (tmp_path / name).stat().st_size
        rows.append(row(name, logit, size=size, card=CARD))
    write(tmp_path, *rows, failure("gone.jpg"))
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
        (word["source-ref"], word["alpaca-metadata"]["class-name"], word["labeler"]["annotator"])
        for word in map(manifest_row.parse, lines)
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
    (word,) = map(manifest_row.parse, (folder / "corrections.jsonl").read_bytes().splitlines())
    assert manifest_row.is_human(word)
    model = next(
        manifest_row.parse(line)
        for line in (folder / "manifest.jsonl").read_bytes().splitlines()
        if DOUBTFUL in line.decode()
    )
    assert manifest_row.winner([model, word]) == word
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


def test_digits_decide_and_space_opens_as_letters_and_enter_do(page, folder):
    order = names(page)
    page.keyboard.press("0")
    page.keyboard.press("1")
    assert saved(page, folder, 2) == [
        (order[0], "not alpaca", "kim"),
        (order[1], "alpaca", "kim"),
    ]
    page.keyboard.press("Space")
    page.wait_for_selector("#large[open]")
    page.keyboard.press("a")
    assert saved(page, folder, 3)[2][0] == order[2]
    page.keyboard.press("Space")
    assert page.locator("#large[open]").count() == 0


def test_what_is_typed_into_the_search_decides_nothing(page, folder):
    page.keyboard.press("/")
    page.keyboard.type("an0z1s?")
    until(page, lambda: page.locator("#empty").is_visible())
    assert page.locator("#search").input_value() == "an0z1s?"
    assert page.locator("#help[open]").count() == 0
    assert corrections(folder) == []


def test_what_cannot_be_seen_is_not_judged(page, folder):
    page.keyboard.press("End")
    tile = page.locator('[aria-selected="true"]')
    until(page, lambda: tile.locator(".reason").text_content() == "corrupt: broken <b>off</b>")
    assert page.locator("#bar .decide:disabled").count() == 2
    page.keyboard.press("a")
    until(page, lambda: "nothing to judge" in page.locator("#status").text_content())
    assert active(page) == "gone.jpg"
    assert corrections(folder) == []


def test_a_finger_does_what_the_keys_do(address, pages, folder):
    page = opened(pages(NARROW), address)
    order = names(page)
    page.get_by_role("button", name="not alpaca").tap()
    assert saved(page, folder, 1) == [(order[0], "not alpaca", "kim")]
    page.get_by_role("button", name="Undo").tap()
    saved(page, folder, 0)
    page.get_by_role("button", name="Filters").tap()
    page.locator("#kind").select_option("failed")
    until(page, lambda: names(page) == ["gone.jpg"])


def test_a_decision_that_cannot_be_written_is_shown_as_none(page, pages, folder):
    (folder / "corrections.jsonl").mkdir()
    page.keyboard.press("n")
    problem = page.locator("#problem")
    until(page, lambda: "corrections.jsonl: " in problem.text_content())
    assert page.locator(".tile.changed, .tile.confirmed, .tile.pending").count() == 0
    (folder / "corrections.jsonl").rmdir()
    page.keyboard.press("Home")
    page.keyboard.press("n")
    assert saved(page, folder, 1) == [(DOUBTFUL, "not alpaca", "kim")]
    until(page, lambda: page.locator(".tile.changed").count() == 1)
    until(page, problem.is_hidden)
    pages.wrong[:] = [each for each in pages.wrong if "status of 507" not in each]


def test_a_manifest_that_changes_is_said_to_and_read_again_when_asked(page, folder):
    (folder / "new").mkdir()
    new = write(folder / "new", row("alpaca.jpg", 4.0, card=CARD), row("x", -4.0, card=CARD))
    os.replace(new, folder / "manifest.jsonl")
    page.get_by_role("button", name="Read it again").click()
    until(page, lambda: set(names(page)) == {"alpaca.jpg", "x", "gone.jpg"})
    until(page, page.locator("#stale").is_hidden)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_of_a_long_list_only_what_is_in_sight_exists(tmp_path, pages, width):
    write(tmp_path, *(row(f"{number:05}", 3 - number % 7, card=CARD) for number in range(5000)))
    with reviewing(tmp_path) as address:
        page = pages(width)
        page.goto(address)
        page.wait_for_selector(".tile .reason:not(:empty)")
        page.keyboard.press("/")  # on a phone it brings the filters into sight
        page.locator("#sort").select_option("name")
        until(page, lambda: names(page)[:1] == ["00000"])
        page.locator("#gallery").focus()
        for key, name in (("End", "04999"), ("ArrowLeft", "04998"), ("Home", "00000")):
            page.keyboard.press(key)
            until(page, lambda name=name: active(page) == name)
            assert page.locator(".tile").count() < 100
        page.close()

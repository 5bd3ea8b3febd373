"""`alpaca review` as a person meets it: the command, its address, and a real Chromium."""

import os
import random
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from alpaca_labeler.model.bundle import Card
from alpaca_labeler.table.run import Run
from tests.support.browser import NARROW, WIDTHS, reviewing, until, violations
from tests.support.reviews import draw, failure, of, row, rows, said, write

PHOTOS = Path(__file__).parents[2] / "photos"
CARD = Card("1-a", "alpaca", ("not alpaca", "alpaca"), 0.5, (0.3, 0.7), 8, "", (1.0, 0.0), "")
HOSTILE = "<img src=x onerror=alert(1)>.jpg"
DOUBTFUL = "goat.jpg"


@pytest.fixture
def folder(tmp_path):
    """A manifest of a few photos, one of a hostile name, the goat the least certain."""
    made = []
    for name, logit in ((DOUBTFUL, 0.1), ("alpaca.jpg", 4.0), ("rocket.jpg", -5.0), (HOSTILE, 2.0)):
        source = "coffee.jpg" if name == HOSTILE else name
        shutil.copy(PHOTOS / source, tmp_path / name)
        made.append(of(tmp_path / name, row(name, logit, card=CARD)))
    write(tmp_path, *made, row("gone.jpg", -8.0, card=CARD), failure("broken.jpg"))
    return tmp_path


@pytest.fixture
def address(folder):
    """The address that the running command printed."""
    with reviewing(folder, "--annotator", "kim") as printed:
        yield printed


@pytest.fixture
def page(address, pages):
    """The page once all its photos are there."""
    return opened(pages(), address)


def opened(page, address):
    page.goto(address)
    settled(page)
    return page


@contextmanager
def review(folder, pages, *words):
    """Run a review and yield its page, which is closed before the review ends."""
    with reviewing(folder, "--annotator", "kim", *words) as address:
        page = opened(pages(), address)
        yield page
        page.close()


IN_SIGHT = """() => {
  const box = document.getElementById("main").getBoundingClientRect();
  return [...document.querySelectorAll(".tile")].filter((tile) => {
    const { top, bottom } = tile.getBoundingClientRect();
    return top >= box.top - 2 && bottom <= box.bottom + 2;
  });
}"""


def settled(page):
    """Wait until every photo in sight is there, or is said not to be."""
    loaded = f"({IN_SIGHT})().map((tile) => tile.querySelector('img').complete)"
    until(page, lambda: all(found := page.evaluate(loaded)) and found)


def decided(folder):
    """Name: label of what people decided."""
    return {name: each.label for name, each in rows(folder).items() if each.decision}


def names(page):
    """The names in the grid, in the order of their places."""
    return page.locator(".tile .name").all_text_contents()


def active(page):
    """The name of the photo that the keys are about."""
    return page.locator(".tile.active .name").text_content()


def selected(page):
    return page.locator("[aria-selected=true] .name").all_text_contents()


def message(page):
    return page.locator("#message").text_content()


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def written(page):
    """Wait until no decision is on its way."""
    until(page, lambda: page.locator(".pending").count() == 0)


def bar(page, does):
    return page.locator(f"#bar [data-does={does}]")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_is_accessible_at_every_width_by_keyboard_alone(address, pages, folder, width):
    page = opened(pages(width), address)
    assert page.get_by_text(HOSTILE).count() > 0
    press(page, "n", "Shift+ArrowRight")
    assert violations(page) == []  # decided, selected, gone
    press(page, "Enter")
    page.wait_for_selector("body.large")
    assert violations(page) == []
    press(page, "Escape", "z")
    until(page, lambda: "again" in message(page))
    assert violations(page) == []
    press(page, "?")
    page.wait_for_selector("#help[open]")
    assert violations(page) == []
    press(page, "Escape", "/", *"anrzx?")
    until(page, lambda: "No photos match" in page.locator("#end-title").text_content())
    assert page.locator("#help[open]").count() == 0
    assert violations(page) == []  # filters, the end
    assert decided(folder) == {}


@pytest.fixture
def job(tmp_path):
    """1,093 photos, and which are alpacas. 60 are labelled wrong, as by a model: the unsure."""
    chance = random.Random(1)
    truth = {f"{number:04}.png": chance.random() < 0.37 for number in range(1093)}
    for yes in (False, True):
        draw(tmp_path / f"{yes}.png", "teal" if yes else "brown", (64, 48))
    # Of the wrong ones most are alpacas that the model did not see.
    wrong = {
        *chance.sample([name for name, yes in truth.items() if yes], 47),
        *chance.sample([name for name, yes in truth.items() if not yes], 13),
    }
    made = []
    for name, yes in truth.items():
        os.link(tmp_path / f"{yes}.png", tmp_path / name)
        sure = abs(chance.gauss(0, 0.8)) if name in wrong else abs(chance.gauss(4, 2))
        made.append(row(name, sure if yes is not (name in wrong) else -sure, card=CARD))
    write(tmp_path, *made)
    return tmp_path, truth


def test_56_of_60_wrong_labels_are_found_in_120_presses(job, pages):
    folder, truth = job
    presses = 0
    with review(folder, pages) as page:

        def to_look_at():
            """What is in sight and undecided, (id, name) each, once the page counts the same."""
            seen = page.evaluate(
                f"({IN_SIGHT})().filter((tile) => !tile.classList.contains('decided'))"
                ".map((tile) => [tile.id, tile.querySelector('.name').textContent])"
            )
            return f"({len(seen)})" in bar(page, "rest").text_content() and seen

        for label, screens in (("not alpaca", 14), ("alpaca", 8)):
            presses += 2  # open the filter, choose
            page.locator("#label").select_option(label)
            until(page, lambda of=label: page.locator("#shown").text_content().endswith(f"· {of}"))
            for _ in range(screens):
                seen = until(page, to_look_at)
                wrong = [tile for tile, name in seen if truth[name] is not (label == "alpaca")]
                for tile in wrong:
                    page.locator(f"#{tile}").click(
                        modifiers=["Control"], position={"x": 20, "y": 20}
                    )
                for key in (["n" if label == "alpaca" else "a"] if wrong else []) + ["r"]:
                    press(page, key)
                    written(page)
                    presses += 1
                presses += len(wrong)
    right = {name: "alpaca" if yes else "not alpaca" for name, yes in truth.items()}
    found = sum(
        each.answer.label != right[name] and each.decision and each.label == right[name]
        for name, each in rows(folder).items()
    )
    assert found >= 56, presses
    assert presses <= 120
    assert all(label == right[name] for name, label in decided(folder).items())


PROGRESS = "1 of 5 decided, 1 changed; fewer than 1 wrong in the 4 left"


def test_a_key_decides_once_goes_on_and_is_undone_in_sight(page, folder):
    order = names(page)
    assert active(page) == DOUBTFUL  # the least certain comes first
    for _ in range(3):  # it is held down: the second and third are repeats
        page.keyboard.down("n")
    page.keyboard.up("n")
    until(page, lambda: decided(folder) == {DOUBTFUL: "not alpaca"})
    assert active(page) == order[1]
    until(page, lambda: page.locator("#progress").text_content() == PROGRESS)
    press(page, "End", "Control+z")
    until(page, lambda: message(page) == f"{DOUBTFUL} is alpaca again")
    assert active(page) == DOUBTFUL
    assert decided(folder) == {}
    press(page, "n", "Home", *"anaz")
    until(page, lambda: decided(folder) == {order[0]: "alpaca", order[1]: "not alpaca"})


def test_many_are_selected_by_mouse_and_keys_and_decided_at_once(page, folder):
    order = names(page)
    tile = page.locator(".tile")
    tile.nth(0).click()
    assert selected(page) == order[:1]
    tile.nth(2).click(modifiers=["Shift"])
    assert selected(page) == order[:3]
    tile.nth(1).click(modifiers=["Control"])
    assert selected(page) == [order[0], order[2]]
    press(page, "Control+a")
    assert selected(page) == order
    press(page, "Escape")
    assert selected(page) == []
    press(page, "Home", "Shift+ArrowRight")
    assert selected(page) == order[:2]
    press(page, "ArrowLeft", "x", "n")
    until(page, lambda: len(decided(folder)) == 1)
    press(page, "Control+a", "a")
    # The photo that is not there cannot be judged.
    until(page, lambda: set(decided(folder)) == set(order) - {"gone.jpg"})
    assert set(decided(folder).values()) == {"alpaca"}
    press(page, "z")
    until(page, lambda: len(decided(folder)) == 1)


def test_the_rest_in_view_is_confirmed_but_for_what_is_selected_or_cannot_be_seen(page, folder):
    press(page, "End")
    reason = page.locator(".tile.active .reason")
    until(page, lambda: "no such file" in reason.text_content())
    until(page, bar(page, "yes").is_disabled)
    press(page, "a")
    until(page, lambda: "cannot be seen" in message(page))
    until(page, lambda: "(4)" in bar(page, "rest").text_content())
    page.locator(".tile").nth(1).click(modifiers=["Control"])
    until(page, lambda: "(3)" in bar(page, "rest").text_content())
    press(page, "r")
    until(page, lambda: len(decided(folder)) == 3)
    assert HOSTILE not in decided(folder)
    written(page)
    press(page, "r")
    until(page, lambda: "selected photos are left" in message(page))
    press(page, "n")
    until(page, lambda: decided(folder).get(HOSTILE) == "not alpaca")
    end = "4 of 5 decided, 1 changed; fewer than 1 wrong in the 1 left"
    until(page, lambda: page.locator("#end-left").text_content() == end)
    assert page.locator("#end-title").text_content() == "1 photo above is not decided"
    assert "gone.jpg" not in decided(folder)


def test_filters_are_said_and_in_the_address_and_a_random_check_in_the_header(page, folder):
    page.locator("#label").select_option("alpaca")
    until(page, lambda: len(names(page)) == 3)
    press(page, "n")  # the keys are about the photos again
    until(page, lambda: decided(folder) == {DOUBTFUL: "not alpaca"})
    page.locator("#label").select_option("")
    page.locator("#show").select_option("changed")
    until(page, lambda: names(page) == [DOUBTFUL])
    assert page.locator("#shown").text_content() == "1 photo · changed by people"
    page.get_by_role("button", name="Show all photos").click()
    until(page, lambda: len(names(page)) == 5)
    page.locator("#search").fill("OCK")
    until(page, lambda: names(page) == ["rocket.jpg"])
    until(page, lambda: "photo=rocket.jpg" in page.url)
    page.reload()
    settled(page)
    assert names(page) == ["rocket.jpg"]
    assert page.locator("#search").input_value() == "OCK"
    press(page, "z")  # what was decided before the reload
    until(page, lambda: message(page) == "1 photo: as before, not in this list")
    (folder / "gone.jpg").hardlink_to(folder / "rocket.jpg")
    page.get_by_role("button", name="Check 60 at random").click()
    until(page, lambda: "60 at random" in page.locator("#shown").text_content())
    until(page, lambda: "(5)" in bar(page, "rest").text_content())
    press(page, "n")
    until(page, lambda: "random check: 1 of 5" in page.locator("#progress").text_content())
    until(page, lambda: "(4)" in bar(page, "rest").text_content())
    press(page, "r")
    until(page, lambda: " of 5 wrong: " in page.locator("#progress").text_content())
    assert " of 5 wrong: " in page.locator("#end-left").text_content()


def test_one_photo_at_a_time_is_large_and_decided_as_many_are(page, folder):
    press(page, "Enter")
    width = "document.querySelector('.active img').naturalWidth"
    until(page, lambda: page.evaluate(width) > 384)
    press(page, "ArrowRight")
    until(page, lambda: active(page) == HOSTILE)
    press(page, "a")
    until(page, lambda: decided(folder) == {HOSTILE: "alpaca"})
    assert active(page) == "alpaca.jpg"
    until(page, bar(page, "rest").is_enabled)
    press(page, "r")  # one is in view, and one is confirmed
    until(page, lambda: decided(folder) == {HOSTILE: "alpaca", "alpaca.jpg": "alpaca"})
    with page.context.expect_page() as full:
        page.locator(".tile.active").dblclick()
    assert "size=full" in full.value.url
    press(page, "Escape")
    until(page, lambda: page.locator("body.large").count() == 0)


def test_a_finger_does_what_the_keys_do(address, pages, folder):
    page = opened(pages(NARROW), address)
    order = names(page)
    for place in (0, 1):
        page.locator(".tile").nth(place).tap()
    assert selected(page) == order[:2]
    bar(page, "no").tap()
    until(page, lambda: len(decided(folder)) == 2)
    bar(page, "undo").tap()
    until(page, lambda: decided(folder) == {})
    bar(page, "open").tap()
    page.wait_for_selector("body.large")
    bar(page, "open").tap()
    page.locator("#filters-open").tap()
    page.locator("#show").select_option("left")
    until(page, page.locator("#filters").is_hidden)  # a photo has its room again


@pytest.mark.parametrize(
    ("classes", "keys", "found"),
    [
        (("goat", "sheep"), "gs12", ["goat", "sheep", "goat", "sheep"]),
        (("rabbit", "hare"), "rh12", ["hare", "", "rabbit", "hare"]),  # r confirms
        (("cat", "cow"), "c12", ["", "cat", "cow"]),
    ],
)
def test_keys_follow_the_classes(tmp_path, pages, classes, keys, found):
    draw(tmp_path / "0.png")
    card = Card("1-a", classes[1], classes, 0.5, (0.3, 0.7), 8, "", (1.0, 0.0), "")
    write(tmp_path, of(tmp_path / "0.png", row("0.png", 2.0, card=card)))
    with review(tmp_path, pages, "--labels", *classes) as page:
        for key, label in zip(keys, found, strict=True):
            until(page, bar(page, "rest").is_enabled)
            press(page, "Home", key)
            written(page)
            assert [*decided(tmp_path).values()] == [label] * bool(label)
            press(page, "z")
            until(page, lambda: decided(tmp_path) == {})


WATCH = """() => {  // Which photos have been whole on the screen for as long as a glance, by name.
  const since = new Map();
  window.seen = new Set();
  const look = () => {
    const here = (IN_SIGHT)().map((tile) => tile.querySelector(".name").textContent);
    for (const name of since.keys()) if (!here.includes(name)) since.delete(name);
    for (const name of here) {
      if (!since.has(name)) since.set(name, performance.now());
      if (performance.now() - since.get(name) > 200) seen.add(name);
    }
    requestAnimationFrame(look);
  };
  look();
}""".replace("IN_SIGHT", IN_SIGHT)


def test_the_keyboard_confirms_nothing_that_was_not_seen_whole(job, pages):
    """Nothing moves under the eye while something in view is left to look at."""
    folder, _ = job
    chance = random.Random(1)
    confirmed: set[str] = set()
    with review(folder, pages) as page:
        page.evaluate(WATCH)
        for step in range(5 * 14):
            if step % 14 == 0:
                height = (330, 480, 611, 800, 1013)[step // 14]
                page.set_viewport_size({"width": 700, "height": height})
            key = chance.choice(["1", "1", "2", "r", "r", "ArrowDown", "End", "PageDown", "Home"])
            page.wait_for_timeout(chance.choice([0, 0, 40, 400]))
            seen = page.evaluate("[...seen]")
            press(page, key)
            written(page)
            new = decided(folder).keys() - confirmed
            if key == "r":
                assert new <= {*seen}
            confirmed |= new


def test_two_windows_and_two_people_overwrite_nothing_unseen(page, folder, address, pages):
    other = opened(pages(), address)
    with reviewing(folder, "--annotator", "sam") as elsewhere:
        third = opened(pages(), elsewhere)
        third.keyboard.press("n")
        until(third, lambda: said(folder) == [(DOUBTFUL, 0, "sam")])
        # Neither window has seen that: both confirm what they show.
        press(page, "r")
        until(page, lambda: "1 photo decided elsewhere just now: look again" in message(page))
        assert (DOUBTFUL, 0, "sam") in said(folder)
        assert len(said(folder)) == 4
        until(page, lambda: page.locator(".tile.decided").count() == 4)
        other.keyboard.press("r")
        until(other, lambda: "4 photos decided elsewhere just now" in message(other))
        until(other, lambda: other.locator(".tile.decided").count() == 4)
        third.keyboard.press("z")
        until(third, lambda: DOUBTFUL not in decided(folder))
        third.close()


def test_a_decision_that_cannot_be_written_is_not_shown_as_made(folder, pages):
    manifest, away = folder / "manifest.jsonl", folder / "away.jsonl"
    with reviewing(folder, "--annotator", "kim") as address:
        page = opened(pages(), address)
        problem = page.locator("#problem")
        manifest.rename(away)
        press(page, "n")
        until(page, lambda: "manifest.jsonl: " in problem.text_content())
        until(page, lambda: page.locator(".tile.decided, .tile.pending").count() == 0)
        away.rename(manifest)
        press(page, "Home", "n")
        until(page, lambda: decided(folder) == {DOUBTFUL: "not alpaca"})
        until(page, problem.is_hidden)
    press(page, "n")
    until(page, lambda: "The review has ended" in problem.text_content())
    until(page, lambda: page.locator(".tile.decided, .tile.pending").count() == 1)
    assert decided(folder) == {DOUBTFUL: "not alpaca"}
    expected = "status of 507", "ERR_CONNECTION_REFUSED"
    pages.wrong[:] = [each for each in pages.wrong if not any(map(each.__contains__, expected))]


def test_a_run_that_ends_meanwhile_is_followed_in_place(page, pages, folder):
    press(page, "n")
    until(page, lambda: decided(folder) == {DOUBTFUL: "not alpaca"})
    press(page, "End", "ArrowLeft")
    at = active(page)
    with Run(str(folder / "manifest.jsonl")) as run:
        run.append(row("new.jpg", 0.01, card=CARD))
        run.settle()
    press(page, "n")  # about a list that is not there any more
    until(page, lambda: "new.jpg" in names(page))
    until(page, lambda: "nothing was saved just now: look again" in message(page))
    until(page, lambda: active(page) == at)
    assert decided(folder) == {DOUBTFUL: "not alpaca"}
    until(page, lambda: page.locator(".tile.decided").count() == 1)
    settled(page)
    press(page, "n")
    until(page, lambda: set(decided(folder)) == {DOUBTFUL, at})
    pages.wrong[:] = [each for each in pages.wrong if "status of 409" not in each]


def test_a_long_list_has_pages_and_keys_reach_all_of_it(job, pages):
    folder, _ = job
    found = rows(folder)
    order = sorted(found, key=lambda name: abs(found[name].answer.probability - 0.5))
    places = {"End": 1092, "Home": 0, "]": 240, "ArrowLeft": 239, "ArrowRight": 240}
    with review(folder, pages) as page:
        for key, place in places.items():
            press(page, key)
            until(page, lambda name=order[place]: active(page) == name)
        assert page.locator("#page").text_content() == "Page 2 of 5"
        assert page.locator(".tile").count() == 240
        press(page, "Control+a", "a")
        until(page, lambda: len(decided(folder)) == 240)
        until(page, lambda: active(page) == order[480])

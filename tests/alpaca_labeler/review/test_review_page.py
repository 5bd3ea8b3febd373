"""`alpaca review` as a person meets it: the command, its address, and a real Chromium."""

import os
import random
import shutil
from pathlib import Path

import pytest

from alpaca_labeler.model.bundle import Card
from alpaca_labeler.table.run import Run
from tests.support.browser import NARROW, WIDE, is_too_wide, reviewing, until, violations
from tests.support.reviews import draw, failure, of, row, rows, write

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


def labels(folder):
    """Name: (label, who decided) of each row of the table, as every command reads it."""
    return {
        name: (each.label, each.decision and each.decision.who)
        for name, each in rows(folder).items()
    }


def decided(folder):
    """Name: label of what people decided."""
    return {name: label for name, (label, who) in labels(folder).items() if who}


def names(page):
    """The names in the grid, in the order of their places."""
    return page.locator(".tile .name").all_text_contents()


def active(page):
    """The name of the photo that the keys are about."""
    return page.locator(".tile.active .name").text_content()


def selected(page):
    return page.locator("[aria-selected=true] .name").all_text_contents()


def said(page):
    return page.locator("#message").text_content()


def bar(page, does):
    return page.locator(f"#bar [data-does={does}]")


@pytest.mark.parametrize(
    ("width", "dark"), [(WIDE, False), (768, True), (NARROW, False), (NARROW, True)]
)
def test_every_page_is_accessible_at_every_width_by_keyboard_alone(
    address, pages, folder, width, dark
):
    page = opened(pages(width, dark=dark), address)
    assert page.get_by_text(HOSTILE).count() > 0

    def check():
        assert violations(page) == []
        assert not is_too_wide(page)

    page.keyboard.press("n")
    page.keyboard.press("Shift+ArrowRight")
    check()  # decided, selected, gone
    page.keyboard.press("Enter")
    page.wait_for_selector("body.large")
    check()
    page.keyboard.press("Escape")
    page.keyboard.press("z")
    until(page, lambda: "again" in said(page))
    check()
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    check()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("anrzx?")
    until(page, lambda: "No photos match" in page.locator("#end-title").text_content())
    assert page.locator("#help[open]").count() == 0
    check()  # filters, the end
    assert decided(folder) == {}


COUNT, WRONG = 1093, 60


@pytest.fixture
def job(tmp_path):
    """1,093 photos, 60 of them labelled wrong, as by a model: mostly those it is unsure of."""
    chance = random.Random(1)
    truth = {f"{number:04}.png": chance.random() < 0.37 for number in range(COUNT)}
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
    with reviewing(folder, "--annotator", "kim") as address:
        page = opened(pages(), address)

        def press(key):
            nonlocal presses
            presses += 1
            page.keyboard.press(key)

        def to_look_at():
            """What is in sight and undecided, (id, name) each, once the page counts the same."""
            seen = (
                f"({IN_SIGHT})().filter((tile) => !tile.classList.contains('decided'))"
                ".map((tile) => [tile.id, tile.querySelector('.name').textContent])"
            )

            def agreed():
                found = page.evaluate(seen)
                return f"({len(found)})" in bar(page, "rest").text_content() and found

            return until(page, agreed)

        def screen(yes):
            """Select what is wrong in view, give it its label, and confirm the rest."""
            nonlocal presses
            wrong = [tile for tile, name in to_look_at() if truth[name] is not yes]
            for tile in wrong:
                presses += 1
                page.locator(f"#{tile}").click(modifiers=["Control"], position={"x": 20, "y": 20})
            if wrong:
                press("n" if yes else "a")
                until(page, lambda: page.locator(".pending").count() == 0)
            press("r")
            until(page, lambda: page.locator(".pending").count() == 0)

        for label, screens in (("not alpaca", 14), ("alpaca", 8)):
            presses += 2  # open the filter, choose
            page.locator("#label").select_option(label)
            until(page, lambda of=label: page.locator("#shown").text_content().endswith(f"· {of}"))
            for _ in range(screens):
                screen(label == "alpaca")
        until(page, lambda: page.locator(".pending").count() == 0)
        page.close()
    right = {name: "alpaca" if yes else "not alpaca" for name, yes in truth.items()}
    found = sum(
        each.answer.label != right[name] and each.decision and each.label == right[name]
        for name, each in rows(folder).items()
    )
    assert found >= 56, presses
    assert presses <= 120
    assert all(label == right[name] for name, label in decided(folder).items())


PROGRESS = "1 of 5 decided, 1 changed; fewer than 1 wrong in the 4 left"


def test_one_key_decides_goes_on_and_is_undone_in_sight(page, folder):
    order = names(page)
    assert active(page) == DOUBTFUL  # the least certain comes first
    page.keyboard.press("n")
    until(page, lambda: decided(folder) == {DOUBTFUL: "not alpaca"})
    assert active(page) == order[1]
    until(page, lambda: page.locator("#progress").text_content() == PROGRESS)
    page.keyboard.press("End")
    page.keyboard.press("Control+z")
    until(page, lambda: said(page) == f"{DOUBTFUL} is alpaca again")
    assert active(page) == DOUBTFUL
    assert decided(folder) == {}


def test_a_key_that_is_held_down_decides_once_and_each_of_many_is_written(page, folder):
    order = names(page)
    for _ in range(3):  # the second and third are repeats
        page.keyboard.down("n")
    page.keyboard.up("n")
    until(page, lambda: decided(folder) == {order[0]: "not alpaca"})
    assert active(page) == order[1]
    page.keyboard.press("Home")
    for key in "anaz":
        page.keyboard.press(key)
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
    page.keyboard.press("Control+a")
    assert selected(page) == order
    page.keyboard.press("Escape")
    assert selected(page) == []
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    assert selected(page) == order[:2]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("x")
    page.keyboard.press("n")
    until(page, lambda: len(decided(folder)) == 1)
    page.keyboard.press("Control+a")
    page.keyboard.press("a")
    # The photo that is not there cannot be judged.
    until(page, lambda: set(decided(folder)) == set(order) - {"gone.jpg"})
    assert set(decided(folder).values()) == {"alpaca"}
    page.keyboard.press("z")
    until(page, lambda: len(decided(folder)) == 1)


def test_the_rest_in_view_is_confirmed_but_for_what_is_selected_or_cannot_be_seen(page, folder):
    until(page, lambda: "(4)" in bar(page, "rest").text_content())
    page.locator(".tile").nth(1).click(modifiers=["Control"])
    until(page, lambda: "(3)" in bar(page, "rest").text_content())
    page.keyboard.press("r")
    until(page, lambda: len(decided(folder)) == 3)
    assert HOSTILE not in decided(folder)
    until(page, lambda: page.locator(".pending").count() == 0)
    page.keyboard.press("r")
    until(page, lambda: "selected photos are left" in said(page))
    page.keyboard.press("n")
    until(page, lambda: decided(folder).get(HOSTILE) == "not alpaca")
    end = "4 of 5 decided, 1 changed; fewer than 1 wrong in the 1 left"
    until(page, lambda: page.locator("#end-left").text_content() == end)
    assert page.locator("#end-title").text_content() == "1 photo above is not decided"
    assert "gone.jpg" not in decided(folder)


def test_filters_are_said_and_in_the_address(page, folder):
    page.locator("#label").select_option("alpaca")
    until(page, lambda: len(names(page)) == 3)
    page.keyboard.press("n")  # the keys are about the photos again
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
    page.keyboard.press("z")  # what was decided before the reload
    until(page, lambda: said(page) == "1 photo: as before, not in this list")


def test_a_random_check_says_in_the_header_how_many_are_right(page, folder):
    (folder / "gone.jpg").hardlink_to(folder / "rocket.jpg")
    page.get_by_role("button", name="Check 60 at random").click()
    until(page, lambda: "60 at random" in page.locator("#shown").text_content())
    until(page, lambda: "(5)" in bar(page, "rest").text_content())
    page.keyboard.press("n")
    until(page, lambda: "random check: 1 of 5" in page.locator("#progress").text_content())
    until(page, lambda: "(4)" in bar(page, "rest").text_content())
    page.keyboard.press("r")
    says = " of 5 wrong: "
    until(page, lambda: says in page.locator("#progress").text_content())
    assert says in page.locator("#end-left").text_content()


def test_one_photo_at_a_time_is_large_and_decided_as_many_are(page, folder):
    page.keyboard.press("Enter")
    width = "document.querySelector('.active img').naturalWidth"
    until(page, lambda: page.evaluate(width) > 384)
    page.keyboard.press("ArrowRight")
    until(page, lambda: active(page) == HOSTILE)
    page.keyboard.press("a")
    until(page, lambda: decided(folder) == {HOSTILE: "alpaca"})
    assert active(page) == "alpaca.jpg"
    until(page, bar(page, "rest").is_enabled)
    page.keyboard.press("r")  # one is in view, and one is confirmed
    until(page, lambda: decided(folder) == {HOSTILE: "alpaca", "alpaca.jpg": "alpaca"})
    with page.context.expect_page() as full:
        page.locator(".tile.active").dblclick()
    assert "size=full" in full.value.url
    page.keyboard.press("Escape")
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
    with reviewing(tmp_path, "--annotator", "kim", "--labels", *classes) as address:
        page = opened(pages(), address)
        for key, label in zip(keys, found, strict=True):
            until(page, bar(page, "rest").is_enabled)
            page.keyboard.press("Home")
            page.keyboard.press(key)
            until(page, lambda: page.locator(".pending").count() == 0)
            assert [*decided(tmp_path).values()] == [label] * bool(label)
            page.keyboard.press("z")
            until(page, lambda: decided(tmp_path) == {})
        page.close()


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


@pytest.mark.parametrize("height", [330, 480, 611, 800, 1013])
def test_the_keyboard_confirms_nothing_that_was_not_seen_whole(job, pages, height):
    """Nothing moves under the eye while something in view is left to look at."""
    folder, _ = job
    chance = random.Random(height)
    confirmed: set[str] = set()
    with reviewing(folder, "--annotator", "kim") as address:
        page = pages()
        page.set_viewport_size({"width": 700, "height": height})
        opened(page, address)
        page.evaluate(WATCH)
        for _ in range(14):
            key = chance.choice(["1", "1", "2", "r", "r", "ArrowDown", "End", "PageDown", "Home"])
            page.wait_for_timeout(chance.choice([0, 0, 40, 400]))
            seen = page.evaluate("[...seen]")
            page.keyboard.press(key)
            until(page, lambda: page.locator(".pending").count() == 0)
            new = decided(folder).keys() - confirmed
            if key == "r":
                assert new <= {*seen}
            confirmed |= new
        page.close()


def test_what_cannot_be_seen_is_said_and_not_judged(folder, pages):
    (folder / "rocket.jpg").unlink()
    with reviewing(folder) as address:
        page = opened(pages(), address)
        page.keyboard.press("End")
        reason = page.locator(".tile.active .reason")
        until(page, lambda: "no such file" in reason.text_content())
        until(page, bar(page, "yes").is_disabled)
        page.keyboard.press("a")
        until(page, lambda: "cannot be seen" in said(page))
        tile = page.locator(".tile", has_text="rocket.jpg")
        until(page, lambda: "no such file" in tile.locator(".reason").text_content())
        until(page, bar(page, "rest").is_enabled)
        page.keyboard.press("r")
        until(page, lambda: len(decided(folder)) == 3)
        assert "rocket.jpg" not in decided(folder)
        page.close()


def test_two_windows_and_two_people_overwrite_nothing_unseen(page, folder, address, pages):
    other = opened(pages(), address)
    with reviewing(folder, "--annotator", "sam") as elsewhere:
        third = opened(pages(), elsewhere)
        third.keyboard.press("n")
        until(third, lambda: labels(folder)[DOUBTFUL] == ("not alpaca", "sam"))
        # Neither window has seen that: both confirm what they show.
        page.keyboard.press("r")
        until(page, lambda: "1 photo decided elsewhere just now: look again" in said(page))
        assert labels(folder)[DOUBTFUL] == ("not alpaca", "sam")
        assert len(decided(folder)) == 4
        until(page, lambda: page.locator(".tile.decided").count() == 4)
        other.keyboard.press("r")
        until(other, lambda: "4 photos decided elsewhere just now" in said(other))
        until(other, lambda: other.locator(".tile.decided").count() == 4)
        third.keyboard.press("z")
        until(third, lambda: labels(folder)[DOUBTFUL] == ("alpaca", None))
        third.close()


def test_a_decision_that_cannot_be_written_is_not_shown_as_made(page, pages, folder):
    manifest, away = folder / "manifest.jsonl", folder / "away.jsonl"
    manifest.rename(away)
    page.keyboard.press("n")
    problem = page.locator("#problem")
    until(page, lambda: "manifest.jsonl: " in problem.text_content())
    until(page, lambda: page.locator(".tile.decided, .tile.pending").count() == 0)
    away.rename(manifest)
    page.keyboard.press("Home")
    page.keyboard.press("n")
    until(page, lambda: decided(folder) == {DOUBTFUL: "not alpaca"})
    until(page, problem.is_hidden)
    pages.wrong[:] = [each for each in pages.wrong if "status of 507" not in each]


def test_a_run_that_ends_meanwhile_is_followed_in_place(page, pages, folder):
    page.keyboard.press("n")
    until(page, lambda: decided(folder) == {DOUBTFUL: "not alpaca"})
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    at = active(page)
    with Run(str(folder / "manifest.jsonl")) as run:
        run.append(row("new.jpg", 0.01, card=CARD))
        run.settle()
    page.keyboard.press("n")  # about a list that is not there any more
    until(page, lambda: "new.jpg" in names(page))
    until(page, lambda: "nothing was saved just now: look again" in said(page))
    until(page, lambda: active(page) == at)
    assert decided(folder) == {DOUBTFUL: "not alpaca"}
    until(page, lambda: page.locator(".tile.decided").count() == 1)
    settled(page)
    page.keyboard.press("n")
    until(page, lambda: set(decided(folder)) == {DOUBTFUL, at})
    pages.wrong[:] = [each for each in pages.wrong if "status of 409" not in each]


def test_a_server_that_died_is_said_to_be_gone(folder, pages):
    with reviewing(folder, "--annotator", "kim") as address:
        page = opened(pages(), address)
        page.keyboard.press("n")
        until(page, lambda: decided(folder) == {DOUBTFUL: "not alpaca"})
    page.keyboard.press("n")
    until(page, lambda: "The review has ended" in page.locator("#problem").text_content())
    until(page, lambda: page.locator(".tile.decided").count() == 1)
    assert decided(folder) == {DOUBTFUL: "not alpaca"}
    pages.wrong[:] = [each for each in pages.wrong if "ERR_CONNECTION_REFUSED" not in each]


def test_a_long_list_has_pages_and_keys_reach_all_of_it(tmp_path, pages):
    draw(tmp_path / "one.png")
    for number in range(1000):
        os.link(tmp_path / "one.png", tmp_path / f"{number:05}")
    write(
        tmp_path,
        *(
            row(f"{number:05}", (number + 1) / (100, -100)[number % 2], card=CARD)
            for number in range(1000)
        ),
    )
    with reviewing(tmp_path) as address:
        page = pages()
        page.goto(address)
        until(page, lambda: names(page)[:1] == ["00000"])
        for key, name in zip(
            ("End", "Home", "]", "ArrowLeft", "ArrowRight"),
            ("00999", "00000", "00240", "00239", "00240"),
            strict=True,
        ):
            page.keyboard.press(key)
            until(page, lambda name=name: active(page) == name)
        assert page.locator("#page").text_content() == "Page 2 of 5"
        assert page.locator(".tile").count() == 240
        page.keyboard.press("Control+a")
        page.keyboard.press("a")
        until(page, lambda: len(decided(tmp_path)) == 240)
        until(page, lambda: active(page) == "00480")
        page.close()

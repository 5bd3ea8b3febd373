"""When to stop: how many labels are still wrong, and how sure a random check makes."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from alpaca_labeler.table.facts import RANDOM
from alpaca_labeler.table.progress import Progress, wilson
from alpaca_labeler.table.row import Row
from tests.support.rows import failure, human, label


def progress(*rows):
    found = Progress()
    for row in rows:
        found.add(row)
    return found


def drawn(row):
    """The same decision, about a photo that was drawn at random."""
    people = {key: structs.replace(said, sample=RANDOM) for key, said in row.people.items()}
    return Row.from_line(replace(row, people=people).to_line())


def test_how_many_are_decided_changed_and_still_wrong_is_one_sentence():
    sure = [label(f"{n}", probability=0.99) for n in range(800)]
    found = progress(*sure, *(human(f"d{n}", was=("alpaca", "not")[n > 20]) for n in range(240)))
    # 8 are expected to be wrong there; of 21 * 0.1 + 219 * 0.2 that were expected, 21 were found.
    assert found.wrong_left == pytest.approx(800 * 0.01 * 22 / (21 * 0.1 + 219 * 0.2 + 1))
    assert str(found) == "240 of 1,040 decided, 21 changed; about 4 wrong in the 800 left"
    # Without a confidence nothing is estimated.
    unsure = replace(sure[0], answer=structs.replace(sure[0].answer, probability=None))
    assert str(progress(unsure, human("b"))) == "1 of 2 decided, 0 changed"
    assert progress(unsure).as_dict()["wrong_left"] is None


@pytest.mark.parametrize("flaw", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("decided", [100, 240])
def test_the_estimate_is_within_a_factor_of_two_after_the_least_certain(flaw, decided):
    """Of a model that is as sure as it should be, or twice or half as wrong as it says."""
    chance = random.Random(7)
    doubts = sorted((chance.random() ** 6 / 2 for _ in range(3000)), reverse=True)
    wrong = [chance.random() < doubt * flaw for doubt in doubts]
    rows = [label(f"{n}", probability=1 - doubt) for n, doubt in enumerate(doubts)]
    for n in range(decided):
        said = human(f"{n}", to="not" if wrong[n] else "alpaca")
        rows[n] = replace(rows[n], people=said.people)
    found = progress(*rows)
    true = sum(wrong[decided:])
    assert true / 2 <= found.wrong_left <= 2 * true


@given(st.lists(st.sampled_from("lnachfu"), max_size=12))
def test_the_estimate_is_sane_from_the_first_decision(kinds):
    made = {
        "l": label("l"),
        "n": label("n", probability=0.3),
        "a": human("a", was="alpaca"),
        "c": human("c", was="not"),
        "h": human("h"),
        "f": failure("f"),
        "u": Row("u"),
    }
    found = progress(*(made[kind] for kind in kinds))
    assert 0 <= found.wrong_left <= found.left
    assert found.decided + found.left == sum(kind not in "fu" for kind in kinds)
    for kind in kinds:
        found.add(made[kind], -1)
    assert str(found) == "0 of 0 decided, 0 changed"


def test_a_random_check_says_how_many_are_right_with_its_interval():
    said = [drawn(human(f"{n}", was="not")) for n in range(59)]
    left = [label("left")] * 9
    assert progress(*left, *said[:20]).check() == "random check: 20 of 29, 0 wrong so far"
    found = progress(*left, *said, drawn(human("wrong", was="alpaca")))
    assert found.check() == "random check: 1 of 60 wrong: 98.3 % right (91.1 to 99.7 %)"
    assert found.as_dict()["checked_right"] == [0.9833, 0.9114, 0.9971]
    assert progress(*left, human("a", was="alpaca")).check() == ""
    # Of another model's labels it says nothing, and all is said once nothing is left.
    other = replace(left[0], answer=structs.replace(left[0].answer, model="another"))
    assert progress(other, *said).check() == ""
    assert progress(*said).check().startswith("random check: 0 of 59 wrong")


def test_the_interval_holds_the_truth_19_times_in_20():
    chance = random.Random(3)
    for true in (0.9, 0.97):
        shares = [sum(chance.random() < true for _ in range(60)) / 60 for _ in range(2000)]
        held = sum(low <= true <= high for low, high in (wilson(share, 60) for share in shares))
        assert 0.92 < held / 2000 < 0.99

"""The review's server side: lists, decisions and their undoing, and who may ask for what."""

from __future__ import annotations

import json
import os
from datetime import timedelta

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.main import main
from alpaca_labeler.review import server as server_module
from alpaca_labeler.review.index import Query, folded
from alpaca_labeler.review.photos import PhotoError, Photos
from alpaca_labeler.review.session import Outdated, Session
from alpaca_labeler.table import manifest_row
from alpaca_labeler.table.corrections import Corrections, CorrectionsError, Label, decision
from alpaca_labeler.table.table import open_corrections, open_table
from tests.support.reviews import (
    NOON,
    draw,
    failure,
    labels,
    row,
    said,
    session,
    tile_of,
    tiles,
    write,
)
from tests.support.runs import interrupt, start


def names(found, **query):
    return [tile["ref"] for tile in tiles(found, **query)]


def unmeasured(_row):
    """Nothing that could not be labelled is decided in these tests, or it can be seen."""
    return 80, 60


def decide(found, index, *searches):
    """Have the page that knows all decisions so far say that photos are of a class."""
    wanted = {tile_of(found, each)["id"]: index for each in searches}
    return found.decide(found.generation, found.state(0)["since"], wanted, unmeasured)


# --- lists ---------------------------------------------------------------------------------------


def test_the_least_certain_come_first_and_failures_last(folder):
    assert names(session(folder)) == [
        "b/cat.png",
        "a/Köter.png",
        "cat2.png",
        "a/dog.png",
        "broken.jpg",
        "late.png",
    ]


LISTS = """
sort=certain: a/dog.png cat2.png a/Köter.png b/cat.png broken.jpg late.png
sort=name: broken.jpg cat2.png late.png a/dog.png a/Köter.png b/cat.png
show=review: b/cat.png
sort=name&folder=a/: a/dog.png a/Köter.png
sort=name&label=cat: cat2.png b/cat.png
sort=name&show=failed: broken.jpg late.png
model=2-b: cat2.png
sort=name&folder=./: broken.jpg cat2.png late.png
sort=name&search=CAT: cat2.png b/cat.png
search=kÖTER: a/Köter.png
search=Ko\u0308ter: a/Köter.png
search=pngb:
search=%:
label=no such label:
label=' OR 1 --:
show=changed:
"""


@pytest.mark.parametrize("line", LISTS.strip().splitlines())
def test_a_list_has_what_was_asked_for_in_that_order(folder, line):
    query, _, found = line.partition(":")
    wanted = dict(each.split("=") for each in query.split("&"))
    assert names(session(folder), **wanted) == found.split()


def test_a_page_begins_with_what_there_is_to_choose_from_and_what_is_decided_of_each(folder):
    found = session(folder)
    decide(found, 0, "dog")
    begun = found.start()
    assert begun["classes"] == ["cat", "dog"]
    assert [(each["text"], each["photos"]) for each in begun["labels"]] == [("cat", 3), ("dog", 1)]
    assert [each["value"] for each in begun["models"]] == ["1-a", "2-b"]
    progress = [(each["text"], each["decided"], each["photos"]) for each in begun["folders"]]
    assert progress == [("./", 0, 1), ("a/", 1, 2), ("b/", 0, 1)]


@given(
    st.lists(st.text(alphabet="abÄ\x00é %_", min_size=1), min_size=1, unique=True),
    st.text("abÄ%_", min_size=1, max_size=2),
)
def test_search_finds_what_a_plain_search_finds(tmp_path_factory, found, wanted):
    folder = tmp_path_factory.mktemp("m")
    write(folder, *map(row, found), row("cat", -1.0))
    hits = {name for name in (*found, "cat") if folded(wanted) in folded(name)}
    assert set(names(session(folder), search=wanted)) == hits


# --- rows that may hold anything -----------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["pet", "pet-metadata", "labeler", "failure", "-metadata", "labeler-metadata", "other"]
)
FACTS = st.dictionaries(
    st.sampled_from(
        "class-name confidence creation-date human-annotated probability threshold model-version "
        "size etag needs-review code message width annotator model-class-name".split()
    ),
    JSON,
)


@pytest.mark.slow
@given(st.lists(st.dictionaries(KEYS, JSON | FACTS), min_size=1, max_size=5))
def test_no_row_that_json_can_hold_is_too_strange(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("m")
    strange = [{"source-ref": f"s{number}", **each} for number, each in enumerate(rows)]
    (folder / "manifest.jsonl").write_bytes(
        b"".join(map(manifest_row.encode, [row("a", -1.0), row("b"), *strange]))
    )
    found = session(folder)
    for sort in ("doubt", "certain", "name"):
        assert len(names(found, sort=sort)) == len(rows) + 2
    for number in range(len(rows) + 2):
        assert found.facts(1, number)
        found.decide(1, 10**6, {number: 1}, unmeasured)
    assert json.dumps(tiles(found))
    assert set(found.select(Query())["status"]) <= {"1", "2"}
    assert set(labels(folder).values()) == {"dog"}


def test_what_steers_a_terminal_or_a_reader_is_shown_as_what_it_is(folder):
    write(folder, row("\x1b[31m\u202egpj.exe\n<b>"), row("x", -1.0))
    assert tile_of(session(folder), "gpj")["name"] == "\\x1b[31m\\u202egpj.exe\\n<b>"


def test_long_texts_are_cut(folder):
    write(folder, {**row("y"), "pet-metadata": {"class-name": "d" * 10**5}}, row("x"), row("z", -1))
    found = session(folder)
    assert all(len(line) < 2100 for line in found.facts(1, tile_of(found, "y")["id"]).splitlines())


# --- tables --------------------------------------------------------------------------------------


def test_a_manifest_that_changes_is_said_to_have_and_is_read_again_when_asked(folder):
    found = session(folder)
    decide(found, 0, "dog")
    assert not found.state(0)["stale"]  # a decision is no change
    (folder / "new").mkdir()
    os.replace(
        write(folder / "new", row("new.png"), row("cat2.png", -3.0)), folder / "manifest.jsonl"
    )
    (folder / "failures.jsonl").unlink()
    assert found.state(0)["stale"]
    assert len(tiles(found)) == 6  # the table as it was read
    found.reload()
    with pytest.raises(Outdated):
        found.tiles(1, [0])
    with pytest.raises(Outdated):
        found.decide(1, 0, {0: 1}, unmeasured)
    assert names(found, sort="name") == ["cat2.png", "new.png"]
    assert not found.state(0)["stale"]


def test_a_table_in_a_bucket_is_reviewed_and_corrected_there(aws, tmp_path):
    from alpaca_labeler.table import parts

    aws.create_bucket(Bucket="results")
    parts.write("s3://results/labels/", [row("s3://photos/a.png"), row("s3://photos/b.png", -1.0)])
    parts.write("s3://results/labels/", [failure("s3://photos/c.png")])
    table = open_table("s3://results/labels/")
    found = Session(table, open_corrections(table), {}, "kim")
    assert names(found, sort="name") == [f"s3://photos/{name}.png" for name in "abc"]
    decide(found, 0, "a.png")
    assert {row["source-ref"][-5:]: manifest_row.label(row) for row in table.rows()} == {
        "a.png": "cat",
        "b.png": "cat",
        "c.png": None,
    }
    assert found.undo()["text"] == "a.png is dog again"
    assert manifest_row.label(next(table.rows())) == "dog"
    aws.create_bucket(Bucket="photos")
    draw(tmp_path / "a.png")
    aws.upload_file(str(tmp_path / "a.png"), "photos", "a.png")
    assert Photos(table.place).jpeg({"source-ref": "s3://photos/a.png"}, "tile")
    with pytest.raises(PhotoError, match="no such object"):
        Photos(table.place).jpeg({"source-ref": "s3://photos/b.png"}, "tile")


# --- decisions -----------------------------------------------------------------------------------


def test_decisions_are_written_at_once_and_count_at_once(folder):
    found = session(folder)
    decide(found, 0, "dog", "cat2")
    assert said(folder) == [("a/dog.png", 0, "kim"), ("cat2.png", 0, "kim")]
    assert labels(folder)["a/dog.png"] == "cat"
    assert found.progress() == (1, 1)
    decide(found, 0, "dog", "cat2")
    assert len(said(folder)) == 2  # not written again
    assert names(found, show="confirmed") == ["cat2.png"]
    tile = tile_of(found, "dog")
    assert (tile["label"], tile["was"], tile["wasClass"], tile["who"]) == ("cat", "dog", 1, "kim")
    assert found.facts(1, tile["id"]).startswith("kim, 20")


def test_undo_takes_back_step_by_step_and_earlier_sessions_to_what_the_model_said(folder):
    decide(session(folder), 1, "cat2")
    decide(session(folder, annotator="sam"), 0, "Köter")
    found = session(folder)  # another day
    decide(found, 0, "a/dog", "cat2")
    decide(found, 1, "a/dog")
    found.reload()
    assert found.undo()["text"] == "dog.png is cat again, as kim said"
    assert found.undo()["text"] == "2 photos are as they were before"
    assert tile_of(found, "cat2")["label"] == "dog"
    assert found.undo()["text"] == "cat2.png is cat again"
    assert not found.state(0)["undo"]
    assert found.undo()["ids"] == []
    assert labels(folder)["a/Köter.png"] == "cat"  # what sam said stands
    assert session(folder).progress() == (1, 0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.booleans()), max_size=12))
def test_undoing_all_steps_gives_back_what_the_model_said(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("m")
    write(folder, row("0"), row("1", -1.0), row("2", 3.0), row("3", -3.0))
    before = labels(folder)
    found = session(folder)
    for number, index, back in steps:
        if back:
            found.undo()
        else:
            found.decide(1, 10**6, {number: index, (number + 1) % 4: index}, unmeasured)
    for _ in steps:
        found.undo()
    assert labels(folder) == before
    assert found.progress() == (0, 0)


def test_nobody_takes_back_what_somebody_else_said(folder):
    ours, theirs = session(folder), session(folder, annotator="sam")
    decide(ours, 0, "dog", "cat2")
    decide(theirs, 1, "dog")
    assert ours.undo()["text"] == "cat2.png is cat again"
    assert labels(folder)["a/dog.png"] == "dog"
    decide(ours, 0, "dog")
    assert ours.undo()["text"] == "dog.png is dog again, as sam said"


def test_the_last_decision_counts_even_if_the_clock_was_set_back(folder):
    times = iter([NOON, NOON - timedelta(days=1), NOON])
    found = session(folder, clock=lambda: next(times))
    for index in (0, 1, 0):
        decide(found, index, "dog")
        assert tile_of(found, "dog")["label"] == ["cat", "dog"][index]
        assert labels(folder)["a/dog.png"] == ["cat", "dog"][index]


def test_two_people_learn_of_each_other_and_overwrite_nothing_unseen(folder):
    ours, theirs = session(folder), session(folder, annotator="sam")
    dog, cat = (tile_of(ours, name)["id"] for name in ("dog", "cat2"))
    theirs.decide(1, 0, {dog: 0}, unmeasured)
    # Our page has not seen that yet: it confirms what it shows.
    assert ours.decide(1, 0, {dog: 1, cat: 0}, unmeasured)[0] == 1
    assert labels(folder)["a/dog.png"] == "cat"
    state = ours.state(0)
    assert state["changed"] == [(dog, 2), (cat, 1)]
    assert ours.state(state["since"])["changed"] == []
    assert ours.decide(1, state["since"], {dog: 1}, unmeasured)[0] == 0  # now it has
    assert labels(folder)["a/dog.png"] == "dog"
    assert theirs.state(1)["changed"] == [(dog, 1), (cat, 1)]


def test_what_people_said_before_is_there_at_the_start_and_comes_last(folder):
    decide(session(folder), 0, "b/cat")
    found = session(folder)
    assert names(found)[:4] == ["a/Köter.png", "cat2.png", "a/dog.png", "b/cat.png"]
    assert names(found, show="left", label="cat") == ["cat2.png"]


def test_a_decision_about_another_version_of_the_photo_does_not_count(folder):
    other = row("a/dog.png", size=1)
    Corrections(str(folder / "corrections.jsonl")).add_all(
        [decision(other, Label("pet", 0, "cat"), "kim", NOON)]
    )
    assert tile_of(session(folder), "dog")["status"] == 0


def test_a_persons_row_in_the_manifest_can_be_overruled_and_comes_back(folder):
    person = decision(row("p.png"), Label("pet", 0, "cat"), "sam", NOON)
    write(folder, person, row("q.png"))
    found = session(folder)
    tile = tile_of(found, "p.png")
    assert (tile["label"], tile["was"], tile["who"]) == ("cat", "dog", "sam")
    decide(found, 1, "p.png")
    assert found.undo()["text"] == "p.png is cat again, as sam said"


def test_unknown_classes_and_photos_are_refused(folder):
    found = session(folder)
    for wanted in ({0: 2}, {6: 0}, {-1: 0}):
        with pytest.raises(Outdated):
            found.decide(1, 0, wanted, unmeasured)
    assert said(folder) == []


def test_a_corrections_file_that_cannot_be_written_is_refused_at_the_start(folder):
    (folder / "corrections.jsonl").mkdir()
    with pytest.raises(CorrectionsError, match="corrections"):
        session(folder)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none", "run `alpaca label FOLDER` first"),
        ("empty", "empty.jsonl: no rows"),
        ("notes", "notes.jsonl: line 1: not JSON"),
        ("plain", "no row of it has a label"),
        ("one", "do not name both classes (dog); name them with --labels NO YES"),
    ],
)
def test_what_cannot_be_reviewed_is_said_in_a_sentence(tmp_path, monkeypatch, name, says):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "notes.jsonl").write_text("notes\n")
    (tmp_path / "plain.jsonl").write_text('{"source-ref":"a"}\n')
    write(tmp_path, row("a"), name="one.jsonl")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["review", "--no-browser", f"{name}.jsonl"])
    assert done.exit_code in {1, 2}
    assert says in done.stderr


def test_ctrl_c_ends_it(folder):
    process = start("review", "--no-browser", cwd=folder)
    address = process.stdout.readline()
    assert address.startswith("http://127.0.0.1:")
    out, err = interrupt(process)
    assert (process.returncode, out) == (0, "")
    assert "6 photos" in err
    assert "No photo was decided." in err
    assert "alpaca report" not in err


def test_the_end_says_what_counts_and_what_is_next(folder, monkeypatch):
    def decides(server):
        decide(server.session, 0, "cat2")
        raise KeyboardInterrupt

    monkeypatch.setattr(server_module.Server, "serve_forever", decides)
    monkeypatch.chdir(folder)
    words = CliRunner().invoke(main, ["review", "--no-browser"]).stderr
    assert "1 photo decided. In all, people have changed 0 and confirmed 1;" in words
    assert "alpaca report" in words
    assert "apply" not in words

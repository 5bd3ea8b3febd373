"""The review's server side: lists, decisions and their undoing, and who may ask for what."""

from __future__ import annotations

import json

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.main import main
from alpaca_labeler.review import server as server_module
from alpaca_labeler.review.index import Query
from alpaca_labeler.review.photos import PhotoError, Photos
from alpaca_labeler.review.session import Outdated, Session
from alpaca_labeler.table import bucket
from alpaca_labeler.table.log import Log
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.run import Run
from alpaca_labeler.table.table import open_table
from tests.support.reviews import (
    draw,
    failure,
    labels,
    of,
    row,
    said,
    session,
    tile_of,
    tiles,
    write,
)


def names(found, **query):
    return [tile["ref"] for tile in tiles(found, **query)]


def seen(_row):
    """Nothing that could not be labelled is decided in these tests, or it can be seen."""


def append(manifest, *rows):
    """Append what another tool writes."""
    with open(manifest, "ab") as file:
        file.writelines(orjson.dumps(each) + b"\n" for each in rows)


def decide(found, index, *searches):
    """Have the page that knows all decisions so far say that photos are of a class."""
    wanted = {tile_of(found, each)["id"]: index for each in searches}
    return found.decide(found.generation, found.state(0)["since"], wanted, seen)


# --- lists ---------------------------------------------------------------------------------------


LISTS = """
sort=doubt: b/cat.png a/Köter.png cat2.png a/dog.png broken.jpg late.png
sort=name: broken.jpg cat2.png late.png a/dog.png a/Köter.png b/cat.png
show=review: b/cat.png
sort=name&folder=a/: a/dog.png a/Köter.png
sort=name&label=cat: cat2.png b/cat.png
sort=name&show=failed: broken.jpg late.png
sort=name&search=CAT: cat2.png b/cat.png
search=kÖTER: a/Köter.png
search=Ko\u0308ter: a/Köter.png
search=pngb:
label=' OR 1 --:
show=changed:
"""


@pytest.mark.parametrize("line", LISTS.strip().splitlines())
def test_a_list_has_what_was_asked_for_in_that_order(folder, line):
    query, _, found = line.partition(":")
    wanted = dict(each.split("=") for each in query.split("&"))
    assert names(session(folder), **wanted) == found.split()


# --- rows that may hold anything -----------------------------------------------------------------

PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
JSON = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["pet", "pet-metadata", "labeler", "labeler-metadata", "other"])
FACTS = st.dictionaries(
    st.sampled_from(
        "class-name confidence creation-date human-annotated read answer people gone at content "
        "label probability threshold failure code message who sha256:aa needs-review".split()
    ),
    JSON,
)
BLOCKS = st.dictionaries(st.sampled_from(["read", "answer", "people", "gone"]), JSON | FACTS)


@pytest.mark.slow
@given(st.lists(st.dictionaries(KEYS, JSON | FACTS | BLOCKS), min_size=1, max_size=5))
def test_no_row_that_json_can_hold_is_too_strange(tmp_path_factory, strange):
    folder = tmp_path_factory.mktemp("m")
    named = [{**each, "source-ref": f"s{number}"} for number, each in enumerate(strange)]
    append(write(folder, row("a", -1.0), row("b")), *named)
    found = session(folder)
    for sort in ("doubt", "name"):
        count = len(names(found, sort=sort))
    for number in range(count):
        assert found.decide(1, 10**6, {number: 1}, seen)["refused"] == []
    assert json.dumps(tiles(found))
    assert set(found.select(Query())["status"]) <= {"1", "2"}
    assert set(labels(folder).values()) == {"dog"}


def test_what_steers_a_terminal_or_a_reader_is_shown_as_what_it_is_and_cut(folder):
    strange = {"source-ref": "y", "pet": 1, "pet-metadata": {"class-name": "d" * 10**5}}
    append(write(folder, row("\x1b[31m\u202egpj.exe\n<b>"), row("x", -1.0)), strange)
    found = session(folder)
    assert tile_of(found, "gpj")["name"] == "\\x1b[31m\\u202egpj.exe\\n<b>"
    assert len(tile_of(found, "y")["label"]) < 2100


# --- tables --------------------------------------------------------------------------------------


def test_a_manifest_that_a_run_has_settled_is_read_again_and_loses_no_decision(folder):
    found = session(folder)
    decide(found, 0, "dog")
    assert found.generation == 1  # a decision is no change
    with Run(str(folder / "manifest.jsonl")) as run:
        run.load("2-b", "")
        run.append(row("new.png"))
        assert decide(found, 0, "Köter")["unseen"] == 0
        run.settle()
    with pytest.raises(Outdated):  # what the page shows is not what is there now
        found.decide(1, 10**6, {0: 1}, seen)
    assert len(said(folder)) == 2
    assert found.generation == 2
    assert "new.png" in names(found)
    assert found.undo(0)["text"] == "Köter.png is dog again"
    for wanted in ({0: 2}, {99: 0}, {-1: 0}):
        with pytest.raises(Outdated):
            found.decide(2, 10**6, wanted, seen)
    with pytest.raises(Outdated):
        found.tiles(1, [0])
    (folder / "manifest.jsonl").unlink()
    with pytest.raises(OSError, match="No such file"):
        found.decide(2, 10**6, {0: 1}, seen)
    assert not (folder / "manifest.jsonl").exists()


def test_what_a_run_reads_meanwhile_must_be_seen_before_it_is_decided(folder):
    found = session(folder)
    dog = tile_of(found, "dog")
    draw(folder / "a/dog.png", "brown")
    with Log(str(folder / "manifest.jsonl")) as log:
        log.append([of(folder / "a/dog.png", row("a/dog.png", -5.0, minute=1))])
    done = found.decide(1, 0, {dog["id"]: 1}, seen)
    assert (done["unseen"], done["changed"]) == (1, [(dog["id"], 0)])
    now = tile_of(found, "dog")
    assert (dog["label"], now["label"]) == ("dog", "cat")
    assert dog["content"] != now["content"]
    assert said(folder) == []


def test_a_table_in_a_bucket_is_reviewed_as_a_folder_is(aws, tmp_path):
    results, aws_row = (
        "s3://results/labels/",
        lambda name, *given: row(f"s3://photos/{name}", *given),
    )
    for name in ("results", "photos"):
        aws.create_bucket(Bucket=name)
    bucket.write(results, [aws_row("a.png"), aws_row("b.png", -1.0)])
    bucket.write(results, [failure("s3://photos/c.png")])
    table = open_table(results, allowed=["s3://photos/"])
    found, theirs = (Session(table, {}, annotator) for annotator in ("kim", "sam"))
    assert names(found, sort="name") == [f"s3://photos/{name}.png" for name in "abc"]
    decide(found, 0, "a.png")
    assert [row.label for row in table.rows()] == ["cat", "cat", None]
    # Who has not seen that overwrites nothing, and goes on once it is merged into the manifest.
    number = tile_of(found, "a.png")["id"]
    assert theirs.decide(1, 0, {number: 1}, seen)["unseen"] == 1
    bucket.compact(results)
    with pytest.raises(Outdated):
        theirs.decide(1, 1, {number: 1}, seen)
    assert decide(theirs, 1, "a.png")["unseen"] == 0
    assert tile_of(theirs, "a.png")["who"] == "sam"
    decide(found, 0, "a.png")
    assert found.undo(0)["text"] == "a.png is dog again, as sam said"
    draw(tmp_path / "a.png")
    aws.upload_file(str(tmp_path / "a.png"), "photos", "a.png")
    assert Photos(table.shown).jpeg(Row("s3://photos/a.png"), "tile")
    with pytest.raises(PhotoError, match="no such object"):
        Photos(table.shown).jpeg(Row("s3://photos/b.png"), "tile")


# --- decisions -----------------------------------------------------------------------------------


def test_decisions_are_written_at_once_and_count_at_once(folder):
    found = session(folder)
    decide(found, 0, "dog", "cat2")
    assert said(folder) == [("a/dog.png", 0, "kim"), ("cat2.png", 0, "kim")]
    assert labels(folder)["a/dog.png"] == "cat"
    assert found.progress() == (1, 1)
    decide(found, 0, "dog", "cat2")
    assert len((folder / "manifest.jsonl").read_bytes().splitlines()) == 8  # not written again
    assert names(found, show="confirmed") == ["cat2.png"]
    tile = tile_of(found, "dog")
    assert (tile["label"], tile["was"], tile["wasClass"], tile["who"]) == ("cat", "dog", 1, "kim")


def test_undo_reaches_the_annotators_earlier_sessions(folder):
    decide(session(folder), 1, "cat2")
    decide(session(folder, annotator="sam"), 0, "Köter")
    found = session(folder)  # another day
    decide(found, 0, "a/dog", "cat2")
    assert found.undo(0)["text"] == "2 photos are as they were before"
    assert found.undo(0)["text"] == "cat2.png is cat again"
    assert found.undo(0)["ids"] == []
    assert labels(folder)["a/Köter.png"] == "cat"  # what sam said stands


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.booleans()), max_size=12))
def test_undoing_all_steps_gives_back_what_the_model_said(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("m")
    write(folder, row("0"), row("1", -1.0), row("2", 3.0), row("3", -3.0))
    before = labels(folder)
    found = session(folder)
    for number, index, back in steps:
        if back:
            found.undo(0)
        else:
            found.decide(1, 10**6, {number: index, (number + 1) % 4: index}, seen)
    for _ in steps:
        found.undo(0)
    assert labels(folder) == before
    assert found.progress() == (0, 0)


def test_nobody_takes_back_what_somebody_else_said(folder):
    ours, theirs = session(folder), session(folder, annotator="sam")
    decide(ours, 0, "dog", "cat2")
    decide(theirs, 1, "dog")
    assert ours.undo(0)["text"] == "cat2.png is cat again"
    assert labels(folder)["a/dog.png"] == "dog"
    decide(ours, 0, "dog")
    assert ours.undo(0)["text"] == "dog.png is dog again, as sam said"


REFUSED = {
    "none": "`alpaca label FOLDER` writes one",
    "empty": "empty.jsonl: no rows",
    "notes": "notes.jsonl: line 1: not JSON",
    "plain": "no row of it has a label",
    "one": "do not name both classes (dog); name them with --labels NO YES",
}


def test_what_cannot_be_reviewed_is_said_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "notes.jsonl").write_text("notes\n")
    (tmp_path / "plain.jsonl").write_text('{"source-ref":"a"}\n')
    write(tmp_path, row("a"), name="one.jsonl")
    monkeypatch.chdir(tmp_path)
    for name, says in REFUSED.items():
        done = CliRunner().invoke(main, ["review", "--no-browser", f"{name}.jsonl"])
        assert done.exit_code in {1, 2}
        assert says in done.stderr


def test_the_end_says_what_stands_in_all_and_what_is_next(folder, monkeypatch):
    def decides(server):
        if not said(folder):
            decide(server.session, 0, "cat2")
        raise KeyboardInterrupt

    monkeypatch.setattr(server_module.Server, "serve_forever", decides)
    monkeypatch.chdir(folder)
    for made in ("1 photo decided", "No photo was decided"):
        words = CliRunner().invoke(main, ["review", "--no-browser"]).stderr
        assert f"{made} in this session. In all, people have changed 0 and confirmed 1;" in words
        assert "alpaca report" in words

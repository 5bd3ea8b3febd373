"""The review's server side: lists, decisions and their undoing, and who may ask for what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from alpaca_labeler.main import main
from alpaca_labeler.review import server as server_module
from alpaca_labeler.review.index import Query
from alpaca_labeler.review.photos import PhotoError, Photos
from alpaca_labeler.review.session import Outdated, Session
from alpaca_labeler.table import bucket
from alpaca_labeler.table.facts import timestamp
from alpaca_labeler.table.log import Log
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.run import Run
from alpaca_labeler.table.table import open_table
from tests.support.reviews import draw, labels, of, row, said, session, tile_of, tiles, write


def names(found, **query):
    return [tile["ref"] for tile in tiles(found, **query)]


def decide(found, index, *searches):
    """Have the page that knows all decisions so far say that photos are of a class."""
    wanted = {tile_of(found, each)["id"]: index for each in searches}
    return found.decide(found.generation, found.select(Query())["since"], wanted)


def undone(found):
    """Take back a step; return what its photos are again."""
    again = found.tiles(found.generation, found.undo(0)["ids"])
    return [(tile["ref"], tile["label"], tile["who"]) for tile in again]


LISTS = """
show=all: b/cat.png a/Köter.png cat2.png a/dog.png
show=review: b/cat.png
search=a/: a/Köter.png a/dog.png
label=0: b/cat.png cat2.png
search=CAT: b/cat.png cat2.png
search=kÖTER: a/Köter.png
search=Ko\u0308ter: a/Köter.png
search=pngb:
search=' OR 1 --:
label=1&show=left: a/Köter.png a/dog.png
show=changed:
"""


@pytest.mark.parametrize("line", LISTS.strip().splitlines())
def test_a_list_has_what_was_asked_for_in_that_order(folder, line):
    query, _, found = line.partition(":")
    wanted = dict(each.split("=") for each in query.split("&"))
    assert names(session(folder), **wanted) == found.split()


def test_what_steers_a_terminal_or_a_reader_is_shown_as_what_it_is_and_cut(folder):
    strange = {"source-ref": "y", "pet": 1, "pet-metadata": {"class-name": "d" * 10**5}}
    manifest = write(folder, row("\x1b[31m\u202egpj.exe\n<b>"), row("x", -1.0))
    manifest.write_bytes(manifest.read_bytes() + msgspec.json.encode(strange))
    found = session(folder)
    assert tile_of(found, "gpj")["name"] == "\\x1b[31m\\u202egpj.exe\\n<b>"
    assert len(tile_of(found, "y")["label"]) < 2100


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
        found.decide(1, 10**6, {0: 1})
    assert len(said(folder)) == 2
    assert found.generation == 2
    assert "new.png" in names(found)
    assert undone(found) == [("a/Köter.png", "dog", "")]
    for wanted in ({0: 2}, {99: 0}, {-1: 0}):
        with pytest.raises(Outdated):
            found.decide(2, 10**6, wanted)
    with pytest.raises(Outdated):
        found.tiles(1, [0])
    (folder / "manifest.jsonl").unlink()
    with pytest.raises(OSError, match="No such file"):
        found.decide(2, 10**6, {0: 1})
    assert not (folder / "manifest.jsonl").exists()


def test_what_a_run_reads_meanwhile_must_be_seen_before_it_is_decided(folder):
    found = session(folder)
    dog = tile_of(found, "dog")
    draw(folder / "a/dog.png", "brown")
    with Log(str(folder / "manifest.jsonl")) as log:
        log.append([of(folder / "a/dog.png", row("a/dog.png", -5.0, minute=1))])
    done = found.decide(1, 0, {dog["id"]: 1})
    assert (done["unseen"], done["changed"]) == (1, [(dog["id"], 0)])
    now = tile_of(found, "dog")
    assert (dog["label"], now["label"]) == ("dog", "cat")
    assert dog["content"] != now["content"]
    assert said(folder) == []


def test_a_table_in_a_bucket_is_reviewed_as_a_folder_is(aws, tmp_path):
    results = "s3://results/labels/"
    for name in ("results", "photos"):
        aws.create_bucket(Bucket=name)
    bucket.write(results, [row("s3://photos/a.png"), row("s3://photos/b.png", -1.0)])
    table = open_table(results, allowed=["s3://photos/"])
    found, theirs = (Session(table, {}, annotator) for annotator in ("kim", "sam"))
    assert names(found)[::-1] == [f"s3://photos/{name}.png" for name in "ab"]
    decide(found, 0, "a.png")
    assert [row.label for row in table.rows()] == ["cat", "cat"]
    # Who has not seen that overwrites nothing, and goes on once it is merged into the manifest.
    number = tile_of(found, "a.png")["id"]
    assert theirs.decide(1, 0, {number: 1})["unseen"] == 1
    bucket.compact(results)
    with pytest.raises(Outdated):
        theirs.decide(1, 1, {number: 1})
    assert decide(theirs, 1, "a.png")["unseen"] == 0
    assert tile_of(theirs, "a.png")["who"] == "sam"
    decide(found, 0, "a.png")
    assert undone(found) == [("s3://photos/a.png", "dog", "sam")]
    draw(tmp_path / "a.png")
    aws.upload_file(str(tmp_path / "a.png"), "photos", "a.png")
    assert Photos(table.shown).jpeg(Row("s3://photos/a.png"), "tile")
    with pytest.raises(PhotoError, match="no such object"):
        Photos(table.shown).jpeg(Row("s3://photos/b.png"), "tile")


def test_decisions_are_written_at_once_and_count_at_once(folder):
    found = session(folder)
    decide(found, 0, "dog", "cat2")
    assert said(folder) == [("a/dog.png", 0, "kim"), ("cat2.png", 0, "kim")]
    assert labels(folder)["a/dog.png"] == "cat"
    assert str(found.index.progress).startswith("2 of 4 decided, 1 changed; ")
    decide(found, 0, "dog", "cat2")
    assert len((folder / "manifest.jsonl").read_bytes().splitlines()) == 7  # not written again
    assert names(found, show="confirmed") == ["cat2.png"]
    tile = tile_of(found, "dog")
    assert (tile["label"], tile["class"], tile["was"], tile["who"]) == ("cat", 0, "dog", "kim")


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
            found.decide(1, 10**6, {number: index, (number + 1) % 4: index}, check=number == 0)
    for _ in steps:
        found.undo(0)
    assert labels(folder) == before
    fresh = session(folder).index.progress
    assert str(found.index.progress) == str(fresh)
    assert (fresh.decided, fresh.checked, found.index.progress.checked) == (0, 0, 0)


def test_nobody_takes_back_what_somebody_else_said(folder):
    ours, theirs = session(folder), session(folder, annotator="sam")
    decide(ours, 0, "dog", "cat2")
    decide(theirs, 1, "dog")
    assert undone(ours) == [("cat2.png", "cat", "")]
    assert labels(folder)["a/dog.png"] == "dog"
    decide(ours, 0, "dog")
    assert undone(ours) == [("a/dog.png", "dog", "sam")]


REFUSED = {
    "none": "`alpaca label FOLDER` writes one",
    "empty": "empty.jsonl: no rows",
    "notes": "notes.jsonl: line 1: not JSON",
    "plain": "do not name both classes (none)",
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
    for _ in range(2):
        words = CliRunner().invoke(main, ["review", "--no-browser"]).stderr
        assert "\n1 of 4 decided, 0 changed; fewer than 1 wrong in the 3 left.\n" in words
        assert "alpaca report" in words


def many(folder, count=300):
    """A table of which the model is sure, and doubts a third."""
    rows = [row(f"{number:03}.png", 0.3 if number % 3 == 0 else 4.0) for number in range(count)]
    write(folder, *rows)
    return session(folder, classes={0: "cat"})


def check(found, ids, index):
    return found.decide(found.generation, 10**9, dict.fromkeys(ids, index), check=True)


def of_another_model(row):
    """The same answer, given later."""
    read = structs.replace(row.read, at=timestamp(datetime.now(UTC)))
    return replace(row, read=read, answer=structs.replace(row.answer, model="another"))


def test_check_60_at_random_is_drawn_once_from_what_is_undecided_and_resumed(tmp_path):
    found = many(tmp_path)
    doubted = found.select(Query())["ids"][:100]
    found.decide(1, 0, dict.fromkeys(doubted, 1))
    drawn = found.select(Query(show="random"))["ids"]
    assert len(drawn) == 60
    assert not {*drawn} & {*doubted}
    assert drawn != sorted(drawn)  # not by name
    check(found, drawn[:20], 1)
    later = session(tmp_path, annotator="sam", classes={0: "cat"})  # another day, another person
    progress = later.index.progress
    assert later.select(Query(show="random"))["ids"] == drawn
    assert progress.check() == "random check: 20 of 60, 0 wrong so far"
    check(later, drawn[20:59], 1)
    check(later, drawn[59:], 0)
    assert later.select(Query(show="random"))["ids"] == drawn
    assert progress.check() == "random check: 1 of 60 wrong: 98.3 % right (91.1 to 99.7 %)"
    later.undo(0)
    later.decide(1, 10**9, {drawn[0]: 0})  # a second thought, elsewhere, is about the same sample
    assert progress.check() == "random check: 59 of 60, 1 wrong so far"
    rows = [row for row in later.table.rows() if row.decision is None]
    later.table.append([of_another_model(row) for row in rows])  # of whose labels it says nothing
    assert later.select(Query(show="random"))["ids"] != drawn
    assert later.index.progress.check() == ""


def test_only_what_was_drawn_counts_as_drawn(tmp_path):
    found = many(tmp_path)
    drawn = found.select(Query(show="random"))["ids"]
    others = [number for number in range(300) if number not in drawn]
    check(found, others[:5], 0)  # a page that shows an earlier draw
    found.decide(1, 10**9, {drawn[0]: 0})  # met by chance, in another list
    assert found.index.progress.check() == ""
    assert found.select(Query(show="random"))["ids"][:59] == drawn[1:]

"""The review's server side: rows as columns, lists, decisions, and who may ask for what."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alpaca_labeler.handler import manifest_row
from alpaca_labeler.handler.bundle import Card
from alpaca_labeler.review import server as server_module
from alpaca_labeler.review.index import Index, folded
from alpaca_labeler.review.photos import LONGEST, PhotoError, Photos
from alpaca_labeler.review.session import Outdated, Query, Refused
from alpaca_labeler.table.corrections import Corrections, CorrectionsError, Label, decision
from tests.support.reviews import CARD, NOON, ask, draw, failure, row, said, served, session, write
from tests.support.runs import alpaca, interrupt, start

NEWER = Card("2-b", *[getattr(CARD, name) for name in Card.__slots__[1:]])


@pytest.fixture
def folder(tmp_path):
    """Six rows: two dogs, two cats, one of them doubtful, and two failures."""
    sizes = {}
    for name in ("a/dog.png", "a/Köter.png", "b/cat.png", "cat2.png", "late.png"):
        draw(tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
    write(
        tmp_path,
        row("a/dog.png", 5.0, size=sizes["a/dog.png"], minute=3),
        row("a/Köter.png", 1.0, size=sizes["a/Köter.png"], minute=1),
        row("b/cat.png", -0.2, size=sizes["b/cat.png"], minute=2),
        row("cat2.png", -3.0, size=sizes["cat2.png"], card=NEWER),
        failure("broken.jpg"),
        failure("late.png", size=sizes["late.png"], code="unreadable"),
    )
    return tmp_path


def names(found, **query):
    view = found.view(Query(**query))
    return [
        tile["folder"] + tile["name"] for tile in found.rows(view["view"], 0, max(1, view["rows"]))
    ]


def number_of(found, name):
    view = found.view(Query(search=name))
    return found.rows(view["view"], 0, 1)[0]["row"]


def tile_of(found, name):
    view = found.view(Query(search=name))
    return found.rows(view["view"], 0, 1)[0]


def correct(found, name, index, size=None):
    return found.correct(found.generation, number_of(found, name), index, size)


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


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"sort": "certain"}, "a/dog.png cat2.png a/Köter.png b/cat.png broken.jpg late.png"),
        ({"sort": "name"}, "a/dog.png a/Köter.png b/cat.png broken.jpg cat2.png late.png"),
        ({"sort": "newest", "people": "left", "kind": "review"}, "b/cat.png"),
        ({"sort": "newest", "folder": "a/"}, "a/dog.png a/Köter.png"),
        ({"sort": "name", "label": "cat"}, "b/cat.png cat2.png"),
        ({"sort": "name", "kind": "failed"}, "broken.jpg late.png"),
        ({"sort": "name", "model": "2-b"}, "cat2.png"),
        ({"sort": "name", "folder": ""}, "broken.jpg cat2.png late.png"),
        ({"sort": "name", "search": "CAT"}, "b/cat.png cat2.png"),
        ({"sort": "name", "search": "kÖTER"}, "a/Köter.png"),
        ({"sort": "name", "search": "Ko\u0308ter"}, "a/Köter.png"),
        ({"sort": "name", "search": "pngb"}, ""),
        ({"label": "no such label"}, ""),
        ({"people": "changed"}, ""),
    ],
)
def test_a_list_holds_what_was_asked_for_in_that_order(folder, query, found):
    assert names(session(folder), **query) == found.split()


def test_a_page_begins_with_what_there_is_to_choose_from(folder):
    begun = session(folder).start()
    assert begun["classes"] == ["cat", "dog"]
    assert [(each["text"], each["rows"]) for each in begun["labels"]] == [("cat", 2), ("dog", 2)]
    assert [each["value"] for each in begun["models"]] == ["1-a", "2-b"]
    assert [each["text"] for each in begun["folders"]] == ["(none)", "a/", "b/"]
    assert (begun["rows"], begun["review"], begun["failed"]) == (6, 1, 2)
    assert begun["annotator"] == "kim"


def test_a_list_stays_as_it_is_while_its_labels_change(folder):
    found = session(folder)
    view = found.view(Query(label="cat", sort="name"))
    correct(found, "cat2", 1)
    tiles = found.rows(view["view"], 0, 10)
    assert [(tile["name"], tile["given"], tile["status"]) for tile in tiles] == [
        ("cat.png", "", "left"),
        ("cat2.png", "dog", "changed"),
    ]
    assert names(found, label="cat") == ["b/cat.png"]
    assert names(found, people="changed") == ["cat2.png"]


def test_only_so_many_lists_are_kept_and_only_so_many_rows_given(folder):
    found = session(folder)
    first = found.view(Query())["view"]
    for _ in range(20):
        found.view(Query())
    with pytest.raises(Outdated):
        found.rows(first, 0, 10)
    assert found.rows(found.view(Query())["view"], 2, 10**9)[0]["name"] == "cat2.png"
    assert found.rows(found.view(Query())["view"], 10**9, 10) == []


@given(
    st.lists(st.text(alphabet="abÄ/.\x00é ", min_size=1), min_size=1, unique=True),
    st.text("abÄ/", min_size=1, max_size=2),
)
def test_search_and_order_are_as_a_plain_search_and_sort_find_them(tmp_path_factory, found, wanted):
    path = write(tmp_path_factory.mktemp("m"), *map(row, found))
    with path.open("rb") as file:
        index = Index([(file, "m")])
    ordered = sorted(found)
    hits = [name for name, hit in zip(ordered, index.search(wanted), strict=True) if hit]
    assert hits == [name for name in ordered if folded(wanted) in folded(name)]
    ranked = sorted(range(len(ordered)), key=lambda number: index.ranks()[number])
    assert [ordered[number] for number in ranked] == sorted(ordered, key=folded)


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
        "size etag needs-review code message width".split()
    ),
    JSON,
)


@given(st.lists(st.dictionaries(KEYS, JSON | FACTS), min_size=1, max_size=5))
def test_no_row_that_json_can_hold_is_too_strange(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("m")
    strange = [{"source-ref": f"s{number}", **each} for number, each in enumerate(rows)]
    (folder / "manifest.jsonl").write_bytes(
        b"".join(map(manifest_row.encode, [row("a", -1.0), row("b"), *strange]))
    )
    found = session(folder)
    assert found.start()["rows"] == len(rows) + 2
    for sort in ("doubt", "certain", "name", "newest"):
        assert len(names(found, sort=sort)) == len(rows) + 2
    for number in range(len(rows) + 2):
        assert all(isinstance(text, str) for pair in found.facts(1, number) for text in pair)
        found.correct(1, number, 1, None)
    view = found.view(Query())
    assert json.dumps(found.rows(view["view"], 0, 10))
    assert view["progress"]["left"] == 0
    assert {name for name, _, _ in said(folder)} | {"b"} >= {each["source-ref"] for each in strange}


def test_what_steers_a_terminal_or_a_reader_is_shown_as_what_it_is(folder):
    write(folder, row("\x1b[31m\u202egpj.exe\n<b>"), row("x", -1.0))
    assert tile_of(session(folder), "gpj")["name"] == "\\x1b[31m\\u202egpj.exe\\n<b>"


def test_long_texts_are_cut(folder):
    write(folder, {**row("y"), "pet-metadata": {"class-name": "d" * 10**5}}, row("x"), row("z", -1))
    found = session(folder)
    assert all(len(text) < 2100 for _, text in found.facts(1, number_of(found, "y")))


# --- manifests -----------------------------------------------------------------------------------


def test_a_manifest_that_a_run_left_unsettled_has_one_row_an_image(tmp_path):
    lines = [row("b"), row("a", -1.0), row("b", -2.0, minute=9), row("c")]
    (tmp_path / "manifest.jsonl").write_bytes(b"".join(map(manifest_row.encode, lines)))
    (tmp_path / "failures.jsonl").write_bytes(manifest_row.encode(failure("c")))
    found = session(tmp_path)
    assert names(found, sort="name") == ["a", "b", "c"]
    assert tile_of(found, "b")["label"] == "cat"


def test_a_line_that_is_being_written_is_left_for_later(folder):
    with (folder / "manifest.jsonl").open("ab") as file:
        file.write(b'{"source-ref":"z')
    assert len(session(folder).index) == 6
    with (folder / "manifest.jsonl").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(manifest_row.ManifestError, match=r"manifest\.jsonl: line 5: not JSON"):
        session(folder)


def test_a_manifest_that_changes_is_said_to_have_and_is_read_again_when_asked(folder):
    found = session(folder)
    view = found.view(Query())
    assert not found.changes(view["view"], 0)["stale"]
    (folder / "new").mkdir()
    os.replace(
        write(folder / "new", row("new.png"), row("cat2.png", -3.0)), folder / "manifest.jsonl"
    )
    (folder / "failures.jsonl").unlink()
    assert found.changes(view["view"], 0)["stale"]
    assert len(found.rows(view["view"], 0, 10)) == 6  # the file as it was opened
    found.reload()
    with pytest.raises(Outdated):
        found.rows(view["view"], 0, 10)
    with pytest.raises(Outdated):
        found.row(view["generation"], 0)
    assert names(found, sort="name") == ["cat2.png", "new.png"]
    assert not found.changes(found.view(Query())["view"], 0)["stale"]


def test_a_manifest_that_is_overwritten_in_place_is_read_again(folder):
    found = session(folder)
    write(folder, row("new.png"), row("cat2.png", -3.0))
    with pytest.raises(Outdated):
        found.rows(found.view(Query())["view"], 0, 10)
    assert names(found, sort="name") == ["broken.jpg", "cat2.png", "late.png", "new.png"]
    (folder / "manifest.jsonl").write_text("notes\n")
    with pytest.raises(manifest_row.ManifestError, match=r"manifest\.jsonl: line 1: not JSON"):
        found.rows(found.view(Query())["view"], 0, 10)


def test_a_table_in_a_bucket_is_merged_on_read(aws, tmp_path):
    from alpaca_labeler.handler import parts

    aws.create_bucket(Bucket="results")
    parts.write("s3://results/labels/", [row("s3://photos/a.png"), row("s3://photos/b.png", -1.0)])
    parts.write("s3://results/labels/", [failure("s3://photos/c.png")])
    source = reviewing_bucket("s3://results/labels/")
    corrections = Corrections(str(tmp_path / "c.jsonl"))
    found = server_module.Session(source, corrections, {}, "kim")
    assert names(found, sort="name") == [f"s3://photos/{name}.png" for name in "abc"]
    aws.create_bucket(Bucket="photos")
    draw(tmp_path / "a.png")
    aws.upload_file(str(tmp_path / "a.png"), "photos", "a.png")
    assert Photos(".").jpeg({"source-ref": "s3://photos/a.png"}, "tile")
    with pytest.raises(PhotoError, match="no such object"):
        Photos(".").jpeg({"source-ref": "s3://photos/b.png"}, "tile")


def reviewing_bucket(results):
    from alpaca_labeler.review.command import _bucket

    return _bucket(results)


# --- decisions -----------------------------------------------------------------------------------


def test_a_decision_is_written_and_counted(folder):
    found = session(folder)
    assert correct(found, "dog", 0)
    assert correct(found, "cat2", 0)
    assert said(folder) == [("a/dog.png", 0, "kim"), ("cat2.png", 0, "kim")]
    assert found.view(Query())["progress"] == {"changed": 1, "confirmed": 1, "left": 4}
    assert names(found, people="confirmed") == ["cat2.png"]
    assert tile_of(found, "dog") | {"given": "cat", "by": "kim"} == tile_of(found, "dog")
    assert ("person: labeler.annotator", "kim") in found.facts(1, number_of(found, "dog"))


def test_the_same_word_again_is_not_written_again(folder):
    found = session(folder)
    correct(found, "dog", 0)
    assert correct(found, "dog", 0) == ""
    assert len(said(folder)) == 1


def test_undo_gives_back_the_word_before(folder):
    found = session(folder)
    correct(found, "dog", 1)
    second = correct(found, "dog", 0)
    assert found.undo(second)
    assert not found.undo(second)
    assert tile_of(found, "dog")["status"] == "confirmed"
    assert found.made == 1


def test_the_last_word_counts_even_when_the_clock_was_set_back(folder):
    times = iter([NOON, NOON - timedelta(days=1), NOON])
    found = session(folder, clock=lambda: next(times))
    for index in (0, 1, 0):
        correct(found, "dog", index)
        assert tile_of(found, "dog")["given"] == ["cat", "dog"][index]
    rows = [json.loads(line) for line in (folder / "corrections.jsonl").read_bytes().splitlines()]
    assert manifest_row.winner([*rows, found.row(1, number_of(found, "dog"))])["pet"] == 0


def test_two_reviews_of_one_manifest_learn_of_each_other(folder):
    ours, theirs = session(folder), session(folder, annotator="sam")
    views = [each.view(Query())["view"] for each in (ours, theirs)]
    identity = correct(ours, "dog", 0)
    correct(theirs, "cat2", 1)
    for found, view in zip((ours, theirs), views, strict=True):
        news = found.changes(view, 0)
        assert {row["name"]: (row["given"], row["by"]) for row in news["rows"]} == {
            "dog.png": ("cat", "kim"),
            "cat2.png": ("dog", "sam"),
        }
        assert found.changes(view, news["since"])["rows"] == []
    ours.undo(identity)
    assert [row["status"] for row in theirs.changes(views[1], news["since"])["rows"]] == ["left"]


def test_what_people_said_before_is_there_at_the_start_and_comes_last(folder):
    correct(session(folder), "b/cat", 0)
    found = session(folder)
    assert names(found)[:4] == ["a/Köter.png", "cat2.png", "a/dog.png", "b/cat.png"]
    assert names(found, people="left", label="cat") == ["cat2.png"]


def test_a_word_about_another_version_of_the_photo_does_not_count(folder):
    other = row("a/dog.png", size=1)
    Corrections(str(folder / "corrections.jsonl")).add_all(
        [decision(other, Label("pet", 0, "cat"), "kim", NOON)]
    )
    assert tile_of(session(folder), "dog")["status"] == "left"


def test_a_persons_row_in_the_manifest_is_confirmed(folder):
    person = decision(row("p.png"), Label("pet", 1, "dog"), "kim", NOON)
    write(folder, person, row("q.png", -1.0))
    assert tile_of(session(folder), "p.png")["status"] == "confirmed"


def test_other_indexes_and_unknown_classes_are_refused(folder):
    found = session(folder)
    with pytest.raises(Refused, match="no such class"):
        correct(found, "dog", 2)
    with pytest.raises(Outdated):
        found.correct(1, 6, 0, None)


def test_a_name_for_a_class_is_never_guessed(tmp_path):
    write(tmp_path, row("a"), failure("b"))
    done = alpaca("review", "--no-browser", cwd=tmp_path)
    assert done.returncode == 1
    assert "do not name both classes (dog); name them with --labels NO YES" in done.stderr
    assert session(tmp_path, classes={0: "cat", 1: "dog"}).start()["classes"] == ["cat", "dog"]


def test_corrections_that_are_none_are_refused(folder):
    done = alpaca("review", "--no-browser", "--corrections", "manifest.jsonl", cwd=folder)
    assert done.returncode == 1
    assert "name another file with --corrections" in done.stderr
    (folder / "corrections.jsonl").mkdir()
    with pytest.raises(CorrectionsError, match="not a regular file"):
        session(folder)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none.jsonl"], "`alpaca label FOLDER` writes one"),
        (["empty.jsonl"], "empty.jsonl: no rows"),
        (["notes.txt"], "notes.txt: line 1: not JSON"),
        (["plain.jsonl"], "no row of it has a label"),
    ],
)
def test_what_cannot_be_reviewed_is_said_in_a_sentence(tmp_path, words, says):
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "notes.txt").write_text("notes\n")
    (tmp_path / "plain.jsonl").write_text('{"source-ref":"a"}\n')
    done = alpaca("review", "--no-browser", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert says in done.stderr


def test_ctrl_c_ends_it_and_says_what_is_next(folder):
    process = start("review", "--no-browser", cwd=folder)
    address = process.stdout.readline()
    assert address.startswith("http://127.0.0.1:")
    out, err = interrupt(process)
    assert (process.returncode, out) == (0, "")
    assert "6 rows" in err
    assert "Nothing was corrected." in err


# --- photos --------------------------------------------------------------------------------------


def test_what_leaves_is_newly_encoded_upright_and_bare(tmp_path):
    picture = Image.new("RGB", (900, 300), "white")
    picture.paste("red", (0, 0, 450, 300))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    exif[0x010E] = "where I live"
    picture.save(tmp_path / "a.jpg", exif=exif, comment=b"my secret")
    data = Photos(str(tmp_path)).jpeg({"source-ref": "a.jpg"}, "tile")
    seen = Image.open(io.BytesIO(data))
    assert seen.size == (round(LONGEST["tile"] / 3), LONGEST["tile"])
    top, bottom = seen.getpixel((70, 10)), seen.getpixel((70, 440))
    assert top[1] < 60
    assert bottom[1] > 200
    assert not seen.getexif()
    assert b"secret" not in data
    assert b"where" not in data


def test_a_photo_that_has_changed_since_is_not_shown(folder):
    found = session(folder)
    draw(folder / "a/dog.png", size=(90, 90))
    with pytest.raises(PhotoError, match="has changed since it was labelled"):
        Photos(str(folder)).jpeg(found.row(1, number_of(found, "dog")), "tile")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/etc/passwd", "not a JPEG"),
        ("../" * 9 + "etc/passwd", "not a JPEG"),
        ("/dev/zero", "not a regular file"),
        ("pipe", "not a regular file"),
        ("a\x00b", "not a file name"),
        ("https://example.org/a.jpg", "no such file"),
        ("s3://", "not of the form"),
        ("gone.jpg", "no such file"),
    ],
)
def test_a_manifest_cannot_have_anything_but_pictures_shown(tmp_path, name, says):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PhotoError, match=says):
        Photos(str(tmp_path)).jpeg({"source-ref": name}, "tile")


def test_pictures_are_kept_within_a_limit(tmp_path):
    for number in range(6):
        draw(tmp_path / f"{number}.png")
    one = len(Photos(str(tmp_path)).jpeg({"source-ref": "0.png"}, "tile"))
    photos = Photos(str(tmp_path), cache_bytes=3 * one)
    for number in range(6):
        photos.jpeg({"source-ref": f"{number}.png"}, "tile")
    for number in range(6):
        (tmp_path / f"{number}.png").unlink()
    kept = []
    for number in range(6):
        try:
            photos.jpeg({"source-ref": f"{number}.png"}, "tile")
        except PhotoError:
            continue
        kept.append(number)
    assert kept == [3, 4, 5]


def test_what_nobody_waits_for_is_not_made(tmp_path):
    draw(tmp_path / "a.png")
    assert Photos(str(tmp_path)).jpeg({"source-ref": "a.png"}, "tile", lambda: False) == b""


# --- the server ----------------------------------------------------------------------------------


@pytest.fixture
def server(folder):
    with served(folder) as running:
        yield running


def test_every_answer_forbids_what_the_page_does_not_need(server):
    for name in ("", "page.js", "start", "nothing", "photo?generation=1&row=0&size=tile"):
        _, headers, _ = ask(server, name)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Python" not in headers["Server"]


def test_every_page_is_there_with_its_kind(server):
    kinds = {name: ask(server, name)[1].get_content_type() for name in server.pages}
    assert kinds.pop("") == "text/html"
    assert kinds.pop("page.css") == "text/css"
    assert kinds.pop("icon.svg") == "image/svg+xml"
    assert set(kinds.values()) == {"text/javascript"}
    folder = os.path.join(os.path.dirname(server_module.__file__), "pages")
    assert len(server.pages) == len(os.listdir(folder))


@pytest.mark.parametrize("token", ["", "x", "%C3%BC", "%00", "a" * 5000, ".."])
@pytest.mark.parametrize("name", ["", "start", "page.js", "photo?generation=1&row=0&size=tile"])
def test_without_the_token_there_is_nothing(server, token, name):
    assert ask(server, name, token=token)[0] == 404


def test_a_token_is_long_and_new_each_time(folder):
    with served(folder) as one, served(folder) as other:
        assert len(one.token) >= 32
        assert one.token != other.token
        assert ask(one, "", token=other.token)[0] == 404


@pytest.mark.parametrize("host", [None, "", "example.org", "127.0.0.1", "127.0.0.1:1", "[::1]:80"])
def test_another_host_is_nobody_here(server, host):
    assert ask(server, "start", Host=host)[0] == 403
    assert ask(server, "correct", {}, Host=host)[0] == 403


def test_localhost_is_this_host_too(server):
    assert ask(server, "start", Host=f"localhost:{server.server_port}")[0] == 200


def test_the_server_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "name",
    [
        "../server.py",
        "..%2fserver.py",
        "%2e%2e/server.py",
        "pages/page.js",
        "/etc/passwd",
        "page.js/",
        "page.js%00.css",
        "index.html",
        "./page.js",
        "photo/../../x",
    ],
)
def test_no_path_leads_anywhere(server, name):
    assert ask(server, name)[0] == 404


@pytest.mark.parametrize(
    "name",
    [
        "photo?generation=1&row=-1&size=tile",
        "photo?generation=1&row=0&size=full",
        "photo?generation=1&row=0",
        "photo?generation=1&row=/etc/passwd&size=tile",
        "photo?generation=1&row=9999999999999&size=tile",
        "photo?generation=1&row=%C2%B2&size=tile",
        "rows",
        "rows?view=1&offset=x&limit=1",
        "view?sort=random",
        "view?people=x",
        "view?search=" + "x" * 501,
        "view?search=%ff",
        "facts?row=0",
        "view?" + "&".join(f"a{n}=1" for n in range(30)),
    ],
)
def test_questions_that_are_none_are_refused(server, name):
    assert ask(server, name)[0] == 400


@pytest.mark.parametrize(
    "name",
    [
        "photo?generation=1&row=6&size=tile",
        "photo?generation=7&row=0&size=tile",
        "rows?view=99&offset=0&limit=1",
        "changes?view=99&since=0",
    ],
)
def test_questions_about_what_is_gone_are_told_so(server, name):
    assert ask(server, name)[0] == 409


def test_photos_are_by_number_of_this_manifests_rows(server):
    status, headers, body = ask(server, "photo?generation=1&row=0&size=large")
    assert (status, headers.get_content_type()) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(body)).size == (80, 60)
    found = number_of(server.session, "broken")
    status, headers, body = ask(server, f"photo?generation=1&row={found}&size=tile")
    assert (status, headers.get_content_type()) == (200, "application/json")
    assert "no such file" in body["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": None}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": "https://127.0.0.1:80"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content_Length": "-5"}, 411),
        ({"Content_Length": "1e3"}, 411),
        ({"Content_Length": "5000"}, 413),
        ({"Transfer_Encoding": "chunked"}, 411),
    ],
)
def test_only_the_page_itself_writes(server, folder, headers, status):
    body = {"generation": 1, "row": 0, "class": 0}
    assert ask(server, "correct", body, **headers)[0] == status
    assert ask(server, "undo", {"id": "x"}, **headers)[0] == status
    assert said(folder) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_nothing_but_post_writes(server, folder, method):
    assert ask(server, "correct", {"generation": 1, "row": 0, "class": 0}, method=method)[0] >= 400
    assert said(folder) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b'{"generation":1,"row":true,"class":0}',
        b"\xff",
        b'{"generation":1,"row":0.5,"class":0}',
        b'{"generation":1,"row":"x","class":0}',
        b'{"generation":1,"row":0,"class":-1}',
        b'{"generation":1,"row":0}',
        b"[" * 4000,
    ],
)
def test_bodies_that_are_none_are_refused(server, folder, body):
    assert ask(server, "correct", body)[0] == 400
    assert said(folder) == []


def test_a_decision_and_its_undoing_over_http(server, folder):
    body = {"generation": 1, "row": number_of(server.session, "dog"), "class": 0}
    status, _, answer = ask(server, "correct", body)
    assert status == 200
    assert said(folder) == [("a/dog.png", 0, "kim")]
    assert ask(server, "undo", {"id": answer["id"]})[2] == {"undone": True}
    assert ask(server, "undo", {"id": answer["id"]})[2] == {"undone": False}
    assert ask(server, "undo", {"id": ["x"]})[2] == {"undone": False}
    assert said(folder) == []
    assert ask(server, "reload", {})[0] == 200
    assert ask(server, "correct", body)[0] == 409


def test_a_failure_is_judged_only_where_its_photo_can_be_seen(server, folder):
    late = {"generation": 1, "row": number_of(server.session, "late"), "class": 1}
    gone = {"generation": 1, "row": number_of(server.session, "broken"), "class": 1}
    assert ask(server, "correct", gone)[0] == 422
    assert ask(server, "correct", late)[0] == 200
    [line] = (folder / "corrections.jsonl").read_bytes().splitlines()
    assert json.loads(line)["labeler"] | {"width": 80, "height": 60} == json.loads(line)["labeler"]


def test_a_file_that_cannot_be_written_is_said_to_be(server, monkeypatch):
    def fails(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alpaca_labeler.table.jsonl.write", fails)
    body = {"generation": 1, "row": 0, "class": 0}
    status, _, answer = ask(server, "correct", body)
    assert status == 507
    assert "corrections.jsonl: No space left on device" in answer["error"]
    assert server.session.view(Query())["progress"]["left"] == 6


@pytest.mark.parametrize(
    "request_line",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"NONSENSE / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET " + b"/" * 70000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00" + b"\n",
        b"GET http://example.org/ HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_request_gets_no_traceback(server, request_line, capfd):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as client:
        client.sendall(request_line)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert b"html" not in answer.lower()
    assert ask(server, "start")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_browser_that_hangs_up_costs_nothing(server, capfd):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as client:
            client.sendall(
                f"GET /{server.token}/photo?generation=1&row=0&size=large HTTP/1.1\r\n"
                f"Host: 127.0.0.1:{server.server_port}\r\n\r\n".encode()
            )
    assert ask(server, "start")[0] == 200
    assert capfd.readouterr().err == ""


def test_many_pages_at_once_write_each_decision_once(server, folder):
    chance = random.Random(1)

    def work(seed):
        mine = random.Random(seed)
        for _ in range(15):
            body = {"generation": 1, "row": mine.randrange(4), "class": mine.randrange(2)}
            status, _, answer = ask(server, "correct", body)
            assert status == 200, answer
            if answer["id"] and mine.random() < 0.3:
                assert ask(server, "undo", {"id": answer["id"]})[2]["undone"]

    threads = [threading.Thread(target=work, args=(chance.random(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = {
        tile["row"]: tile
        for tile in server.session.rows(server.session.view(Query())["view"], 0, 9)
    }
    reread = session(folder)
    for tile in reread.rows(reread.view(Query())["view"], 0, 9):
        assert now[tile["row"]] == tile

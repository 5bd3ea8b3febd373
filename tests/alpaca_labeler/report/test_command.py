"""`alpaca report`: true figures, in flat memory, on a page that anybody can open."""

from __future__ import annotations

import json
import os
import re
import webbrowser
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alpaca_labeler import storage
from alpaca_labeler.main import main
from alpaca_labeler.report.manifest_page import SHOWN_FOLDERS, render
from alpaca_labeler.table import bucket
from alpaca_labeler.table.counts import Counts
from alpaca_labeler.table.facts import Answer, Decision, Failure, Read
from alpaca_labeler.table.row import Row
from tests.support.browser import NARROW, WIDE, is_too_wide, violations
from tests.support.pages import Page

HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;\u202e\n.jpg"
MODEL = "20260101T000000Z-abc"
MOMENT = "2026-01-31T12:00:00.000000Z"


def row(name, probability=0.9, *, review=False, label="", model=MODEL):
    index = int(probability >= 0.5)
    label = label or ("dog", "cat")[index]
    answer = Answer(model, label, index, "pet", probability, 0.5, review)
    return Row(name, Read(MOMENT, f"sha256:{name}"), answer)


def person(name, index=0, was=None):
    said = Decision(MOMENT, "kim", ("dog", "cat")[index], index, "pet")
    labelled = row(name, float(was == "cat"))
    answer = labelled.answer if was else Answer(MODEL)
    return replace(labelled, answer=answer, people={labelled.read.content: said})


def failed(name, code="corrupt", message="it is cut off"):
    return Row(name, Read(MOMENT), Answer(MODEL, failure=Failure(code, message)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, *rows):
    Path(path).write_bytes(b"".join(each.to_line() for each in rows))


def report(*words, code=0):
    done = CliRunner().invoke(main, ["report", *map(str, words)])
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    return done.stderr


def page(path="report.html"):
    return Page(Path(path).read_text())


SOME = [
    row("a.jpg", 0.97),
    row("b.jpg", 0.12),
    row("c.jpg", 0.55, review=True),
    row("d.jpg", 0.4, review=True),
    person("e.jpg", 1),
]


# --- what the page says --------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_the_page_counts_labels_reviews_people_and_failures():
    failures = failed("f.jpg"), failed("g.jpg"), failed("h.jpg", "empty", "no bytes")
    write("manifest.jsonl", *SOME, *failures)
    assert report("--no-photos") == "8 rows -> report.html\n"
    said = CliRunner().invoke(main, ["report", "--no-photos", "--json"]).stdout
    assert json.loads(said) == {"report": "report.html", "rows": 8, "not_shown": 0}
    words = page().words()
    for said in (
        "8 photos",
        "3 cat, 2 dog. 2 need review. 3 could not be labelled.",
        "to correct labels: alpaca review manifest.jsonl",
        "cat 3 60.0 % of the labels",
        "dog 2 40.0 % of the labels",
        "Needs review 2 in",
        "By people 1 0 of them changed",
        "Failed 3 could",
        "corrupt 2 it is cut off f.jpg g.jpg",
        "empty 1 no bytes h.jpg",
        "needs review, 40 % to 55 %",
        "threshold 50 %",
        "Probability of “cat”",
        "from manifest.jsonl",
    ):
        assert said in words, said
    assert "alpaca " not in words.replace("alpaca review", "")


@pytest.mark.usefixtures("folder")
def test_the_least_certain_come_first_and_people_have_decided():
    write("manifest.jsonl", *SOME)
    report("--no-photos")
    words = page().words()
    assert "Label c.jpg cat, 55.0 % d.jpg dog, 60.0 % b.jpg dog, 88.0 %" in words
    assert "Random sample: cat 3 of 3, chosen at random." in words
    assert "e.jpg cat, person" in words


@pytest.mark.usefixtures("folder")
def test_the_same_manifest_gives_the_same_page_but_for_its_date():
    write("manifest.jsonl", *(row(f"{number}.jpg", number % 97 / 97) for number in range(500)))
    pages = []
    for _ in range(2):
        report("--no-photos")
        pages.append(re.sub(r"made <b>[^<]*</b>", "", Path("report.html").read_text()))
    assert pages[0] == pages[1]
    assert "12 of 240, chosen at random" in pages[0]


@pytest.mark.usefixtures("folder")
def test_the_first_line_is_the_estimate_and_not_the_accuracy_on_what_people_decided():
    people = [person(f"{n:02}.jpg", n % 2, was=("dog", "cat")[n % 2 or n < 5]) for n in range(49)]
    write("manifest.jsonl", *people, *(row(f"x{n}.jpg", 0.1) for n in range(50)))
    report("--no-photos")
    words = page().words()
    said = "99 photos 49 of 99 decided, 3 changed; about "
    assert said in words
    assert words.index(said) < words.index("What came out")
    assert " wrong in the 50 left. " in words
    assert "By people 49 3 of them changed" in words
    assert "Accuracy" not in words


@pytest.mark.usefixtures("folder")
def test_photos_are_counted_by_folder():
    many = SHOWN_FOLDERS - 1
    rows = row("/farm/b.jpg", 0.1), row("/farm/north/a.jpg"), failed("/farm/south/1/a.jpg")
    write("manifest.jsonl", *rows)
    report("--no-photos")
    words = page().words()
    assert "All are in /farm." in words
    assert ". 1 0 1 0 0 north 1 1 0 0 0 south/1 1 0 0 1 0" in words
    write("manifest.jsonl", *(row(f"{n:04}/a.jpg") for n in range(many + 8)))
    report("--no-photos")
    words = page().words()
    assert f"{many:04} 1 1 0 0 0 7 more folders 7 7 0 0 0" in words


def test_a_bucket_has_the_same_page(folder, aws):
    rows = [row("s3://photos/a.jpg", 0.7), row("s3://photos/b.jpg", 0.2)]
    rows.append(failed("s3://photos/c.jpg"))
    aws.create_bucket(Bucket="results")
    aws.create_bucket(Bucket="photos")
    aws.put_object(Bucket="photos", Key="a.jpg", Body=jpeg(folder / "x.jpg"))
    bucket.write("s3://results/labels/", rows)
    report("s3://results/labels", "-o", "there.html", "--allow", "s3://photos")
    write("manifest.jsonl", *rows)
    report("-o", "here.html", "--allow", "s3://photos/")
    there, here = (
        re.sub("from .*? What came out", "", page(f"{name}.html").words(), count=1)
        for name in ("there", "here")
    )
    assert there == here
    assert "The photo is no longer there" in there
    assert len(page("there.html").all("img")) == 2  # once in each sheet


@pytest.mark.usefixtures("folder")
def test_an_empty_manifest_has_a_page_too():
    write("manifest.jsonl")
    report()
    assert "0 photos The manifest is empty." in page().words()
    write("manifest.jsonl", failed("a.jpg"))
    report()
    assert "1 photo" in page().words()


# --- photos --------------------------------------------------------------------------------------


def jpeg(path, size=(900, 600), **more):
    Image.new("RGB", size, "teal").save(path, "JPEG", **more)
    return path.read_bytes()


def test_photos_are_found_below_their_root_and_shown_whole_and_upright(folder, tmp_path_factory):
    (folder / "photos/in").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side
    jpeg(folder / "photos/in/a.jpg", exif=exif, comment=b"secret")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "b.jpg"
    jpeg(elsewhere)
    write("manifest.jsonl", row("in/a.jpg", 0.51), row(str(elsewhere)))
    report("--photos-root", "photos", "--allow", elsewhere.parent)
    pictures = page().all("img")
    assert len(pictures) == 4  # each in two sheets
    assert pictures[0]["alt"] == "in/a.jpg: cat"
    import base64
    import io

    data = base64.b64decode(pictures[0]["src"].removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (480, 720)
    assert b"secret" not in data


def test_a_photo_that_cannot_be_shown_has_a_tile_that_says_why(folder):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "dir.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    names = ["gone.jpg", "broken.jpg", "dir.jpg", "\0.jpg", "pipe.jpg"]
    write("manifest.jsonl", *map(row, names))
    assert "10 photos could not be shown" in report()  # in two sheets
    words = page().words()
    assert page().all("img") == []
    assert words.count("The photo is no longer there") == 4
    assert words.count("The photo cannot be read") == 4
    assert words.count("Not shown: not a JPEG") == 2


def test_photos_that_nobody_allowed_are_not_read_and_that_is_said(folder, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(storage, "read", lambda place, _: asked.append(place))
    names = "../b.jpg", "../c.jpg", "/proc/self/environ", "s3://strangers/a.jpg"
    write("manifest.jsonl", *map(row, names))
    said = report()
    assert (asked, page().all("img")) == ([], [])
    assert "8 photos could not be shown; the page says why" in said
    there = folder.parent
    assert f"4 photos left out: to show what is in {there}, say --allow {there}\n" in said
    assert "2 photos left out: to show what is in s3://strangers/, say --allow s3://str" in said
    assert page().words().count("Not shown: it is not beside the manifest") == 8


def test_without_photos_none_is_read(folder):
    jpeg(folder / "a.jpg")
    write("manifest.jsonl", row("a.jpg"))
    report("--no-photos")
    assert "data:image" not in Path("report.html").read_text()
    assert "a.jpg" in page().words()


# --- the file ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_wrong_usage_is_said_in_a_sentence():
    assert "`alpaca label FOLDER` writes one" in report(code=2)
    write("manifest.jsonl", row("a.jpg"))
    before = Path("manifest.jsonl").read_bytes()
    assert "name it .html" in report("-o", "./manifest.jsonl", code=2)
    assert Path("manifest.jsonl").read_bytes() == before
    assert "none/x.html: No such file" in report("-o", "none/x.html", code=1)
    assert "report.pdf: the page is HTML" in report("-o", "report.pdf", code=2)
    assert not os.path.exists("report.pdf")


@pytest.mark.usefixtures("folder")
def test_open_shows_the_page_in_the_browser(monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    write("manifest.jsonl", row("a.jpg"))
    report("-o", "ü #1.htm")
    assert opened == []
    report("-o", "ü #1.htm", "--open")
    assert opened == [Path("ü #1.htm").absolute().as_uri()]


# --- hostile rows --------------------------------------------------------------------------------


@pytest.fixture
def hostile(folder, request):
    """A report of rows that do their worst."""
    jpeg(folder / "a.jpg")
    odd = row(HOSTILE, 0.5, review=True, label=HOSTILE, model=HOSTILE)
    long = row("deep/" * 200 + ".jpg", 0.49, review=True)
    bad = failed(f"{HOSTILE} 2", HOSTILE, HOSTILE), failed("x", "7", "")
    write(
        "manifest.jsonl", odd, long, row("old.jpg"), row("new.jpg"), row("a.jpg"), *SOME[1:], *bad
    )
    report(*getattr(request, "param", ()))
    return folder / "report.html"


def test_hostile_names_stay_text(hostile):
    found = page(hostile)
    assert found.all("script") == []
    assert all(attrs["src"].startswith("data:image/jpeg;") for attrs in found.all("img"))
    assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on")]
    assert "<img src=x onerror=alert(1)>" in found.words()
    assert "\u202e" not in hostile.read_text()
    [policy] = [each["content"] for each in found.all("meta") if "http-equiv" in each]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.mark.parametrize(
    ("width", "dark"), [(WIDE, False), (768, True), (NARROW, False), (NARROW, True)]
)
def test_the_page_is_whole_and_accessible_in_a_browser(pages, hostile, width, dark):
    opened = pages(width, dark=dark)
    opened.goto(f"file://{hostile}")
    assert violations(opened) == []
    assert not is_too_wide(opened)
    sizes = opened.evaluate("[...document.images].map(each => each.naturalWidth)")
    assert sizes == [720] * 2  # one photo, in two sheets
    assert opened.locator("h2").all_inner_texts() == [
        "What came out",
        "How certain the model is",
        "Photos by folder",
        "Least certain",
        "Random sample: cat",
        "Random sample: dog",
        "What failed, and why",
    ]
    assert opened.locator(".photo p").evaluate_all(
        "all => all.every(each => each.className == 'gone' || each.clientHeight < 30)"
    )


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_a_photo_opens_large_and_closes_again_by_keyboard_alone(pages, folder, width):
    jpeg(folder / "a.jpg")
    jpeg(folder / "b.jpg")
    write("manifest.jsonl", row("a.jpg", 0.6), row("b.jpg", 0.7), row("gone.jpg", 0.8))
    report()
    opened = pages(width)
    opened.goto(f"file://{folder / 'report.html'}")

    def shown():
        return opened.locator("img").evaluate_all(
            "all => all.filter(each => each.clientWidth > innerWidth / 2).map(each => each.alt)"
        )

    assert shown() == []
    opened.locator("a:has(img)").first.focus()
    opened.keyboard.press("Enter")
    assert shown() == ["a.jpg: cat"]
    assert violations(opened) == []
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")  # next
    assert shown() == ["b.jpg: cat"]
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")  # close
    assert shown() == []
    opened.goto(f"file://{folder / 'report.html'}#least-3")
    assert opened.get_by_text("no longer there").first.is_visible()
    opened.keyboard.press("Tab")
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")  # previous
    assert shown() == ["b.jpg: cat"]
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")  # close
    assert shown() == []
    assert (
        opened.locator(":target").evaluate("each => each.querySelector('img').alt") == "b.jpg: cat"
    )


@pytest.mark.parametrize("hostile", [["--no-photos"]], indirect=True)
def test_a_page_without_photos_is_accessible_and_has_no_image(pages, hostile):
    opened = pages(NARROW)
    opened.goto(f"file://{hostile}")
    assert violations(opened) == []
    assert not is_too_wide(opened)
    assert opened.locator("img").count() == 0


texts = st.text(max_size=3)
shares = st.none() | st.floats(0, 1)
failures = st.none() | st.builds(Failure, texts, texts, texts)
reads = st.builds(Read, texts, st.just("sha256:aa"))
answers = st.builds(
    Answer,
    texts,
    st.none() | texts,
    st.integers(0, 9),
    texts,
    shares,
    shares,
    st.booleans(),
    failures,
)
decisions = st.builds(Decision, texts, texts, st.none() | texts, st.none() | st.integers(0, 9))
ANY_ROW = st.builds(
    Row,
    st.text(),
    st.none() | reads,
    st.none() | answers,
    st.dictionaries(st.just("sha256:aa"), decisions, max_size=1),
)


@given(st.lists(ANY_ROW, max_size=6))
def test_any_rows_have_a_page(rows):
    counts = Counts(3, 3)
    for each in rows:
        counts.add(each)
    assert counts.labels.total() + counts.failed + counts.unlabelled == len(rows) == counts.rows
    sheets = [(picked, None) for picked in (counts.least_certain(), *counts.sampled())]
    render(counts, "m", datetime(2026, 1, 1), *sheets).encode()  # noqa: DTZ001 - as in a row

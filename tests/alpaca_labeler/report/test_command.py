"""`alpaca report`: true figures, in flat memory, on a page that anybody can open."""

from __future__ import annotations

import base64
import io
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
from msgspec import structs
from PIL import Image

from alpaca_labeler import storage
from alpaca_labeler.main import main
from alpaca_labeler.report.manifest_page import SHOWN_FOLDERS, render
from alpaca_labeler.report.thumbnails import Thumbnail
from alpaca_labeler.table import bucket
from alpaca_labeler.table.counts import Counts
from alpaca_labeler.table.facts import Answer, Decision, Failure, Read
from alpaca_labeler.table.row import Row
from tests.support.browser import NARROW, WIDTHS, violations
from tests.support.pages import Page
from tests.support.rows import STRANGE_LINES

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


@pytest.fixture(autouse=True)
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


def test_the_page_shows_the_least_certain_and_counts_labels_people_and_failures():
    failures = failed("f.jpg"), failed("g.jpg"), failed("h.jpg", "empty", "no bytes")
    some = [*SOME]
    photo = {"width": 4, "height": 3, "taken": "2019-05-23T10:00:00", "camera": "X100"}
    some[1] = replace(some[1], read=structs.replace(some[1].read, **photo))
    write("manifest.jsonl", *some, *failures)
    assert report("--no-photos") == "8 rows -> report.html\n"
    said = CliRunner().invoke(main, ["report", "--no-photos", "--json"]).stdout
    assert json.loads(said) == {"report": "report.html", "rows": 8, "not_shown": 0}
    words = page().words()
    for said in (
        "8 photos",
        "3 cat, 2 dog. 2 need review. 3 could not be labelled.",
        "to correct labels: alpaca review manifest.jsonl",
        "corrupt 2 it is cut off f.jpg g.jpg",
        "empty 1 no bytes h.jpg",
        "needs review, 40 % to 55 % Heights are square roots",
        "1 1 1 1 threshold 50 % 0 % Probability of “cat” 100 %",  # a person's label is no bar
        "from manifest.jsonl",
        "review cat 55.0 % c.jpg review dog 60.0 % d.jpg dog 88.0 % b.jpg 2019-05-23, X100, 4 x 3",
        "Random sample: cat 3 of 3.",
        "cat person e.jpg",
    ):
        assert said in words, said
    assert "alpaca " not in words.replace("alpaca review", "")


def test_a_bar_is_as_high_as_the_root_of_its_sum_and_is_divided_in_proportion():
    other = replace(SOME[0], answer=structs.replace(SOME[0].answer, label="dog", index=0))
    write("manifest.jsonl", *(row(f"{n}.jpg", 0.98) for n in range(3)), other, row("d.jpg", 0.11))
    report("--no-photos")
    heights = [attrs["style"] for attrs in page().all("i") if "height" in attrs["style"]]
    assert heights[4:6] == ["height: 0.0%", "height: 50.0%"]
    assert heights[-2:] == ["height: 75.0%", "height: 25.0%"]
    assert "95 to 100\u00a0%: 3 cat, 1 dog" in [attrs.get("title") for attrs in page().all("div")]


def test_the_same_manifest_gives_the_same_page_but_for_its_date():
    write("manifest.jsonl", *(row(f"{number}.jpg", number % 97 / 97) for number in range(500)))
    pages = []
    for _ in range(2):
        report("--no-photos")
        pages.append(re.sub(r"made <b>[^<]*</b>", "", Path("report.html").read_text()))
    assert pages[0] == pages[1]
    assert '<p class="lead">12 of 240.' in pages[0]


def test_the_first_line_is_the_estimate_and_not_the_accuracy_on_what_people_decided():
    people = [person(f"{n:02}.jpg", n % 2, was=("dog", "cat")[n % 2 or n < 5]) for n in range(49)]
    write("manifest.jsonl", *people, *(row(f"x{n}.jpg", 0.1) for n in range(50)))
    report("--no-photos")
    words = page().words()
    assert "99 photos 49 of 99 decided, 3 changed; about " in words
    assert " wrong in the 50 left. " in words
    assert "Accuracy" not in words


def test_photos_are_counted_by_folder():
    rows = [row("farm/b.jpg", 0.1), person("farm/a.jpg", 0, was="cat"), failed("farm/c/a.jpg")]
    write("manifest.jsonl", *rows, person("a.jpg", 1, was="cat"))
    report("--no-photos")
    assert "Needs review . 1 1 0 0 0 farm 2 0 2 0 0 farm/c 1 0 0 1 0" in page().words()
    write("manifest.jsonl", *(row(f"{n:02}/a.jpg") for n in range(SHOWN_FOLDERS + 7)))
    report("--no-photos")
    assert f"{SHOWN_FOLDERS - 1} 1 1 0 0 0 7 more folders 7 7 0 0 0" in page().words()


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
        re.sub("from .*? Least certain", "", page(f"{name}.html").words(), count=1)
        for name in ("there", "here")
    )
    assert there == here
    assert "The photo is no longer there" in there
    assert len(page("there.html").all("img")) == 2  # once in each sheet


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
    data = base64.b64decode(pictures[0]["src"].removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (480, 720)
    assert b"secret" not in data


def test_a_photo_that_cannot_be_shown_has_a_tile_that_says_why(folder):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "dir.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    names = ["gone.jpg", "broken.jpg", "dir.jpg", "\0.jpg", "pipe.jpg"]
    write("manifest.jsonl", *map(row, names))
    assert "5 photos could not be shown" in report()  # each in two sheets
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
    assert "4 photos could not be shown; the page says why" in said
    there = folder.parent
    assert f"2 photos left out: to show what is in {there}, say --allow {there}\n" in said
    assert "1 photo left out: to show what is in s3://strangers/, say --allow s3://str" in said
    assert page().words().count("Not shown: it is not beside the manifest") == 8


def test_wrong_usage_is_said_in_a_sentence():
    assert "`alpaca label FOLDER` writes one" in report(code=2)
    write("manifest.jsonl", row("a.jpg"))
    before = Path("manifest.jsonl").read_bytes()
    assert "name it .html" in report("-o", "./manifest.jsonl", code=2)
    assert Path("manifest.jsonl").read_bytes() == before
    assert "none/x.html: No such file" in report("-o", "none/x.html", code=1)
    assert "report.pdf: the page is HTML" in report("-o", "report.pdf", code=2)
    assert not os.path.exists("report.pdf")


def test_an_empty_manifest_has_a_page_too_and_open_shows_it_in_the_browser(monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    write("manifest.jsonl")
    report("-o", "ü #1.htm")
    assert "0 photos The manifest is empty." in page("ü #1.htm").words()
    assert opened == []
    report("-o", "ü #1.htm", "--open")
    assert opened == [Path("ü #1.htm").absolute().as_uri()]


@pytest.fixture
def hostile(folder):
    """A report of rows that do their worst."""
    jpeg(folder / "a.jpg")
    odd = row(HOSTILE, 0.5, review=True, label=HOSTILE, model=HOSTILE)
    long = row("deep/" * 200 + ".jpg", 0.49, review=True)
    bad = failed(f"{HOSTILE} 2", HOSTILE, HOSTILE), failed("x", "7", "")
    write("manifest.jsonl", odd, long, *map(row, ("old.jpg", "new.jpg", "a.jpg")), *SOME[1:], *bad)
    report()
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


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_whole_and_accessible_in_a_browser(pages, hostile, width):
    opened = pages(width)
    opened.goto(f"file://{hostile}")
    assert violations(opened) == []
    sizes = opened.evaluate("[...document.images].map(each => each.naturalWidth)")
    assert sizes == [720] * 2  # one photo, in two sheets
    assert opened.locator("h2").all_inner_texts() == [
        "Least certain",
        "How certain the model is",
        "Photos by folder",
        "Random sample: cat",
        "Random sample: dog",
        "What failed, and why",
    ]
    assert opened.locator(".photo p").evaluate_all(
        "all => all.every(each => each.className == 'gone' || each.clientHeight < 50)"
    )
    assert opened.locator(".photo").first.bounding_box()["y"] < 600  # of a screen of 800


def test_a_page_without_photos_is_accessible_and_has_no_image(pages, hostile):
    report("--no-photos")
    opened = pages(NARROW)
    opened.goto(f"file://{hostile}")
    assert violations(opened) == []
    assert opened.locator("img").count() == 0
    assert "data:image" not in hostile.read_text()
    assert opened.get_by_text("a.jpg").count()


@given(st.lists(st.builds(Row.from_line, STRANGE_LINES), max_size=6))
def test_any_rows_have_a_page(rows):
    counts = Counts(3, 3)
    for each in rows:
        counts.add(each)
    assert counts.labels.total() + counts.failed + counts.unlabelled == len(rows) == counts.rows
    picked = counts.least_certain(), *counts.sampled()
    sheets = [(each, [Thumbnail()] * len(each)) for each in picked]
    render(counts, "m", datetime(2026, 1, 1), *sheets).encode()  # noqa: DTZ001 - as in a row

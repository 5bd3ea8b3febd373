"""`alpaca report`: true figures, in flat memory, on a page that anybody can open."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alpaca_labeler.handler import manifest_row, parts
from alpaca_labeler.main import main
from alpaca_labeler.report import counts
from alpaca_labeler.report.counts import MANY, Counts, Sample
from alpaca_labeler.report.times import _MOST_KEYS, MOST_BARS, Times
from tests.support.browser import NARROW, WIDE, is_too_wide, violations

HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;\u202e\n.jpg"
MODEL = "20260101T000000Z-abc"


def row(name, probability=0.9, *, review=False, date="2026-01-31T12:00:00.000000", **labeler):
    index = int(probability >= 0.5)
    return {
        "source-ref": name,
        "pet": index,
        "pet-metadata": {
            "class-name": ("dog", "cat")[index],
            "confidence": max(probability, 1 - probability),
            "type": manifest_row.TASK_TYPE,
            "human-annotated": "no",
            "creation-date": date,
        },
        "labeler": {
            "model-version": MODEL,
            "probability": probability,
            "threshold": 0.5,
            "needs-review": review,
            **labeler,
        },
    }


def person(name, index=0):
    said = row(name, float(index))
    said["pet-metadata"]["human-annotated"] = "yes"
    return {**said, "labeler": {"model-version": MODEL}}


def failed(name, code="corrupt", message="it is cut off"):
    why = {"code": code, "message": message, "creation-date": "2026-01-31T13:00:00.000000"}
    return {"source-ref": name, "failure": why, "labeler": {"model-version": MODEL}}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._in = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag

    def handle_data(self, data):
        if self._in != "style":
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, *rows):
    Path(path).write_text("".join(json.dumps(each) + "\n" for each in rows))


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
    write("manifest.jsonl", *SOME)
    write("failures.jsonl", failed("f.jpg"), failed("g.jpg"), failed("h.jpg", "empty", "no bytes"))
    assert (
        report() == "8 rows -> report.html\n4 photos could not be shown; the page says why\n"
        or ("8 rows -> report.html" in report())
    )
    words = page().words()
    for said in (
        "8 photos",
        "cat 3 60.0 % of the labels",
        "dog 2 40.0 % of the labels",
        "Needs review 2 in",
        "By people 1 labelled",
        "Failed 3 could",
        "corrupt 2 it is cut off",
        "empty 1 no bytes h.jpg",
        f"{MODEL} 5 100.0 %",
        "needs review, 0.4 to 0.55",
        "threshold 0.5",
        "Probability of “cat”",
        "In steps of 5 minutes",
        "from manifest.jsonl",
    ):
        assert said in words, said
    assert "alpaca" not in words


@pytest.mark.usefixtures("folder")
def test_the_least_certain_come_first_and_people_have_decided():
    write("manifest.jsonl", *SOME)
    report("--no-photos", "--least-certain", 3, "--sample", 0)
    words = page().words()
    assert "Photo 0.5500 cat c.jpg 0.6000 dog d.jpg 0.8800 dog b.jpg" in words
    assert "Random sample" not in words
    report("--no-photos", "--least-certain", 0)
    assert "Least certain" not in page().words()
    assert "All labelled photos." in page().words()
    assert "by a person cat e.jpg" in page().words()


@pytest.mark.usefixtures("folder")
def test_the_same_manifest_gives_the_same_page_but_for_its_date():
    write("manifest.jsonl", *(row(f"{number}.jpg", number % 97 / 97) for number in range(500)))
    pages = []
    for _ in range(2):
        report("--no-photos")
        pages.append(re.sub(r"made <b>[^<]*</b>", "", Path("report.html").read_text()))
    assert pages[0] == pages[1]
    assert "24 of the 500 labelled photos, drawn by lot" in pages[0]


def test_a_bucket_has_the_same_page(folder, aws):
    rows = [row("s3://photos/a.jpg", 0.7), row("s3://photos/b.jpg", 0.2)]
    aws.create_bucket(Bucket="results")
    aws.create_bucket(Bucket="photos")
    aws.put_object(Bucket="photos", Key="a.jpg", Body=jpeg(folder / "x.jpg"))
    parts.write("s3://results/labels/", [*rows, failed("s3://photos/c.jpg")])
    report("s3://results/labels", "-o", "there.html")
    write("manifest.jsonl", *rows)
    write("failures.jsonl", failed("s3://photos/c.jpg"))
    report("-o", "here.html")
    there, here = (
        re.sub("from .*? UTC", "", page(f"{name}.html").words(), count=1)
        for name in ("there", "here")
    )
    assert there == here
    assert "The photo is not there any more" in there
    assert len(page("there.html").all("img")) == 2  # once in each sheet
    assert "on this machine" in report("s3://r/l/", "--failures", folder / "x.jpg", code=1)


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


def test_photos_are_found_below_their_root_and_shown_whole_and_upright(folder):
    (folder / "photos/in").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side
    jpeg(folder / "photos/in/a.jpg", exif=exif, comment=b"secret")
    write("manifest.jsonl", row("in/a.jpg", 0.51), row(str(folder / "photos/in/a.jpg")))
    report("--photos-root", "photos", "--sample", 0)
    pictures = page().all("img")
    assert len(pictures) == 2
    assert pictures[0]["alt"] == "in/a.jpg: cat"
    import base64
    import io

    data = base64.b64decode(pictures[0]["src"].removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (213, 320)
    assert b"secret" not in data


def test_a_photo_that_cannot_be_shown_has_a_tile_that_says_why(folder):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "dir.jpg").mkdir()
    names = ["gone.jpg", "broken.jpg", "dir.jpg", "\0.jpg", "file:///gone", "/dev/zero"]
    write("manifest.jsonl", *map(row, names))
    assert "6 photos could not be shown" in report("--sample", 0)
    words = page().words()
    assert page().all("img") == []
    assert words.count("The photo is not there any more") == 3
    assert words.count("The photo is archived, or no regular file") == 2
    assert words.count("Not shown: not a JPEG") == 1


def test_without_photos_none_is_read(folder):
    jpeg(folder / "a.jpg")
    write("manifest.jsonl", row("a.jpg"))
    report("--no-photos")
    assert "data:image" not in Path("report.html").read_text()
    assert "a.jpg" in page().words()


# --- the file ------------------------------------------------------------------------------------


def test_the_page_is_written_whole_or_not_at_all(folder):
    write("manifest.jsonl", row("a.jpg"))
    report()
    before = Path("report.html").read_bytes()
    with open("manifest.jsonl", "a") as file:
        file.write("garbage\n")
    assert "manifest.jsonl: line 2: not JSON" in report(code=1)
    assert Path("report.html").read_bytes() == before
    assert sorted(os.listdir(folder)) == ["manifest.jsonl", "report.html"]


@pytest.mark.usefixtures("folder")
def test_wrong_usage_is_said_in_a_sentence():
    assert "`alpaca label FOLDER` writes one" in report(code=1)
    write("manifest.jsonl", row("a.jpg"))
    before = Path("manifest.jsonl").read_bytes()
    assert "name another file" in report("-o", "./manifest.jsonl", code=2)
    assert Path("manifest.jsonl").read_bytes() == before
    assert "none/x.html: No such file" in report("-o", "none/x.html", code=1)


# --- hostile rows --------------------------------------------------------------------------------


@pytest.fixture
def hostile(folder, request):
    """A report of rows that do their worst."""
    jpeg(folder / "a.jpg")
    odd = row(HOSTILE, 0.5, review=True)
    odd["pet-metadata"] |= {"class-name": HOSTILE, "confidence": "high"}
    odd["labeler"]["model-version"] = HOSTILE
    long = row("deep/" * 200 + ".jpg", 0.49, review=True)
    write("manifest.jsonl", odd, long, row("a.jpg"), *SOME)
    write("failures.jsonl", failed(f"{HOSTILE} 2", HOSTILE, HOSTILE), failed("x", 7, None))
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


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_in_a_browser_it_is_whole_and_accessible(pages, hostile, width, dark):
    opened = pages(width, dark=dark)
    opened.goto(f"file://{hostile}")
    opened.locator("summary").click()
    assert violations(opened) == []
    assert not is_too_wide(opened)
    sizes = opened.evaluate("[...document.images].map(each => each.naturalWidth)")
    assert sizes == [320] * 2  # one photo, in both sheets
    assert opened.locator("h2").all_inner_texts() == [
        "What came out",
        "How sure the model is",
        "Over time",
        "Least certain",
        "Random sample",
        "What failed, and why",
        "Models",
    ]


@pytest.mark.parametrize("hostile", [["--no-photos"]], indirect=True)
def test_so_it_is_without_photos(pages, hostile):
    opened = pages(NARROW)
    opened.goto(f"file://{hostile}")
    assert violations(opened) == []
    assert not is_too_wide(opened)
    assert opened.locator("img").count() == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
BLOCK = st.dictionaries(
    st.sampled_from(
        [
            "class-name",
            "creation-date",
            "probability",
            "threshold",
            "needs-review",
            "code",
            "message",
            "model-version",
            "human-annotated",
            "confidence",
        ]
    ),
    json_values,
)
ANY_ROW = st.fixed_dictionaries(
    {"source-ref": st.text()},
    optional={
        "x": json_values,
        "x-metadata": BLOCK | json_values,
        "labeler": BLOCK | json_values,
        "failure": BLOCK | json_values,
    },
)


@given(st.lists(ANY_ROW, max_size=6))
def test_any_rows_have_a_page(rows):
    from alpaca_labeler.report.manifest_page import render

    counts = Counts(3, Sample(3))
    for each in rows:
        counts.add(each)
    assert counts.labels.total() + counts.failed + counts.unlabelled == len(rows) == counts.rows
    sheets = (counts.least_certain(), None), (counts.drawn(), None)
    render(counts, "m", datetime(2026, 1, 1), *sheets).encode()  # noqa: DTZ001 - as in a row


# --- counting in flat memory ---------------------------------------------------------------------


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(0, 9))
def test_the_least_certain_are_those_nearest_to_the_threshold(percents, size):
    rows = [row(f"{place}", percent / 100) for place, percent in enumerate(percents)]
    counts = Counts(size, Sample(0))
    for each in rows:
        counts.add(each)
    expected = sorted(rows, key=lambda each: abs(each["labeler"]["probability"] - 0.5))
    assert counts.least_certain() == expected[:size]


@given(st.integers(0, 300), st.integers(0, 9))
def test_a_sample_has_no_row_twice_and_as_many_as_asked(rows, size):
    sample = Sample(size)
    for number in range(rows):
        sample.offer({"source-ref": f"{number}"})
    places = [place for place, _ in sample.rows]
    assert len(places) == len(set(places)) == min(rows, size)
    assert all(each["source-ref"] == f"{place}" for place, each in sample.rows)


def test_every_row_has_the_same_chance_to_be_drawn(monkeypatch):
    drawn = Counter()
    for seed in range(2000):
        monkeypatch.setattr(counts, "_SEED", seed)
        sample = Sample(5)
        for number in range(50):
            sample.offer({"source-ref": f"{number}"})
        drawn.update(place for place, _ in sample.rows)
    # Each is expected 200 times, with a standard deviation of 13.4: five of them either way.
    assert sorted(drawn) == list(range(50))
    assert 133 < min(drawn.values()) <= max(drawn.values()) < 267


def test_names_without_end_are_only_counted():
    counts = Counts(3, Sample(3))
    for number in range(3 * MANY):
        labelled = row("a", number / 10**6, threshold=number / 10**6)
        labelled["pet-metadata"]["class-name"] = labelled["labeler"]["model-version"] = f"{number}"
        counts.add(labelled)
        counts.add(failed("b", code=f"{number}"))
    for tally in (counts.labels, counts.models, counts.thresholds):
        assert len(tally) == MANY
        assert tally.total() + tally.others == 3 * MANY
    assert len(counts.reasons) == MANY
    assert counts.other_reasons == 2 * MANY


EPOCH = datetime(2026, 1, 1)  # noqa: DTZ001 - dates of rows have no zone
SPANS = st.sampled_from([1, 90, 5000, 10**5, 10**6, 10**8, 10**9])


@given(SPANS, st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_bars_are_few_even_and_hold_every_row(span, places):
    times = Times()
    dates = [EPOCH + timedelta(seconds=span * place) for place in places]
    for date in dates:
        times.add(date.isoformat(timespec="microseconds"), 1)
    found = times.bars()
    assert 1 <= len(found.bars) <= MOST_BARS
    starts = [bar.start for bar in found.bars]
    assert starts == sorted(set(starts))
    ends = [*starts[1:], max(dates) + timedelta(1)]
    held = [sum(a <= date < b for date in dates) for a, b in zip(starts, ends, strict=True)]
    assert [bar.counts for bar in found.bars] == [[0, count, 0] for count in held]


@pytest.mark.parametrize("step", [1, 61, 3601, 90_000, 4_000_000])
def test_dates_without_end_are_counted_coarser(step):
    times = Times()
    for number in range(3 * _MOST_KEYS):
        moment = EPOCH + timedelta(seconds=number * step)
        times.add(moment.isoformat(timespec="microseconds"), number % 3)
    assert len(times._counts) <= _MOST_KEYS
    bars = times.bars().bars
    assert [sum(counts) for counts in zip(*(bar.counts for bar in bars), strict=True)] == (
        [_MOST_KEYS] * 3
    )


@pytest.mark.parametrize("date", ["", "yesterday", "2026-13-01T00:00:00", "20260131T120000000"])
def test_what_is_no_date_is_said(date):
    times = Times()
    times.add(date, 0)
    assert (times.undated, times.bars()) == (1, None)


def test_the_whole_calendar_can_be_shown():
    times = Times()
    for date in ("0001-01-01T00:00:00.000000", "9999-12-31T23:59:59.999999"):
        times.add(date, 0)
    assert len(times.bars().bars) <= MOST_BARS

"""The report page: self-contained, whole, and honest about what it was given."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alpaca_labeler.report.model_page import render
from alpaca_labeler.training.report import Epoch, Mistake, Report
from tests.support.browser import WIDTHS, violations
from tests.support.pages import Page

HOSTILE = '<script>alert("x")</script>&\'\udcff\x00.jpg'


def epoch(phase, number, *figures):
    """Loss and accuracy, and perhaps both of the validation photos."""
    loss, right, val_loss, val_right = [*figures, *[math.nan] * 4][:4]
    return Epoch(phase, number, 2, loss, right, val_loss, val_right, 0.0)


@pytest.fixture
def report():
    rng = np.random.default_rng(0)
    truth = np.array([1] * 40 + [0] * 60)
    probabilities = np.where(truth, 0.9, 0.1) + rng.uniform(-0.1, 0.1, 100)
    probabilities[[0, 1]] = 0.05, 0.45  # two alpacas missed, one of them for a person to see
    probabilities[99] = 0.97
    card = {
        "version": "20260131T120000Z-0a1b2c3d4e5f",
        "created": "2026-01-31T12:00:00Z",
        "threshold": 0.5,
        "review_band": [0.3, 0.7],
        "input_size": 224,
        "metrics": {
            "accuracy": {"value": 0.9701, "low": 0.9412, "high": 0.9903},
            "precision": {"value": 0.9512, "low": 0.9112, "high": 0.9807},
            "auc": 0.98765,
            "ece": {"value": 0.01234, "low": 0.01, "high": 0.02},
            "photos": 100,
            "per_kind": {"sheep": {"rate": 0.123456}},
        },
        "training": {"recipe": "default", "seed": 4242, "fine_tuning_epochs": 1},
        "dataset": {"fingerprint": "9f8e7d"},
    }
    history = [
        epoch("frozen", 1, 0.7, 0.6, 0.6, 0.7),
        epoch("fine-tuning", 1, 0.5, 0.8, 0.4, 0.85),
        epoch("fine-tuning", 2, 0.3, 0.9, math.nan, math.nan),
    ]
    pixels = np.full((224, 224, 3), 128, np.uint8)
    return Report(
        title="alpaca or not",
        card=card,
        history=history,
        labels=("not alpaca", "alpaca"),
        truth=truth,
        probabilities=probabilities,
        kinds=["llama"] * 40 + ["sheep"] * 59 + ["goat"],
        mistakes=[Mistake("0.jpg", 1, 0.05, pixels), Mistake("99.jpg", 0, 0.97, pixels)],
    )


def test_the_page_is_whole_loads_nothing_and_runs_nothing(report):
    text = render(report)
    page = Page(text)
    assert page.all("script") == []
    assert not re.search(r"https?://|url\(|@import", text)
    assert not [attrs for _, attrs in page.tags for name in attrs if name.startswith("on")]
    sources = [attrs.get("src") or attrs.get("href") for _, attrs in page.tags]
    assert all(source.startswith(("data:", "#")) for source in sources if source)
    [policy] = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert "default-src 'none'" in policy
    assert len(page.all("h1")) == 1
    assert page.all("html") == [{"lang": "en"}]


def test_the_page_has_every_section_and_draws_the_epochs(report):
    page = Page(render(report))
    headings = [attrs.get("id") for attrs in page.all("h2")]
    assert headings == ["figures", "training", "decisions", "kinds", "mistakes", "card"]
    [kept] = [attrs["style"] for attrs in page.all("b") if attrs.get("class") == "mark"]
    assert kept == "left: 50.0%"  # the second of three epochs
    lines = {attrs["class"]: attrs["points"] for attrs in page.all("polyline")}
    assert lines == {
        "training": "0.00,0.00 50.00,28.57 100.00,57.14",
        "validation": "0.00,14.29 50.00,42.86",
    }
    assert "training, 0.700 to 0.300 validation, 0.600 to 0.400 kept 1 Epoch 3" in page.words()


def test_every_figure_of_the_card_is_shown(report):
    words = Page(render(report)).words()
    for shown in ("97.0 %", "94.1 % to 99.0 %", "95.1 %", "0.988", "0.012", "0.010 to 0.020"):
        assert shown in words
    for figure in re.findall(r"[\d.]+(?=[,\]}])", json.dumps(report.card)):
        assert figure in words


def test_the_cards_decisions_are_counted_and_kinds_listed_hardest_first(report):
    at = replace(report, truth=np.array([1]), probabilities=np.array([0.49996]), kinds=["llama"])
    assert "1 of 1 photos labelled right" in Page(render(at)).words()  # the threshold is positive
    words = Page(render(report)).words()
    assert "97 of 100 photos labelled right" in words
    assert "1 (1.0 %) would be flagged for review, 1 of the 3 mistakes among them" in words
    # The rows of the confusion matrix are the truth.
    assert "alpaca 40 38 95.0 % 2 5.0 % not alpaca 60 1 1.7 % 59 98.3 %" in words
    assert re.search(
        r"goat not alpaca 1 1 0 flagged 0\.0 % 0\.0 %.*llama alpaca 40 2 1 flagged 2\.5 % 95\.0 %"
        r" 83\.\d % to .*sheep not alpaca 59 0 0\.0 % 100\.0 %",
        words,
    )


def test_mistakes_are_pictures_with_words_for_them(report):
    page = Page(render(report))
    pictures = page.all("img")
    assert [picture["alt"] for picture in pictures] == [
        "0.jpg: alpaca, taken for not alpaca",
        "99.jpg: not alpaca, taken for alpaca",
    ]
    data = base64.b64decode(pictures[0]["src"].removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == (224, 224)


def test_hostile_text_stays_text(report):
    pixels = report.mistakes[0].pixels
    hostile = replace(
        report,
        title=HOSTILE,
        card={**report.card, HOSTILE: HOSTILE, "metrics": {HOSTILE: {"value": 0.5}}},
        history=[epoch(HOSTILE, 1, 0.5, 0.5)],
        labels=(HOSTILE, HOSTILE + "2"),
        kinds=[HOSTILE] * 100,
        mistakes=[Mistake(HOSTILE, 1, 0.1, pixels)],
    )
    text = render(hostile)
    text.encode()
    page = Page(text)
    assert page.all("script") == []
    assert "\x00" not in text
    assert '<script>alert("x")</script>&\'' in page.words()
    assert page.all("img")[0]["alt"].startswith("<script>")
    assert {key for _, attrs in page.tags for key in attrs if "script" in key} == set()


def test_what_is_absent_is_left_out(report):
    bare = replace(
        report,
        card={},
        history=[],
        truth=np.array([], int),
        probabilities=np.array([]),
        kinds=[],
        mistakes=[],
    )
    page = Page(render(bare))
    assert [attrs["id"] for attrs in page.all("h2")] == ["card"]
    assert "Tells alpaca from not alpaca" in page.words()


@pytest.mark.parametrize("truth", [0, 1])
def test_photos_of_one_class_are_enough(report, truth):
    one = replace(report, truth=np.full(100, truth), card={"metrics": {"auc": math.nan}})
    assert "nan" not in Page(render(one)).words().replace("NaN", "").lower()


@pytest.mark.parametrize(
    ("losses", "curves"),
    [
        ([(0.7,), (0.5,)], ["training"]),
        ([(0.7,)], []),
        ([(0.0,), (0.0,)], []),
        ([(math.inf, math.nan), (1e9, 0.5, 0.0, 1.0)], ["training", "validation"]),
    ],
)
def test_a_loss_that_is_a_number_is_drawn(report, losses, curves):
    history = [epoch("frozen", number, *figures) for number, figures in enumerate(losses, 1)]
    page = Page(render(replace(report, history=history)))
    assert [attrs["class"] for attrs in page.all("polyline")] == curves
    assert f"1. frozen, {len(losses)} epoch" in page.words()


def test_what_was_measured_is_shown(report):
    sure = {"value": 1.0, "low": 1.0, "high": 1.0}
    worth = {"accuracy": sure, "needs_review": 0.0612, "errors_in_review": None}
    worth["right_outside"] = 0.9933
    words = Page(render(replace(report, card={**report.card, "metrics": worth}))).words()
    assert "Needs review 6.1 % of all photos are flagged for review" in words
    assert "Right outside 99.3 % of those not flagged are right" in words
    assert "Errors in review" not in words
    assert "Accuracy 100.0 % of all photos" in words  # an interval without a width says nothing


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_whole_and_accessible_in_a_browser(pages, report, tmp_path, width):
    (tmp_path / "report.html").write_text(render(report))
    opened = pages(width)
    opened.goto(f"file://{tmp_path / 'report.html'}")
    for summary in opened.locator("summary").all():
        summary.click()
    assert violations(opened) == []

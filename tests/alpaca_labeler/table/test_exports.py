"""Each form's own rules, and a count of what it cannot hold."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.handler import manifest_row
from alpaca_labeler.table import exports


def row(source_ref="s3://b/a.jpg", label="alpaca", **facts):
    labeler = {"model-version": "1-a", "probability": 0.9, "needs-review": False, "size": 1000}
    return {
        "source-ref": source_ref,
        "alpaca": 1,
        "alpaca-metadata": {
            "class-name": label,
            "confidence": 0.9,
            "type": manifest_row.TASK_TYPE,
            "human-annotated": "no",
            "creation-date": "2026-01-01T00:00:00.000000",
        },
        "labeler": {**labeler, "width": 640, "height": 480, **facts},
    }


FAILURE = {"source-ref": "s3://b/f.jpg", "failure": {"code": "empty"}}
BARE = {"source-ref": "s3://b/bare.jpg"}


def export(form, *rows, folder="/"):
    out, left_out = io.StringIO(newline=""), Counter()
    written = exports.FORMATS[form](rows, out, left_out, folder)
    return out.getvalue(), written, dict(left_out)


def test_csv_has_a_row_a_label():
    text, written, left_out = export("csv", row(), FAILURE, BARE)
    [found] = csv.DictReader(io.StringIO(text))
    assert (found["source-ref"], found["label"], found["width"]) == (
        "s3://b/a.jpg",
        "alpaca",
        "640",
    )
    assert (written, left_out) == (1, {"without a label": 2})


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "\ta", "\ra", "\na", '=HYPERLINK("x")'])
def test_csv_gives_a_spreadsheet_nothing_to_run(name):
    text, _, _ = export("csv", row(name, label=name))
    [found] = csv.DictReader(io.StringIO(text, newline=""))
    assert found["source-ref"] == found["label"] == f"'{name}"


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a\nb", "a;b", "ü"])
def test_csv_keeps_any_name_whole(name):
    text, _, _ = export("csv", row(name))
    [found] = csv.DictReader(io.StringIO(text, newline=""))
    assert found["source-ref"] == name


@pytest.mark.parametrize("rows", [[], [row()], [row(), FAILURE, row("ü\n")]])
def test_json_is_one_array_of_all_rows(rows):
    text, written, left_out = export("json", *rows)
    assert json.loads(text) == rows
    assert (written, left_out) == (len(rows), {})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (FAILURE, "without a label"),
        (BARE, "without a label"),
        (row("holiday/a.jpg"), "not in S3"),
        (row("s3:///a.jpg"), "not in S3"),
        (row("s3://b/a.webp"), "neither JPEG nor PNG"),
        (row("s3://other/a.jpg"), "not in the first row's bucket, b"),
        (row(size=15 * 2**20 + 1), "over 15 MB"),
        (row(width=63), "a side under 64 or over 4,096 pixels"),
        (row(height=4097), "a side under 64 or over 4,096 pixels"),
        (row(width=64, height=1281), "longer than 20 times its width"),
    ],
)
def test_rekognition_is_spared_what_it_would_refuse(bad, reason):
    text, written, left_out = export("rekognition", row(), bad)
    assert text.count("\n") == written == 1
    assert left_out == {reason: 1}


def test_rekognition_gets_documented_keys_only():
    mine = {**row("s3://b/A.JPEG", width=64, height=1280, size=15 * 2**20), "note": "mine"}
    mine["alpaca-metadata"]["extra"] = 1
    text, _, _ = export("rekognition", mine)
    found = json.loads(text)
    assert [*found] == ["source-ref", "alpaca", "alpaca-metadata"]
    assert "extra" not in found["alpaca-metadata"]


@pytest.mark.parametrize(
    ("limit", "value"), [("REKOGNITION_ROWS", 2), ("REKOGNITION_FILE_BYTES", 600)]
)
def test_rekognition_files_end_at_the_limit(monkeypatch, limit, value):
    monkeypatch.setattr(exports, limit, value)
    text, written, left_out = export("rekognition", *[row()] * 5)
    assert text.count("\n") == written == 2
    assert sum(left_out.values()) == 3


def test_label_studio_gets_predictions():
    text, _, left_out = export("label-studio", row(), FAILURE)
    [task] = json.loads(text)
    assert task["data"] == {"image": "s3://b/a.jpg"}
    [prediction] = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("1-a", 0.9)
    assert prediction["result"][0]["value"] == {"choices": ["alpaca"]}
    assert left_out == {"without a label": 1}


def test_hugging_face_names_files_from_its_folder():
    rows = [row("/p/a/ü.jpg"), row("/p/..odd.jpg"), row("/q/a.jpg"), row("/a.jpg"), row()]
    text, written, left_out = export("hugging-face", *rows, row("file:///p/%FF.jpg"), folder="/p")
    names = [json.loads(line)["file_name"] for line in text.splitlines()]
    assert names == ["a/ü.jpg", "..odd.jpg"]
    assert written == 2
    assert left_out == {
        "outside the folder of the output file": 2,
        "in S3, and an imagefolder is of files": 1,
        "a name that is not UTF-8 text": 1,
    }


values = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)
blocks = values | st.dictionaries(
    st.sampled_from(["class-name", "confidence", "size", "width", "height", "code"]), values
)
strange = st.builds(
    lambda name, extra: {"source-ref": name, **extra},
    st.text(max_size=3) | st.just("s3://b/a.jpg") | st.just("s3://"),
    st.dictionaries(st.sampled_from(["labeler", "failure", "a", "a-metadata"]), blocks),
)


@given(st.lists(strange, max_size=3), st.sampled_from(sorted(exports.FORMATS)))
def test_any_row_of_somebody_else_is_written_or_counted(rows, form):
    _, written, left_out = export(form, *rows)
    assert written + sum(left_out.values()) == len(rows)

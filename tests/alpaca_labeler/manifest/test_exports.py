"""Each form's own rules, and a count of what it cannot hold."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import tempfile
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alpaca_labeler.manifest import exports, hugging_face
from alpaca_labeler.manifest.out import ExportError, Out, opened
from alpaca_labeler.table.facts import Answer, Decision, Failure, Read
from alpaca_labeler.table.row import Row


def row(source_ref="s3://b/a.jpg", label="alpaca", index=1, **read):
    seen = Read(
        "2026-01-01T00:00:00.000000Z", **{"size": 1000, "width": 640, "height": 480, **read}
    )
    return Row(source_ref, seen, Answer("1-a", label, index, "alpaca", 0.9, 0.5))


def foreign(**found):
    return Row.from_line(json.dumps(found).encode())


FAILURE = Row("s3://b/f.jpg", Read(), Answer("1-a", failure=Failure("empty")))
BARE = Row("s3://b/bare.jpg")

FAILED = "a photo that could not be labelled"
OTHER_TASK = "a row without a class name, of another kind of task"
NOT_IN_S3 = "not in S3: Rekognition reads photos from a bucket, so label them there"


def export(form, *rows, files_root=None):
    """Export to standard output: its text, how many rows it holds, and why others are left out."""
    out = Out(str, files_root=files_root)
    with contextlib.redirect_stdout(io.StringIO(newline="")) as text:
        exports.FORMATS[form](rows, out)
    return text.getvalue(), out.written, dict(out.left_out)


def test_csv_has_one_row_per_label():
    text, written, left_out = export("csv", row(), FAILURE, BARE)
    [found] = csv.DictReader(io.StringIO(text))
    assert (found["source-ref"], found["label"], found["width"]) == (
        "s3://b/a.jpg",
        "alpaca",
        "640",
    )
    assert (found["needs-review"], found["human-annotated"]) == ("no", "no")
    assert written == 1
    assert left_out == {FAILED: 1, OTHER_TASK: 1}


def test_a_csv_file_begins_as_excel_needs_and_a_pipe_does_not(tmp_path):
    with opened(str, str(tmp_path / "l.csv")) as out:
        exports.to_csv([row("ünï 中.jpg")], out)
    data = (tmp_path / "l.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfsource-ref,label,")
    assert "ünï 中.jpg".encode() in data
    assert export("csv", row())[0].startswith("source-ref,")


@pytest.mark.parametrize(
    ("name", "cell"),
    [(text, f"'{text}") for text in ("=1+1", "+a", "-a", "@a", "\ta", "\ra", "\na", "\uff1d1")]
    + [(f"a;{start}1", f"a;'{start}1") for start in "=+-@\uff1d"]
    + [(text, text) for text in ("a,b", 'a"b', "a\nb", "a;b", "a-b=c", "ü")],
)
def test_csv_keeps_any_text_but_gives_a_spreadsheet_nothing_to_run(name, cell):
    text, _, _ = export("csv", row(name, label=name))
    [found] = csv.DictReader(io.StringIO(text, newline=""))
    assert found["source-ref"] == found["label"] == cell


GROUND_TRUTH: list[dict[str, Any]] = [
    {"bb": {}, "bb-metadata": {"objects": [], "class-map": {}}},
    {"tags": [0], "tags-metadata": {"class-map": {"0": "dog"}}},
    {"animal-metadata": {"failure-reason": "ClientError"}},
]


@pytest.mark.parametrize("form", ["csv", "label-studio", "rekognition"])
def test_rows_of_other_tasks_are_left_out_and_counted(form):
    others = [foreign(**{"source-ref": "s3://b/1.jpg"}, **found) for found in GROUND_TRUTH]
    text, written, left_out = export(form, row(), *others)
    assert (written, left_out) == (1, {OTHER_TASK: 3})
    assert "null" not in text


@pytest.mark.parametrize("form", sorted(exports.FORMATS))
def test_an_export_that_writes_nothing_fails_and_leaves_no_file(form, tmp_path):
    output = tmp_path / "metadata.jsonl"
    with (
        pytest.raises(ExportError, match=r"nothing to write: 1 left out: .*labelled"),
        opened(str, str(output)) as out,
    ):
        exports.FORMATS[form]([FAILURE], out)
    with (
        pytest.raises(ExportError, match="the manifest has no rows"),
        opened(str, str(output)) as out,
    ):
        exports.FORMATS[form]([], out)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (FAILURE, FAILED),
        (BARE, OTHER_TASK),
        (row("holiday/a.jpg"), NOT_IN_S3),
        (row("s3:///a.jpg"), NOT_IN_S3),
        (row(index=None), "without a class number"),
        (row("s3://b/a.webp"), "neither JPEG nor PNG"),
        (row("s3://other/a.jpg"), "not in the first row's bucket, b: one export has one bucket"),
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
    text, _, _ = export("rekognition", row("s3://b/A.JPEG", width=64, height=1280, size=15 * 2**20))
    found = json.loads(text)
    assert [*found] == ["source-ref", "alpaca", "alpaca-metadata"]
    known = "class-name confidence type job-name human-annotated creation-date"
    assert [*found["alpaca-metadata"]] == known.split()


def test_a_class_number_that_was_written_as_text_is_a_number():
    text = {"source-ref": "s3://b/a.jpg", "animal": "0", "animal-metadata": {"class-name": "no"}}
    assert json.loads(export("rekognition", foreign(**text))[0])["animal"] == 0


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
    assert left_out == {FAILED: 1}


def test_label_studio_loads_local_photos_from_the_folder_that_it_serves(tmp_path):
    inside = row(f"{tmp_path}/a b/ü#1?&+%.jpg")
    text, _, left_out = export("label-studio", inside, row("/q/a.jpg"), files_root=str(tmp_path))
    [task] = json.loads(text)
    url = urlsplit(task["data"]["image"])
    assert url.path == "/data/local-files/"
    assert parse_qs(url.query) == {"d": ["a b/ü#1?&+%.jpg"]}
    assert left_out == {f"outside {tmp_path}": 1}
    _, written, left_out = export("label-studio", inside)
    assert written == 0
    assert "--local-files-root" in next(iter(left_out))


def test_the_labelling_config_lies_beside_the_tasks(tmp_path):
    said = Decision("2026-01-02T00:00:00.000000Z", "kim", 'not "alpaca" & <co>')
    corrected = replace(row(content="sha256:aa"), people={"sha256:aa": said})
    with opened(str, str(tmp_path / "tasks.json")) as out:
        exports.to_label_studio([corrected], out)
    assert out.notes == [f"labelling config: {tmp_path}/tasks.xml"]
    view = ET.parse(tmp_path / "tasks.xml").getroot()
    image, choices = view
    assert (image.get("name"), image.get("value")) == ("image", "$image")
    assert (choices.get("name"), choices.get("toName")) == ("choice", "image")
    assert [choice.get("value") for choice in choices] == ["alpaca", 'not "alpaca" & <co>']


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make photos of these names, and export them and `more` rows to Hugging Face."""

    def export(*names, more=(), output="metadata.jsonl"):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / name, "JPEG")
        rows = [row(f"{tmp_path}/{name}") for name in names]
        with opened(str, str(tmp_path / output)) as out:
            hugging_face.write([*rows, *more], out)
        found = {
            str(path.parent.relative_to(tmp_path)): [
                json.loads(line)["file_name"] for line in path.read_text().splitlines()
            ]
            for path in sorted(tmp_path.rglob("metadata.jsonl"))
        }
        return found, dict(out.left_out), out.notes

    monkeypatch.chdir(tmp_path)
    return export


def test_hugging_face_names_files_from_its_folder(folder, tmp_path):
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    os.mkfifo(tmp_path / "pipe.jpg")
    more = [row(f"{tmp_path}/{name}") for name in ("gone.jpg", "b.heic", "a\\b.jpg", "pipe.jpg")]
    more += [row("/elsewhere/a.jpg"), row(), row(f"file://{tmp_path}/%FF.jpg")]
    found, left_out, notes = folder("a/ü.jpg", "..odd.jpg", more=more)
    assert (found, notes) == ({".": ["a/ü.jpg", "..odd.jpg"]}, [])
    assert left_out == {
        "no longer there": 1,
        "not a file": 1,
        "HEIC, which datasets does not open: convert it to JPEG": 1,
        "a name with a backslash, which datasets takes for a folder": 1,
        f"outside {tmp_path}": 1,
        "in S3: an imagefolder is of files, so download them and label them there": 1,
        "a name that is not UTF-8 text": 1,
    }


@pytest.mark.parametrize("name", ["train 1.jpg", "b/my test 2/2.jpg", "validation/1.jpg"])
def test_what_is_named_like_a_split_is_pointed_out(folder, name):
    found, _, [note] = folder(name, "b.jpg", "trained/4.jpg")
    assert found == {".": [name, "b.jpg", "trained/4.jpg"]}
    assert note.endswith(': give load_dataset data_files={"train": ["**"]}')


@pytest.mark.parametrize("other", ["a/metadata.jsonl", "metadata.csv"])
def test_metadata_that_would_be_read_twice_is_refused(folder, tmp_path, other):
    (tmp_path / "a").mkdir()
    (tmp_path / other).write_text("")
    with pytest.raises(ExportError, match=f"^{other}: .* remove it"):
        folder("a/1.jpg")


def test_hugging_face_metadata_must_be_named_metadata_jsonl(folder):
    with pytest.raises(ExportError, match=r"no other name than metadata\.jsonl"):
        folder("a.jpg", output="labels.jsonl")


values = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)
blocks = values | st.dictionaries(
    st.sampled_from(["class-name", "confidence", "size", "width", "height", "code"]), values
)
strange = st.builds(
    lambda name, extra: foreign(**{"source-ref": name}, **extra),
    st.text(max_size=3) | st.just("s3://b/a.jpg") | st.just("s3://"),
    st.dictionaries(st.sampled_from(["labeler", "failure", "a", "a-metadata"]), blocks),
)


@given(st.lists(strange, max_size=3), st.sampled_from(sorted(exports.FORMATS)))
def test_any_row_of_another_tool_is_written_or_counted(rows, form):
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        _, written, left_out = export(form, *rows, files_root="/")
    assert written + sum(left_out.values()) == len(rows)

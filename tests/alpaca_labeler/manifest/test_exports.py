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

from alpaca_labeler.manifest import exports
from alpaca_labeler.manifest.out import ExportError, Out, opened
from alpaca_labeler.photos import images
from alpaca_labeler.pipeline.labeler import Labeler
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table.facts import Answer, Decision, Failure, Read
from alpaca_labeler.table.row import Row
from tests.support.rows import STRANGE_LINES


def row(source_ref="s3://b/a.jpg", label="alpaca", index=1, **read):
    seen = Read(
        "2026-01-01T00:00:00.000000Z", **{"size": 1000, "width": 640, "height": 480, **read}
    )
    return Row(source_ref, seen, Answer("1-a", label, index, "alpaca", 0.9, 0.5))


def foreign(**found):
    return Row.from_line(json.dumps(found).encode())


FAILURE = Row("s3://b/f.jpg", Read(), Answer("1-a", failure=Failure("empty")))
BARE = Row("s3://b/bare.jpg")
GROUND_TRUTH: list[dict[str, Any]] = [
    {"bb": {}, "bb-metadata": {"objects": [], "class-map": {}}},
    {"tags": [0], "tags-metadata": {"class-map": {"0": "dog"}}},
    {"animal-metadata": {"failure-reason": "ClientError"}},
]
OTHERS = [BARE, *(foreign(**{"source-ref": "s3://b/1.jpg"}, **found) for found in GROUND_TRUTH)]

FAILED = "a photo that could not be labelled"
OTHER_TASK = "a row without a class name, of another kind of task"
NOT_IN_S3 = "not in S3: Rekognition reads photos from a bucket, so label them there"


def export(form, *rows):
    """Export to standard output: its text, how many rows it holds, and why others are left out."""
    out = Out(str)
    with contextlib.redirect_stdout(io.StringIO(newline="")) as text:
        exports.FORMATS[form](rows, out)
    return text.getvalue(), out.written, dict(out.left_out)


def photographed(camera, taken):
    """Return a JPEG whose EXIF names a camera and a moment."""
    exif, encoded = Image.Exif(), io.BytesIO()
    exif[0x0110] = camera
    exif.get_ifd(0x8769)[0x9003] = taken
    Image.new("RGB", (64, 48)).save(encoded, "JPEG", exif=exif)
    return encoded.getvalue()


def test_csv_knows_the_label_and_the_photo(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(photographed(" Canon EOS\0\x1b 80D ", "2019:05:23 10:30:12+02:00"))
    [photo] = (done.row for done in Labeler().label([ImageVersion(str(path))]) if done.row)
    rows = row(), FAILURE, *OTHERS, Row.from_line(photo.to_line())
    text, written, left_out = export("csv", *rows)
    assert (written, left_out) == (2, {FAILED: 1, OTHER_TASK: 4})
    bare, found = ([*each.values()] for each in csv.DictReader(io.StringIO(text)))
    assert bare[:6] == ["s3://b/a.jpg", "alpaca", "0.9", "0.9", "no", "no"]
    assert bare[8:] == ["640", "480", "1000", "", "", "s3://b"]
    size = str(path.stat().st_size)
    date, camera = "2019-05-23T10:30:12", "Canon EOS 80D"
    assert found[8:] == ["64", "48", size, date, camera, str(tmp_path)]


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "2019:13:01 00:00:00", "", "x", 7])
def test_a_camera_without_a_clock_has_no_date(taken):
    seen = images.decode(photographed(" \n", taken), 8)
    assert (seen.taken, seen.camera) == (None, None)


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


@pytest.mark.parametrize(
    ("rows", "why"),
    [([FAILURE], "nothing to write: 1 left out: .*labelled"), ([], "the manifest has no rows")],
)
@pytest.mark.parametrize("form", sorted(exports.FORMATS))
def test_an_export_that_writes_nothing_fails_and_leaves_no_file(form, tmp_path, rows, why):
    output = str(tmp_path / "metadata.jsonl")
    with pytest.raises(ExportError, match=why), opened(str, output) as out:
        exports.FORMATS[form](rows, out)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (FAILURE, FAILED),
        *((other, OTHER_TASK) for other in OTHERS),
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


def test_rekognition_gets_documented_keys_only_and_class_numbers():
    text, _, _ = export("rekognition", row("s3://b/A.JPEG", width=64, height=1280, size=15 * 2**20))
    found = json.loads(text)
    assert [*found] == ["source-ref", "alpaca", "alpaca-metadata"]
    known = "class-name confidence type job-name human-annotated creation-date"
    assert [*found["alpaca-metadata"]] == known.split()
    text = {"source-ref": "s3://b/a.jpg", "animal": "0", "animal-metadata": {"class-name": "no"}}
    assert json.loads(export("rekognition", foreign(**text))[0])["animal"] == 0


def test_rekognition_files_end_at_the_limit(monkeypatch):
    monkeypatch.setattr(exports, "REKOGNITION_ROWS", 2)
    text, written, left_out = export("rekognition", *[row()] * 5)
    assert text.count("\n") == written == 2
    assert sum(left_out.values()) == 3


def test_label_studio_gets_predictions_and_loads_local_photos_from_the_tasks_folder(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    inside = row(f"{tmp_path}/a b/ü#1?&+%.jpg")
    text, _, left_out = export("label-studio", row(), inside, row("/q/a.jpg"), FAILURE, *OTHERS)
    task, local = json.loads(text)
    assert task["data"] == {"image": "s3://b/a.jpg"}
    [prediction] = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("1-a", 0.9)
    assert prediction["result"][0]["value"] == {"choices": ["alpaca"]}
    url = urlsplit(local["data"]["image"])
    assert url.path == "/data/local-files/"
    assert parse_qs(url.query) == {"d": ["a b/ü#1?&+%.jpg"]}
    outside = f"outside {tmp_path}, where the output goes"
    assert left_out == {FAILED: 1, OTHER_TASK: 4, outside: 1}


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
def to_hugging_face(tmp_path, monkeypatch):
    """Make photos of these names, and export them and `more` rows to Hugging Face."""

    def export(*names, more=(), output="metadata.jsonl"):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(tmp_path / name, "JPEG")
        with opened(str, str(tmp_path / output)) as out:
            exports.to_hugging_face([*(row(f"{tmp_path}/{name}") for name in names), *more], out)
        return out

    monkeypatch.chdir(tmp_path)
    return export


def test_hugging_face_names_files_from_its_folder(to_hugging_face, tmp_path):
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    os.mkfifo(tmp_path / "pipe.jpg")
    more = [row(f"{tmp_path}/{name}") for name in ("gone.jpg", "b.heic", "a\\b.jpg", "pipe.jpg")]
    more += [row("/elsewhere/a.jpg"), row(), row(f"file://{tmp_path}/%FF.jpg")]
    out = to_hugging_face("a/ü.jpg", "..odd.jpg", more=more)
    [metadata] = tmp_path.rglob("metadata.jsonl")
    found = [json.loads(line)["file_name"] for line in metadata.read_text().splitlines()]
    assert (metadata.parent, found) == (tmp_path, ["a/ü.jpg", "..odd.jpg"])
    [note] = out.notes
    assert note.endswith(f'data_dir="{tmp_path}", data_files={{"train": ["**"]}})')
    assert out.left_out == {
        "no longer there": 2,
        "HEIC, which datasets does not open: convert it to JPEG": 1,
        "a name with a backslash, which datasets takes for a folder": 1,
        f"outside {tmp_path}, where the output goes": 1,
        "in S3: an imagefolder is of files, so download them and label them there": 1,
        "a name that is not UTF-8 text": 1,
    }


def test_metadata_that_datasets_would_misread_is_refused(to_hugging_face, tmp_path):
    with pytest.raises(ExportError, match=r"no other name than metadata\.jsonl"):
        to_hugging_face("a/1.jpg", output="labels.jsonl")
    (tmp_path / "a/metadata.jsonl").write_text("")
    with pytest.raises(ExportError, match=r"a/metadata\.jsonl: .* remove it"):
        to_hugging_face("a/1.jpg")


@given(st.lists(STRANGE_LINES, max_size=3), st.sampled_from(sorted(exports.FORMATS)))
def test_any_row_of_another_tool_is_written_or_counted(lines, form):
    rows = [*map(Row.from_line, lines)]
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        _, written, left_out = export(form, *rows)
    assert written + sum(left_out.values()) == len(rows)

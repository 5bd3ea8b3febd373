"""What is exported arrives in full, by the peers' own readers: `make test-peers`.

That installs them all; elsewhere, the tests of a peer that is not installed are skipped.
"""

from __future__ import annotations

import importlib
import json
import os
from collections import Counter
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from alpaca_labeler.photos.images import DECODER
from alpaca_labeler.table.facts import Answer, Failure, Read
from alpaca_labeler.table.row import Row
from tests.support.runs import alpaca

# Peers warn of their own affairs.
pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = (
    "a.jpg",
    "b/no suffix",
    "b/ünï 中.jpg",
    "b/it's [2024] #1 100%.JPG",
    "b/e\u0301.jpe",
    "b/\u00e9.jfif",
    'c/quote"d, and; more.png',
    "c/=1+1.webp",
    "c/&d=x?y+z.tif",
)
LABELS = ("alpaca", 'not "alpaca" & <co>')
FORMS = {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF"}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Write photos and their manifest into a folder; return the label of each name."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def write(*names):
        labels = {}
        read = Read("2026-01-01T00:00:00.000000Z")
        failure = Answer("1-a", failure=Failure("corrupt", "cut off", DECODER))
        rows = [Row("photos/cut.jpg", read, failure)]
        for number, name in enumerate(sorted(names)):
            path = tmp_path / "photos" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("RGB", (8 + number, 8), "red")
            image.save(path, FORMS.get(path.suffix, "JPEG"))
            labels[name] = LABELS[number % 2]
            rows.append(Row(f"photos/{name}", read, Answer("1-a", labels[name], 1, "alpaca", 0.9)))
        rows.sort(key=lambda row: row.source_ref)
        (tmp_path / "manifest.jsonl").write_bytes(b"".join(row.to_line() for row in rows))
        return labels

    return write


def export(folder, form, output):
    """Export the folder's manifest; return the path of the output, and what was said."""
    done = alpaca("manifest", "export", "--format", form, "-o", output, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / output, done.stderr


def peer(module):
    if os.environ.get("TEST_PEERS"):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason="`make test-peers` installs it")


def load_dataset(folder, **options):
    datasets = peer("datasets")
    return datasets.load_dataset(
        "imagefolder", data_dir=str(folder), cache_dir=str(folder.parent / "cache"), **options
    )


def loaded(split):
    """What arrived: (width, label) of each photo, all of them decoded."""
    return Counter((entry["image"].width, entry["label"]) for entry in split)


def expected(labels):
    return Counter((8 + number, label) for number, label in enumerate(labels.values()))


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        ("train 1.jpg", "b.jpg", "sub/test.jpg"),
        ("train/a.jpg", "train/x/b.jpg", "test/c.jpg", "more/my valid 2/d.jpg", "e.jpg"),
    ],
    ids=["one folder", "photos named like a split", "folders named like a split"],
)
def test_datasets_reads_every_label(photos, tmp_path, names):
    labels = photos(*names)
    path, said = export(tmp_path, "hugging-face", "photos/metadata.jsonl")
    files = json.loads(said.partition("data_files=")[2].rstrip(")\n"))
    found = load_dataset(path.parent, data_files=files)
    assert loaded(found["train"]) == expected(labels)


def test_datasets_reads_on_if_photos_are_gone_or_heic(photos, tmp_path):
    labels = photos("a.jpg", "b.heic", "c.jpg")
    (tmp_path / "photos/b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (tmp_path / "photos/c.jpg").unlink()
    path, said = export(tmp_path, "hugging-face", "photos/metadata.jsonl")
    assert loaded(load_dataset(path.parent)["train"]) == Counter([(8, labels["a.jpg"])])
    assert "1 left out: no longer there" in said
    assert "1 left out: HEIC" in said


def test_label_studio_takes_every_task(photos, tmp_path):
    interface = peer("label_studio_sdk.label_interface")
    labels = photos(*NAMES)
    path, _ = export(tmp_path, "label-studio", "tasks.json")
    config = interface.LabelInterface((tmp_path / "tasks.xml").read_text())
    tasks = json.loads(path.read_text())
    chosen = []
    for task in tasks:
        [prediction] = task.pop("predictions")
        assert config.validate_task(task)
        assert config.validate_prediction(prediction)
        chosen += prediction["result"][0]["value"]["choices"]
    assert chosen == [*labels.values()]
    served = [_as_label_studio_serves(task["data"]["image"], tmp_path) for task in tasks]
    assert served == [f"photos/{name}" for name in labels]


def _as_label_studio_serves(url, root):
    """The file behind an address, as Label Studio's view of local files finds it."""
    found = urlsplit(url)
    assert found.path == "/data/local-files/"
    [name] = parse_qs(found.query)["d"]
    assert (root / name).is_file()
    return name


def test_pandas_reads_every_row_of_the_csv(photos, tmp_path):
    pandas = peer("pandas")
    labels = photos(*NAMES)
    path, _ = export(tmp_path, "csv", "labels.csv")
    table = pandas.read_csv(path)
    assert [*table.columns[:2]] == ["source-ref", "label"]
    assert dict(zip(table["source-ref"], table["label"], strict=True)) == {
        f"photos/{name}": label for name, label in labels.items()
    }
    assert {*table["needs-review"], *table["human-annotated"]} == {"no"}
    assert table["confidence"].tolist() == [0.9] * len(labels)


def test_duckdb_and_pandas_read_the_manifest_as_it_is(photos, tmp_path):
    duckdb = peer("duckdb")
    pandas = peer("pandas")
    labels = photos(*NAMES)
    rows = duckdb.sql(f"""
        select "source-ref", "alpaca-metadata"."class-name", labeler.answer.failure.code
        from read_json('{tmp_path}/manifest.jsonl', format = 'newline_delimited')
    """).fetchall()
    assert {name: label for name, label, code in rows if code is None} == {
        f"photos/{name}": label for name, label in labels.items()
    }
    assert [name for name, _, code in rows if code == "corrupt"] == ["photos/cut.jpg"]
    table = pandas.read_json(tmp_path / "manifest.jsonl", lines=True)
    labelled = table["alpaca-metadata"].dropna()
    assert [facts["class-name"] for facts in labelled] == [*labels.values()]

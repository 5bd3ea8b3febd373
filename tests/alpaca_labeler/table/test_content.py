"""A photo is its content and has one name: what a person said of it stays, whatever moves."""

import os
import shutil
from datetime import UTC, datetime

import pytest
from PIL import Image

from alpaca_labeler.photos.content import content_of
from alpaca_labeler.table.table import open_table
from tests.support.runs import alpaca, label, rows

pytestmark = pytest.mark.slow  # each test labels in processes of its own, up to five times


def draw(path, colour="teal"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), colour).save(path, compress_level=0)


@pytest.fixture
def folder(tmp_path):
    draw(tmp_path / "holiday/a.png")
    draw(tmp_path / "holiday/in/b.png", "red")
    return tmp_path


def flip(folder, name):
    """A person says the other class, as the review page does; return what it is now."""
    table = open_table(str(folder / "manifest.jsonl"))
    row = next(row for row in table.rows() if row.source_ref == name)
    index = int(row.index != 1)
    other = ("not alpaca", "alpaca")[index]
    table.append([row.decided(other, "kim", datetime.now(UTC), index=index)])
    return other


def labels(folder, manifest="manifest.jsonl"):
    """What each photo is called, `*` if a person said so."""
    table = open_table(str(folder / manifest))
    return {row.source_ref: f"{row.label}{'*' * bool(row.decision)}" for row in table.rows()}


def copy_with_another_date(path):
    """The same bytes with another date: a restored backup, a copied disk, git clone, MTP."""
    shutil.copyfile(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)
    os.utime(path, (1, 1))


def test_a_photo_keeps_the_label_that_a_person_gave_it_with_another_date_and_another_name(folder):
    label("holiday", cwd=folder)
    read = rows(folder / "manifest.jsonl")["holiday/a.png"]["labeler"]["read"]
    assert read["content"] == content_of((folder / "holiday/a.png").read_bytes())
    said = flip(folder, "holiday/a.png")
    copy_with_another_date(folder / "holiday/a.png")
    done = label("holiday", cwd=folder)
    assert (done["unchanged"], done["overruled"]) == (1, [])
    assert label("holiday", cwd=folder)["unchanged"] == 2  # its new date is known
    (folder / "holiday").rename(folder / "summer")
    assert label("summer", "--prune", cwd=folder)["gone"] == 2
    assert labels(folder).keys() == {"summer/a.png", "summer/in/b.png"}
    assert labels(folder)["summer/a.png"] == f"{said}*"


def test_a_truly_new_version_overrules_a_person_and_is_named_once(folder):
    label("holiday", cwd=folder)
    flip(folder, "holiday/a.png")
    draw(folder / "holiday/a.png", "black")
    done = alpaca("label", "holiday", "--workers", 1, cwd=folder)
    assert "overruled 1 review them again" in " ".join(done.stdout.split())
    assert "holiday/a.png: changed since a person labelled it" in done.stderr
    assert "*" not in labels(folder)["holiday/a.png"]
    assert label("holiday", cwd=folder)["overruled"] == []


def test_a_photo_has_one_name_however_the_command_is_called(folder):
    label("holiday", cwd=folder)
    (folder / "elsewhere").mkdir()
    os.symlink(folder, folder / "elsewhere/link")
    elsewhere = folder / "elsewhere"
    for words, cwd in (
        ("./holiday", folder),
        ("holiday/../holiday", folder),
        ("../holiday --manifest ../manifest.jsonl", elsewhere),
        ("link/holiday --manifest link/manifest.jsonl", elsewhere),
        (f"{elsewhere}/link/holiday", folder),
        ("holiday", elsewhere / "link"),
    ):
        assert label(*words.split(), cwd=cwd)["unchanged"] == 2, words
    assert len(rows(folder / "manifest.jsonl")) == 2
    done = label("../holiday", cwd=folder / "elsewhere")  # another manifest: outside its folder
    assert done["unchanged"] == 0
    assert f"{folder}/holiday/a.png" in rows(folder / "elsewhere/manifest.jsonl")


def test_a_folder_and_its_manifest_move_together(folder):
    odd = os.fsdecode(b"\xff.png")
    draw(folder / "holiday/x.png", "blue")
    os.rename(folder / "holiday/x.png", folder / "holiday" / odd)
    label("holiday", "--manifest", "holiday/manifest.jsonl", cwd=folder)
    assert [*rows(folder / "holiday/manifest.jsonl")] == ["a.png", "file:%FF.png", "in/b.png"]
    said = flip(folder / "holiday", "a.png")
    (folder / "there").mkdir()
    (folder / "holiday").rename(folder / "there/summer")
    done = label("there/summer", "--manifest", "there/summer/manifest.jsonl", cwd=folder)
    assert (done["unchanged"], done["gone"]) == (3, 0)
    assert labels(folder / "there/summer")["a.png"] == f"{said}*"


def test_a_manifest_that_a_windows_editor_saved_is_read(folder):
    label("holiday", cwd=folder)
    text = (folder / "manifest.jsonl").read_text()
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8-sig", newline="\r\n")
    assert len(labels(folder)) == 2
    assert label("holiday", cwd=folder)["unchanged"] == 2
    for encoding in ("utf-16", "utf-16-be"):
        (folder / "manifest.jsonl").write_text(text, encoding=encoding)
        for words in (["manifest", "stats"], ["label", "holiday"]):
            done = alpaca(*words, cwd=folder)
            assert done.returncode == 1
            assert "manifest.jsonl: " in done.stderr
            assert "save it as UTF-8" in done.stderr
        assert (folder / "manifest.jsonl").read_text(encoding=encoding) == text

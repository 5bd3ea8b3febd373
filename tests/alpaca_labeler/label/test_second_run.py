"""The second run tells the truth: what the manifest holds now, with what is new beside it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from alpaca_labeler.label import sort_into
from alpaca_labeler.label.sort_into import folder_name
from alpaca_labeler.label.summary import Report, as_table
from alpaca_labeler.main import main
from alpaca_labeler.photos.skip import Kind, Skipped
from tests.support.rows import decide
from tests.support.runs import interrupt, rows, start, wait_until


@pytest.fixture
def folder(folder):
    """Three photos in `photos/`, and a file that is not one."""
    (folder / "photos/broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    return folder


@pytest.mark.slow
def test_totals_are_those_of_the_manifest(folder, label, summary):
    label("photos")
    decide(folder / "manifest.jsonl", "photos/coffee.jpg", "alpaca")
    for options, new in ((["--relabel"], "1 "), ([], "")):
        shown = summary("photos", *options)
        assert f"alpaca 2 {new}not alpaca 1 " in shown
        assert "by people 1 as they said" in shown
        assert "1 of 3 decided, 1 changed; " in shown
    report = label("photos")
    assert report["labels"] == {"alpaca": 2, "not alpaca": 1}
    assert (report["by_people"], report["photos"], report["unchanged"]) == (1, 4, 3)
    assert report["new"] == {"alpaca": 0, "not alpaca": 0}
    decide("manifest.jsonl", "photos/broken.jpg", "alpaca")  # which the model cannot read
    report = label("photos", "--relabel")
    assert (report["labels"], report["by_people"]) == ({"alpaca": 3, "not alpaca": 1}, 2)
    assert (report["failed"], report["failed_before"], report["unchanged"]) == (0, 0, 1)


@pytest.mark.slow
def test_rows_of_photos_that_are_gone_are_hidden_and_come_back_with_them(folder, label, summary):
    label("photos")
    decide("manifest.jsonl", "photos/coffee.jpg", "alpaca")
    os.rename(folder / "photos/coffee.jpg", folder / "coffee.jpg")
    assert "gone 1 see --prune" in summary("photos")
    assert "gone 1 rows hidden" in summary("photos", "--prune")
    assert label("photos")["gone"] == 0
    os.rename(folder / "coffee.jpg", folder / "photos/coffee.jpg")
    assert label("photos")["labels"] == {"alpaca": 2, "not alpaca": 1}


def test_a_folder_without_photos_says_so_and_which_formats_count(tmp_path, run):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").touch()
    done = run("empty")
    assert done.stdout == ""
    assert done.stderr.startswith("no photos in empty (formats: ")
    assert " heic " in done.stderr
    assert done.stderr.endswith("; 1 other file skipped\n")
    assert sorted(os.listdir(tmp_path)) == ["empty"]


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_totals_are_of_these_photos_only_and_quiet_says_nothing(label, run):
    label("photos")
    report = label("photos/cat.png", "--model", "embedded")
    assert report["labels"] == {"alpaca": 0, "not alpaca": 1}
    assert (report["photos"], report["failed"], report["unchanged"]) == (1, 0, 1)
    done = run("photos/cat.png", "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    said = run("photos/cat.png", "--manifest", "my farm.jsonl").stderr
    assert "alpaca review 'my farm.jsonl'\n" in said


def test_what_is_missing_is_wrong_usage_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_a_path = "label,report,review,manifest show,train,evaluate embedded"
    for command in f"{with_a_path},compare embedded embedded,sandbox --upload".split(","):
        done = CliRunner().invoke(main, [*command.split(), "nope/"])
        assert done.exit_code == 2
        assert "nope/" in done.stderr.splitlines()[-1]
    for command in ("manifest show", "manifest stats", "manifest export --format csv", "review"):
        done = CliRunner().invoke(main, command.split())
        said = "Error: manifest.jsonl: there is no such file; `alpaca label FOLDER` writes one\n"
        assert (done.exit_code, done.stderr) == (2, said)


def moved(report):
    """(photos, moved, in_the_way, removed)"""
    return tuple(report["sorted"].values())[1:]


def files(folder):
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return found - {sort_into.RECORD}


@pytest.mark.slow
def test_what_others_put_there_is_never_touched(folder, label):
    label("photos", "--copy-to", "sorted")
    theirs = {
        "alpaca/photos/coffee.jpg": b"another photo of that name",
        "favourites/photos/coffee.jpg": (folder / "photos/coffee.jpg").read_bytes(),
        "not alpaca/photos/notes.txt": b"words",
        "not alpaca/photos/alpaca.jpg": b"cropped",
    }
    for name, content in theirs.items():
        (folder / "sorted" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "sorted" / name).write_bytes(content)
    decide("manifest.jsonl", "photos/coffee.jpg", "alpaca")
    report = label("photos", "--copy-to", "sorted")
    assert moved(report) == (2, 0, 1, 0)
    for name, content in theirs.items():
        assert (folder / "sorted" / name).read_bytes() == content
    assert (folder / "sorted/not alpaca/photos/coffee.jpg").exists()


@pytest.mark.slow
def test_a_linked_folder_never_leads_to_the_photos_themselves(folder, label):
    (folder / "sorted").mkdir()
    os.symlink("..", folder / "sorted/not alpaca")
    label("photos/alpaca.jpg", "photos/cat.png", "--copy-to", "sorted", "--link")
    label("photos", "--copy-to", "sorted", "--link")
    decide("manifest.jsonl", "photos/coffee.jpg", "alpaca")
    label("photos", "--copy-to", "sorted", "--link")
    assert {"alpaca.jpg", "cat.png", "coffee.jpg"} <= files(folder / "photos")


@pytest.mark.slow
@pytest.mark.parametrize("link", [False, True])
def test_one_folder_per_label_has_each_photo_as_it_is_now(folder, photos, link, label):
    (folder / "more/photos").mkdir(parents=True)
    shutil.copy(folder / "photos/coffee.jpg", folder / "more/photos/cat.png")
    os.symlink("cat.png", folder / "photos/linked.png")

    def sort(new=None):
        if new:
            shutil.copy(photos / new, folder / "new")
            os.replace(folder / "new", folder / "photos/coffee.jpg")
        words = ["photos", "more/photos", "--copy-to", "sorted", *["--link"] * link]
        return moved(label(*words))

    others = "photos/cat.png", "photos/linked.png", "photos/coffee.jpg", "photos-2/cat.png"
    made = {"alpaca/photos/alpaca.jpg", *(f"not alpaca/{name}" for name in others)}
    for _ in range(2):
        assert sort() == (5, 0, 0, 0)
        assert files(folder / "sorted") == made
    linked = folder / "sorted/not alpaca/photos/linked.png"
    assert linked.read_bytes() == (folder / "photos/cat.png").read_bytes()
    copied = folder / "sorted/not alpaca/photos/coffee.jpg"
    for new in ("goat.jpg", "rocket.jpg"):
        assert sort(new) == (5, 0, 0, 0)
        assert copied.read_bytes() == (photos / new).read_bytes()
        assert copied.samefile(folder / "photos/coffee.jpg") is link
    assert sort("alpaca.jpg") == (5, 1, 0, 0)
    assert not copied.exists()
    decide("manifest.jsonl", "photos/coffee.jpg", "not alpaca")
    assert sort() == (5, 1, 0, 0)
    assert files(folder / "sorted") == made


@pytest.mark.slow
def test_copies_of_renamed_and_deleted_photos_go_with_prune_and_nothing_else_does(folder, label):
    (folder / "more").mkdir()
    shutil.copy(folder / "photos/cat.png", folder / "more/cat.png")
    label("photos", "more", "--copy-to", "sorted")
    os.rename(folder / "photos/coffee.jpg", folder / "photos/tea.jpg")
    for name in ("photos/alpaca.jpg", "photos/cat.png", "more/cat.png"):
        os.unlink(folder / name)
    shutil.copy(folder / "photos/tea.jpg", folder / "more/tea.jpg")
    (folder / "sorted/not alpaca/photos/cat.png").write_bytes(b"cropped by hand")
    assert moved(label("photos", "--copy-to", "sorted")) == (1, 0, 0, 0)
    assert (folder / "sorted/alpaca/photos/alpaca.jpg").exists()
    assert moved(label("photos", "--copy-to", "sorted", "--prune")) == (1, 0, 0, 2)
    left = {"photos/tea.jpg", "photos/cat.png", "more/cat.png"}
    assert files(folder / "sorted") == {f"not alpaca/{name}" for name in left}


@pytest.mark.slow
def test_a_copy_that_could_not_be_finished_is_not_there_and_is_made_by_the_next_run(
    folder, monkeypatch, label, run
):
    def fails(photo, copy):
        copy.write(photo.read(1000))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", fails)
        done = run("photos", "--copy-to", "sorted", code=1)
    said = "Error: sorted/alpaca/photos/alpaca.jpg: No space left on device."
    assert done.stderr.splitlines()[-1].startswith(said)
    assert files(folder / "sorted") == set()
    assert label("photos", "--copy-to", "sorted")["sorted"]["photos"] == 3


def test_folders_are_called_like_their_labels_in_any_script():
    for name in ("not alpaca", "アルパカ", "अल्पाका", "C++", "C##", "né", "a.b"):
        assert folder_name(name) == name
    assert folder_name("ne\N{COMBINING ACUTE ACCENT}") == "né"
    odd = ["..", ".", "", "a/b", "a\\b", "a%2Fb", "../x", ".hidden", "end.", " x", "a\nb", "\0"]
    made = [folder_name(name) for name in odd]
    assert len({*made}) == len(odd)
    assert not any(set(name) & set('/\\\n\0:*?"<>|') or name.startswith(".") for name in made)


@pytest.mark.slow
def test_a_link_to_another_drive_is_refused_in_a_sentence(folder, run):
    other = "/dev/shm"
    if not os.path.isdir(other) or os.stat(other).st_dev == os.stat(folder).st_dev:
        pytest.skip("there is no second drive")
    with tempfile.TemporaryDirectory(dir=other) as target:
        done = run("photos", "--copy-to", target, "--link", code=1)
        assert "leave out --link" in done.stderr.splitlines()[-1]
        assert files(Path(target)) == set()


@pytest.mark.slow
def test_a_watch_labels_what_lands_and_waits_for_what_is_being_written(folder, photos, label):
    os.unlink(folder / "photos/broken.jpg")
    process = start("label", "photos", "--watch", "--copy-to", "s", "--workers", 1, cwd=folder)
    manifest = folder / "manifest.jsonl"
    wait_until(lambda: manifest.exists() and manifest.read_bytes().count(b"\n") == 3, 60)
    file_of_the_watch = manifest.stat().st_ino
    data = (photos / "goat.jpg").read_bytes()
    with open(folder / "photos/goat.jpg", "wb") as file:
        for part in range(4):  # longer than one look to the next
            file.write(data[part * len(data) // 4 : (part + 1) * len(data) // 4])
            file.flush()
            time.sleep(0.7)
    copy = folder / "s/not alpaca/photos/goat.jpg"
    wait_until(copy.exists, 60)
    assert manifest.read_bytes().count(b"\n") == 4  # one append each, and no rewriting
    os.rename(folder / "photos", folder / "away")  # a network drive drops out
    time.sleep(2)
    os.rename(folder / "away", folder / "photos")
    for name in ("cat.png", "alpaca.jpg"):  # changed twice, it is still one photo
        data = (photos / name).read_bytes()
        (folder / "photos/goat.jpg").write_bytes(data)
        row = b'"photos/goat.jpg",.*"size":%d,' % len(data)
        wait_until(lambda row=row: re.search(row, manifest.read_bytes()), 60)
    wait_until((folder / "s/alpaca/photos/goat.jpg").exists, 60)
    assert manifest.stat().st_ino == file_of_the_watch
    stdout, stderr = interrupt(process)
    assert process.returncode == 0, stderr
    assert stderr.count("photos: cannot be read now; waiting for it\n") == 1
    assert "not alpaca    photos/goat.jpg" in stderr
    assert "4 of 4 photos labelled" in stdout
    assert "4 sorted into s/, 1 moved" in stdout
    watched = manifest.read_bytes()
    assert len(rows(manifest)) == 4
    assert label("photos")["unchanged"] == 4
    assert manifest.read_bytes() == watched


def test_the_summary_fits_80_columns():
    report = Report("20261124T042724Z-f14ba719655d", Counter(alpaca=100_000))
    report.labels["not alpaca"], report.failed, report.progress.confirmed = 123_456, 100_000, 326
    report.unreached, report.gone, report.overruled = {"b.jpg"}, 12, ["a.jpg"]
    report.skipped = Skipped(Counter(dict.fromkeys(Kind, 123_456)))
    text = click.unstyle(as_table(report, "manifest.jsonl"))
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "100,000 as before" in " ".join(text.split())

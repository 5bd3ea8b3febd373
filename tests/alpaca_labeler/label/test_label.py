"""`alpaca label` from end to end: real processes, real photos, real accidents."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from alpaca_labeler.console import Progress
from alpaca_labeler.label import command
from alpaca_labeler.main import main
from alpaca_labeler.table.row import Row
from alpaca_labeler.training import dataset
from alpaca_labeler.training.description import DatasetError
from tests.support import runs
from tests.support.raw import directory, tiff
from tests.support.rows import rows_of
from tests.support.runs import alpaca, children, interrupt, is_alive, rows, start, wait_until


@pytest.fixture
def many(tmp_path, photos):
    """Enough photos to interrupt a run in the middle."""
    (tmp_path / "photos").mkdir()
    for number in range(100):
        os.link(photos / "coffee.jpg", tmp_path / f"photos/{number:03}.jpg")
    return tmp_path


def test_the_command_labels_and_a_second_run_has_nothing_to_do(tmp_path, photos):
    report = runs.label(photos, cwd=tmp_path)
    assert sum(report["new"].values()) == 8
    found = rows(tmp_path / "manifest.jsonl")
    assert found[f"{photos}/alpaca.jpg"]["alpaca-metadata"]["class-name"] == "alpaca"
    assert os.listdir(tmp_path) == ["manifest.jsonl"]
    written = (tmp_path / "manifest.jsonl").read_bytes()
    again = runs.label(photos, cwd=tmp_path)
    assert (again["unchanged"], sum(again["new"].values())) == (8, 0)
    assert (tmp_path / "manifest.jsonl").read_bytes() == written


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_every_file_is_counted_once_however_far_the_look_ahead(folder, monkeypatch, ahead, label):
    label("photos")
    for number in range(4):
        shutil.copy(folder / "photos/cat.png", folder / f"photos/{number}.png")
    (folder / "photos/notes.txt").write_text("words")
    monkeypatch.setattr(command, "LOOK_AHEAD", ahead)
    progress = Mock(wraps=Progress)
    monkeypatch.setattr(command, "Progress", progress)
    report = label("photos")
    assert (sum(report["new"].values()), report["unchanged"], report["not_images"]) == (4, 3, 1)
    assert [call.args[1] for call in progress.call_args_list] == [4]


@pytest.mark.slow
def test_only_what_changed_is_labelled_again(folder, photos, label):
    label("photos")
    before = rows(folder / "manifest.jsonl")
    os.utime(folder / "photos/cat.png", (1, 1))
    shutil.copy(photos / "goat.jpg", folder / "photos/coffee.jpg")
    report = label("photos")
    assert (report["unchanged"], sum(report["new"].values())) == (1, 2)
    after = rows(folder / "manifest.jsonl")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"photos/cat.png", "photos/coffee.jpg"}
    report = label("photos", "--relabel")
    assert (report["unchanged"], sum(report["new"].values())) == (0, 3)
    assert len(rows(folder / "manifest.jsonl")) == 3


def failures(folder):
    """Source-ref: code."""
    found = rows_of(folder / "manifest.jsonl")
    return {row.source_ref: row.failure.code for row in found if row.failure}


@pytest.mark.slow
def test_a_photo_that_breaks_is_a_failure_until_it_is_whole_again(folder, photos, label, summary):
    shutil.copy(photos / "goat.jpg", folder / "photos")
    label("photos")
    (folder / "photos/coffee.jpg").write_bytes(b"no photo any more")
    for before, rate, code in ((0, 0.2, 1), (1, 0.2, 1), (1, 0.25, 0)):
        report = label("photos", "--max-failure-rate", rate, code=code)
        assert (report["unchanged"], report["failed"], report["failed_before"]) == (3, 1, before)
        assert failures(folder) == {"photos/coffee.jpg": "not-an-image"}
    shown = summary("photos")
    assert "failed 1 as before" in shown
    assert "unchanged 3 labelled before" in shown
    shutil.copy(photos / "coffee.jpg", folder / "photos/coffee.jpg")
    label("photos")
    assert failures(folder) == {}


@pytest.mark.slow
def test_what_only_looks_like_a_photo_is_skipped_or_named(folder, label):
    photos = folder / "photos"
    for place in ("@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg", "#recycle/b.jpg", "$RECYCLE.BIN/c.jpg"):
        (photos / place).parent.mkdir(parents=True)
        shutil.copy(photos / "coffee.jpg", photos / place)
    (photos / ".IMG_1.HEIC.icloud").write_bytes(b"bplist00")
    (photos / "notes").write_text("BMW notes: the oil was changed in May")
    thumbnail, full = directory(16, tag_254=1), directory(64)
    (photos / "DSC_1.NEF").write_bytes(tiff(thumbnail, inside=[full]))
    (photos / "renamed.tif").write_bytes(tiff(thumbnail, inside=[full]))
    report = label("photos")
    assert sum(report["labels"].values()) == 3
    assert report["skipped"] == {"system": 3, "not-downloaded": 1, "not-an-image": 1}
    assert report["not_downloaded"] == ["photos/.IMG_1.HEIC.icloud"]
    raw = ("photos/DSC_1.NEF", "photos/renamed.tif")
    assert failures(folder) == dict.fromkeys(raw, "unsupported")
    again = label("photos")
    assert (again["unchanged"], again["failed_before"]) == (3, 2)


@pytest.mark.slow
def test_dry_run_names_the_photos_and_writes_nothing(folder, label, run):
    done = run("photos", "--dry-run")
    assert done.stdout.split() == ["photos/alpaca.jpg", "photos/cat.png", "photos/coffee.jpg"]
    assert os.listdir(folder) == ["photos"]
    label("photos")
    with open(folder / "manifest.jsonl", "ab") as file:
        file.write(b'{"source-ref":"cut')
    before = (folder / "manifest.jsonl").read_bytes()
    done = run("photos", "--dry-run")
    assert done.stdout == ""
    assert done.stderr.startswith("manifest.jsonl: the last 18 bytes are no row, cut short by ")
    assert (folder / "manifest.jsonl").read_bytes() == before
    assert sorted(os.listdir(folder)) == ["manifest.jsonl", "photos"]


def test_the_table_counts_and_problems_name_their_photo(folder, run):
    (folder / "photos/empty.jpg").touch()
    (folder / "photos/notes.txt").touch()
    done = run("photos", "--max-failure-rate", 0.2, code=1)
    table = " ".join(done.stdout.split())
    assert table.startswith("photos new alpaca 1 1 not alpaca 2 2 needs review ")
    assert "failed 1 1 skipped 1 not images 3 of 4 photos labelled" in table
    problem, *steps, error = done.stderr.splitlines()
    assert problem == "photos/empty.jpg: the file is empty (0 bytes)"
    commands = ("alpaca review", "alpaca report --open", "alpaca manifest show --failed")
    assert [step.removeprefix("  Next:").strip() for step in steps] == ["", *commands]
    assert error.endswith("--max-failure-rate allows; see: alpaca manifest show --failed")


USAGE = """
photos --workers 0
photos --link
photos --manifest photos
photos none\x1b[2J
s3://
s3://b/ --watch
photos --max-failure-rate 2
photos --copy-to photos/sorted
photos --copy-to photos
photos --copy-to .
photos --copy-to link/sorted
photos/cat.png --copy-to photos
link/cat.png photos --copy-to link
s3://b/ --copy-to sorted
"""


def test_wrong_usage_exits_with_2_and_writes_nothing(folder, run):
    os.symlink("photos", folder / "link")
    for words in ("", *USAGE.strip().splitlines()):
        run(*words.split(), code=2)
    assert sorted(os.listdir(folder)) == ["link", "photos"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model none", "none: no model bundle there"),
        ("--manifest notes/m.jsonl", "notes/m.jsonl: cannot be written"),
        ("--manifest photos/cat.png", "photos/cat.png: not a manifest"),
        ("--manifest garbage", "garbage: line 2: not JSON"),
        ("--manifest notes", "notes: not a manifest"),
        ("--manifest /dev/null", "/dev/null: not a regular file"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(folder, run, words, message):
    (folder / "garbage").write_text('{"source-ref":"a"}\nxxxx\n{"source-ref":"b"}\n')
    (folder / "notes").write_text("my notes\nwithout an end")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run("photos", *words.split(), code=1)
    assert done.stderr.startswith(f"Error: {message}")
    assert done.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert os.path.exists("/dev/null")


@pytest.mark.slow
def test_odd_names_are_labelled_and_never_steer_the_terminal(folder, label):
    for name in ("new\nline", "\x1b[31mred", "\udcff\udcfe", "ü アルパカ", "-x"):
        shutil.copy(folder / "photos/cat.png", folder / f"photos/{name}.png")
    (folder / "photos/bad\x1b[2J.png").write_text("no photo")
    dry = alpaca("label", "photos", "--dry-run", cwd=folder)
    done = alpaca("label", "photos", "--workers", 1, cwd=folder, env={"PYTHONIOENCODING": "ascii"})
    show = alpaca("manifest", "show", cwd=folder, env={"PYTHONIOENCODING": "ascii"})
    for run in (dry, done, show):
        assert run.returncode == 0
        assert "\x1b" not in run.stdout + run.stderr
    assert dry.stdout.count("\n") == 9
    assert show.stdout.count("\n") == 9
    found = rows(folder / "manifest.jsonl")
    assert "photos/new\nline.png" in found
    assert "file:photos/%FF%FE.png" in found
    assert label("photos")["unchanged"] == 8


def wait_for_rows(many, count):
    path = many / "manifest.jsonl"
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= count)


def started(many, rows_first=10):
    """A run in its middle, and its workers."""
    process = start("label", "photos", "--workers", 2, cwd=many)
    wait_for_rows(many, rows_first)
    return process, children(process.pid)


@pytest.mark.slow
def test_killed_workers_are_replaced_and_ctrl_c_keeps_what_is_done(many, label):
    process, killed = started(many)
    for worker, how in zip(killed, (signal.SIGKILL, signal.SIGSEGV), strict=True):
        os.kill(worker, how)
    wait_for_rows(many, 40)
    workers = children(process.pid)
    assert len(workers) == 2
    assert workers != killed
    _, stderr = interrupt(process)
    assert process.returncode == 130
    assert stderr.endswith("Interrupted. Run the same command again to go on.\n")
    assert not any(map(is_alive, workers))
    done, failed = len(rows(many / "manifest.jsonl")), len(failures(many))
    assert 40 <= done < 100
    assert failed <= 2
    report = label("photos")
    assert (report["unchanged"], report["failed_before"]) == (done - failed, failed)
    assert len(rows(many / "manifest.jsonl")) == 100


def test_ctrl_c_while_starting_exits_with_130(many):
    process = start("label", "photos", cwd=many)
    wait_until(lambda: children(process.pid))
    workers = children(process.pid)
    _, stderr = interrupt(process)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    wait_until(lambda: not any(map(is_alive, workers)))


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing_and_leaves_no_orphan(many, label):
    known: dict[str, Row] = {}
    for rows_first in (1, 20, 40, 60):
        process, workers = started(many, rows_first)
        interrupt(process, signal.SIGKILL)
        wait_until(lambda workers=workers: not any(map(is_alive, workers)))
        with open(many / "manifest.jsonl", "ab") as file:
            file.write(b'{"source-ref":"photos/000.jpg","alpaca":0,"alp')
        found = {row.source_ref: row for row in rows_of(many / "manifest.jsonl")}
        assert known.items() <= found.items()
        known = found
    report = label("photos")
    assert report["unchanged"] == len(known)
    assert len(rows(many / "manifest.jsonl")) == 100
    assert sorted(os.listdir(many)) == ["manifest.jsonl", "photos"]


@pytest.mark.slow
def test_a_drive_that_drops_out_for_a_moment_costs_no_photo(many, label):
    process, _ = started(many)
    os.rename(many / "photos", many / "away")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode in {0, 1}, stderr
    assert "not reached" in stdout
    os.rename(many / "away", many / "photos")
    report = label("photos")
    assert (report["failed"], sum(report["labels"].values())) == (0, 100)


@pytest.mark.slow
def test_a_full_disk_loses_nothing(folder, monkeypatch):
    def tiny():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))

    # Coverage measures commands too, and would fail to write its own file.
    for name in [name for name in os.environ if name.startswith("COVERAGE")]:
        monkeypatch.delenv(name)
    done = alpaca("label", "photos", cwd=folder, preexec_fn=tiny)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: manifest.jsonl: File too large. What is labelled")
    written = (folder / "manifest.jsonl").read_bytes()
    assert (written[-1:], written.count(b"\n")) == (b"\n", 2)  # no cut row
    assert runs.label("photos", cwd=folder)["unchanged"] == 2
    assert len(rows(folder / "manifest.jsonl")) == 3


def humble():
    """Give up root's right to read and write everything, if the tests run as root."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.slow
def test_without_permission_each_is_told_and_the_rest_goes_on(folder):
    os.chmod(folder / "photos/cat.png", 0)
    (folder / "photos/locked").mkdir(mode=0)
    os.chmod(folder, 0o555)
    done = alpaca("label", "photos", cwd=folder, preexec_fn=humble)
    os.chmod(folder, 0o755)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: manifest.jsonl: cannot be written (Permission denied)")
    report = runs.label("photos", cwd=folder, preexec_fn=humble)
    assert (report["failed"], sum(report["new"].values())) == (1, 2)
    assert report["unreadable_folders"] == ["photos/locked"]
    assert failures(folder) == {"photos/cat.png": "unreadable"}
    os.chmod(folder / "photos/cat.png", 0o644)
    assert sum(runs.label("photos", cwd=folder)["new"].values()) == 1


def test_a_reader_that_has_seen_enough_is_no_error(many):
    line = f"{shlex.join([*runs.COMMAND, 'label', 'photos', '--dry-run'])} | head -n 1"
    done = subprocess.run(line, shell=True, cwd=many, capture_output=True, text=True, check=True)
    assert done.stdout == "photos/000.jpg\n"
    assert re.fullmatch(r"(100 to label with .*\n)?", done.stderr)  # nothing if it came too late


@pytest.mark.slow
def test_a_bucket_gives_the_rows_of_a_folder(folder, served):
    served.create_bucket(Bucket="farm")
    for path in (folder / "photos").iterdir():
        served.upload_file(str(path), "farm", f"a b/{path.name}")
    served.put_object(Bucket="farm", Key="a b/empty.jpg", Body=b"")
    served.put_object(Bucket="farm", Key="a b/notes.txt", Body=b"words")
    runs.label("photos", "--manifest", "local.jsonl", cwd=folder)
    report = runs.label("s3://farm/a b/", "s3://farm/", "--manifest", "m.jsonl", cwd=folder)
    assert (report["failed"], report["not_images"]) == (1, 1)

    def judged(name):
        found = {}
        for source_ref, row in rows(folder / name).items():
            read = row["labeler"]["read"]
            seen = {key: read.get(key) for key in ("content", "size", "width", "height")}
            answer = row["labeler"]["answer"], row.get("alpaca")
            found[source_ref.rpartition("/")[2]] = seen, *answer
        return found

    there = judged("m.jsonl")
    assert there.pop("empty.jpg")[1]["failure"]["code"] == "empty"
    assert there == judged("local.jsonl")
    again = runs.label("s3://farm/", "--manifest", "m.jsonl", cwd=folder)
    assert (again["unchanged"], again["failed_before"]) == (3, 1)


def test_one_limit_on_bytes_holds_for_every_command_that_reads_photos(folder, run, monkeypatch):
    monkeypatch.setenv("ALPACA_MAX_BYTES", "100000")  # which is what the option sets
    run("photos", "--workers", 1)
    [failed] = [row for row in rows_of("manifest.jsonl") if row.failure]
    assert failed.source_ref == "photos/cat.png"
    assert "131,800 bytes, over the limit of 100,000; --max-bytes" in failed.failure.message
    report = CliRunner().invoke(main, ["report", "--max-bytes", "60000"])
    assert "1 photo could not be shown" in report.stderr
    for name in ("cat.png", "coffee.jpg"):
        (folder / f"pets/{name[:3]}").mkdir(parents=True)
        shutil.copy(folder / f"photos/{name}", folder / f"pets/{name[:3]}")
    with pytest.raises(
        DatasetError, match=r"no photos of 'cat'; 1 could not be used, such as .*limit"
    ):
        dataset.load("pets", 32)
    run("photos", "--workers", 1, "--max-bytes", 200_000)
    assert not [row for row in rows_of("manifest.jsonl") if row.failure]

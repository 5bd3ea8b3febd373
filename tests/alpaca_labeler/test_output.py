"""What is written is written whole, where its name leads, and over nothing that must be kept."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
from dataclasses import replace

import pytest
from click.testing import CliRunner

from alpaca_labeler.console.output import whole
from alpaca_labeler.main import main
from tests.support.rows import label
from tests.support.runs import COMMAND, alpaca

EXPORT = ("manifest", "export", "--format", "csv", "-o")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A manifest with a photo, and what other people keep beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/goät.jpg").write_text("a photo")
    names = "\0/goät.jpg", "photos/goät.jpg", "s3://b/goat.jpg"
    lines = (replace(label(""), source_ref=name).to_line() for name in names)
    (tmp_path / "manifest.jsonl").write_bytes(b"".join(lines))
    (tmp_path / "out.csv.partial").write_text("my work")
    return tmp_path


def export(output, code=0):
    done = CliRunner().invoke(main, [*EXPORT, output])
    assert done.exit_code == code, done.output
    return done


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_has_its_name_only_when_it_is_complete(tmp_path, durable):
    path = tmp_path / "a"
    with whole(str(path), "wb", durable=durable) as file:
        file.write(b"one")
        assert not path.exists()
    path.chmod(0o604)
    with pytest.raises(ZeroDivisionError), whole(str(path)) as file:
        file.write(f"two {1 / 0}")
    with pytest.raises(OSError, match="No space left") as failed, whole(str(path)) as file:
        raise OSError(errno.ENOSPC, "No space left")
    assert failed.value.filename == str(path)
    assert path.read_bytes() == b"one"
    with whole(str(path)) as file:
        file.write("ü\n")
    assert path.read_bytes() == b"\xc3\xbc\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_is_followed_and_stays_and_so_does_a_similar_name(folder):
    (folder / "elsewhere").mkdir()
    for name in ("there.csv", "new.csv"):
        link = folder / name
        link.symlink_to(f"elsewhere/{name}")
    (folder / "elsewhere/there.csv").write_text("old")
    export("out.csv")
    assert (folder / "out.csv.partial").read_text() == "my work"
    for name in ("there.csv", "new.csv"):
        export(name)
        assert (folder / name).is_symlink()
        assert "photos/goät.jpg" in (folder / "elsewhere" / name).read_text()
    assert sorted(os.listdir(folder / "elsewhere")) == ["new.csv", "there.csv"]


def test_pipes_and_devices_are_written_to_and_stay(folder):
    os.mkfifo(folder / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((folder / "pipe").read_text()))
    reader.start()
    export("pipe")
    reader.join()
    assert "photos/goät.jpg" in got[0]
    assert stat.S_ISFIFO((folder / "pipe").stat().st_mode)
    export("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}  # what is left is written when Python ends
    for words in (["--help"], ["--version"], ["label", "--help"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*COMMAND, *words], stdout=full, stderr=-1, env=buffered, check=False
            )
        assert (done.returncode, done.stderr) == (1, b"Error: No space left on device\n")
    for name in ("-", "/dev/stdout", "/dev/fd/1"):
        env = {"PYTHONIOENCODING": "ascii"}
        assert "photos/goät.jpg" in alpaca(*EXPORT, name, cwd=folder, env=env).stdout
    with open(folder / "log", "w") as log:  # as a shell does with `>> log`
        log.write("before\n")
        log.flush()
        with whole(f"/proc/self/fd/{log.fileno()}") as file:
            file.write("after\n")
    assert (folder / "log").read_text() == "before\nafter\n"


@pytest.mark.parametrize(
    "output", ["manifest.jsonl", "./manifest.jsonl", "photos/goät.jpg", "link.csv", "link.html"]
)
def test_neither_the_table_nor_a_photo_is_overwritten(folder, output):
    (folder / "link.csv").symlink_to("photos/goät.jpg")
    (folder / "link.html").symlink_to("manifest.jsonl")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "name another file" in export(output, code=2).stderr
    if output == "link.html":
        done = CliRunner().invoke(main, ["report", "--no-photos", "-o", output])
        assert (done.exit_code, "name another file" in done.stderr) == (2, True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

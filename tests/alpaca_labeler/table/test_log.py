"""A folder's table is one file that many append to, and nothing that they say is lost."""

import errno
import multiprocessing
import os
import random
import resource
import signal
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler.table.facts import timestamp
from alpaca_labeler.table.log import Log, LogError
from alpaca_labeler.table.row import ManifestError, Row
from tests.support.rows import reading, rows_of

SPAWN = multiprocessing.get_context("spawn")


def row(name, at=1, label="alpaca"):
    return reading(name, timestamp(datetime.fromtimestamp(at, UTC)), f"sha256:{at}", label)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "manifest.jsonl")


def append(path, *rows, **how):
    with Log(path) as table:
        table.append(rows, **how)


def settle(path, *keep):
    with Log(path) as table:
        table.settle(*keep)


def names(path):
    return [row.source_ref for row in rows_of(path)]


def test_a_settled_file_has_one_sorted_row_per_photo(path):
    append(path, *(row(f"{n % 7}", n) for n in range(50)))
    settle(path)
    lines = Path(path).read_bytes().splitlines(keepends=True)
    assert lines == [each.to_line() for each in rows_of(path)]
    assert names(path) == [*"0123456"]
    before = os.stat(path).st_ino
    append(path, row("0", 100, "goat"))
    assert os.stat(path).st_ino == before  # one photo costs one append
    assert rows_of(path)[0].label == "goat"


def test_a_settled_file_is_left_alone(path):
    append(path, row("b"), row("a"))
    settle(path)
    before = os.stat(path)
    settle(path)
    assert os.stat(path).st_ino == before.st_ino
    settle(path, lambda row: row[0] != "a")
    assert names(path) == ["b"]


def test_a_file_that_others_have_extended_is_settled_from_its_start(path):
    append(path, row("b"), row("d"))
    with Log(path) as run:
        run.run()
        append(path, row("c"), row("e"), row("a"))
        run.settle()
    lines = Path(path).read_bytes().splitlines()
    assert [Row.from_line(line).source_ref for line in lines] == [*"abcde"]


@given(st.lists(st.tuples(st.sampled_from("abcdé"), st.integers(0, 9))), st.data())
def test_it_makes_no_difference_when_a_file_is_settled(tmp_path_factory, history, data):
    paths = [str(tmp_path_factory.mktemp("log") / "manifest.jsonl") for _ in range(2)]
    for name, at in history:
        for each in paths:
            append(each, row(name, at))
        if data.draw(st.booleans()):
            settle(paths[0])
    assert rows_of(paths[0]) == rows_of(paths[1])


def test_a_file_that_is_too_large_to_be_sorted_in_memory_is_sorted(path, monkeypatch):
    monkeypatch.setattr("alpaca_labeler.table.lines.RUN_BYTES", 2000)
    order = [f"{n:04}" for n in range(500)]
    random.Random(1).shuffle(order)
    append(path, *map(row, order))
    assert names(path) == sorted(order)


def test_a_file_without_rows_goes_away(path):
    with Log(path) as table:
        table.run()
        assert os.path.exists(path)
    assert not os.path.exists(path)
    assert names(path) == []


def test_a_last_row_without_its_newline_counts(path):
    append(path, row("a"))
    with open(path, "ab") as file:
        file.write(row("b").to_line().rstrip())
    assert names(path) == ["a", "b"]
    append(path, row("c"))
    assert names(path) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "end", [b"\0" * 5000, b'{"source-ref":"c","labe', b"{", b'{"sou\0\0\0', b"\0" * 2**21]
)
def test_a_cut_end_is_said_and_cut_off(path, end, caplog):
    append(path, row("a"), row("b"))
    with open(path, "ab") as file:
        file.write(end)
    assert names(path) == ["a", "b"]
    assert f"the last {len(end):,} bytes are no row" in caplog.text
    settle(path)
    assert Path(path).read_bytes() == row("a").to_line() + row("b").to_line()
    append(path, row("c"))
    settle(path)
    assert names(path) == ["a", "b", "c"]
    assert b"\0" not in Path(path).read_bytes()


@pytest.mark.parametrize("end", [b"dear diary", b'{"other": 1', b"\xff\xfe{\0"])
def test_a_file_of_somebody_else_is_left_as_it_is(path, end):
    with open(path, "wb") as file:
        file.write(end)
    with pytest.raises(ManifestError):
        append(path, row("a"))
    assert Path(path).read_bytes() == end


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EACCES])
def test_a_file_that_cannot_be_replaced_stays_as_it_was_written(path, number, monkeypatch):
    append(path, row("b"), row("a"), row("b", 2, "goat"))

    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(number, os.strerror(number))))
    before = Path(path).read_bytes()
    settle(path)
    assert Path(path).read_bytes() == before
    assert os.listdir(os.path.dirname(path)) == ["manifest.jsonl"]


def test_a_link_that_somebody_planted_is_not_followed(path, tmp_path):
    other = tmp_path / "precious"
    other.write_text("mine")
    os.symlink(other, tmp_path / ".manifest.jsonl.new")
    append(path, row("b"), row("a"))
    settle(path)
    assert other.read_text() == "mine"
    assert names(path) == ["a", "b"]


def test_a_link_stays_a_link_and_a_file_keeps_its_permissions(path, tmp_path):
    real = tmp_path / "elsewhere" / "real.jsonl"
    real.parent.mkdir()
    append(str(real), row("b"), row("a"))
    real.chmod(0o640)
    os.symlink(real, path)
    settle(path)
    assert os.path.islink(path)
    assert real.stat().st_mode & 0o777 == 0o640
    assert names(path) == ["a", "b"]


LESS = [("os.fchmod", errno.EPERM), ("os.fsync", errno.EINVAL)]
LESS += [("fcntl.fcntl", number) for number in (errno.ENOLCK, errno.EOPNOTSUPP)]


@pytest.mark.parametrize(("call", "number"), LESS)
def test_a_drive_that_offers_less_is_worked_on(path, call, number, monkeypatch, caplog):
    monkeypatch.setattr(call, Mock(side_effect=OSError(number, os.strerror(number))))
    append(path, row("b"), row("a"), sync=True)
    settle(path)
    assert names(path) == ["a", "b"]
    said = caplog.text.count(f"{os.path.dirname(path)}: this drive cannot lock files")
    assert said == (call == "fcntl.fcntl")


def test_a_pipe_is_refused(path):
    os.mkfifo(path)
    with pytest.raises(LogError, match="not a regular file"):
        append(path, row("a"))


def test_a_full_disk_takes_all_rows_or_none(path):
    append(path, row("a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + 1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            append(path, *(row(f"b{n}") for n in range(9)), sync=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(path) == ["a"]


def refused(log):
    with pytest.raises(LogError, match="another run is writing it"):
        log.run()


def test_two_runs_at_once_are_refused_and_a_page_shares_the_file_with_a_run(path):
    with Log(path) as run, Log(path) as other, Log(path) as page:
        run.run()
        for _ in range(2):  # a run that is refused leaves the other its lock before its first row
            with Log(path) as another:
                refused(another)
        run.append([row("b")])
        refused(other)
        with Log(path) as another:
            refused(another)
        page.append([row("a")], sync=True)
        run.settle()
        refused(other)
        page.append([row("c")], sync=True)
        run.append([row("d")])
    assert names(path) == ["a", "b", "c", "d"]
    with Log(path) as other:
        other.run()


def _say(path, who, count):
    with Log(path) as table:
        for number in range(count):
            table.append([row(f"{who}-{number}")])


def _settle_often(path):
    with Log(path) as table:
        while True:
            table.settle()


@pytest.mark.slow
def test_four_processes_append_while_a_fifth_settles_and_is_killed(path):
    writers = [SPAWN.Process(target=_say, args=(path, who, 300)) for who in "abcd"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        settler = SPAWN.Process(target=_settle_often, args=(path,))
        settler.start()
        settler.join(random.Random(4).uniform(0.3, 0.6))
        settler.kill()
        settler.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    assert {*names(path)} == {f"{who}-{n}" for who in "abcd" for n in range(300)}
    settle(path)
    assert len(Path(path).read_bytes().splitlines()) == 1200

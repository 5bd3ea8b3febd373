"""The manifest on this machine: locked, repaired, settled, never lost."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta

import pytest

from alpaca_labeler.model.bundle import Card
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import jsonl, manifest_row
from alpaca_labeler.table import ledger as module
from alpaca_labeler.table.ledger import Ledger, LedgerError
from alpaca_labeler.table.manifest_row import Failure

CARD = Card("1-a", "alpaca", ("not", "alpaca"), 0.5, (0.4, 0.6), 8, "", (1.0, 0.0), "")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def image(name, size=1):
    return ImageVersion(name, size, "2026-01-01T00:00:00.000000000Z")


def good(name, size=1, minute=0):
    made = NOON + timedelta(minutes=minute)
    return manifest_row.label_row(image(name, size), (1, 1), decide(CARD, 1.0), CARD, made)


def bad(name, size=1, minute=0, code="corrupt"):
    made = NOON + timedelta(minutes=minute)
    return manifest_row.failure_row(image(name, size), Failure(code, ""), "1-a", made)


@pytest.fixture
def files(tmp_path):
    return tmp_path / "m.jsonl", tmp_path / "f.jsonl"


def names(path):
    if not path.exists():
        return []
    return [manifest_row.parse(line)["source-ref"] for line in path.read_bytes().splitlines()]


def write(files, *rows, settle=True):
    with Ledger(*map(str, files)) as found:
        found.load("1-a")
        for row in rows:
            found.append(row)
        if settle:
            found.settle()


def test_settled_files_are_sorted_with_one_row_an_image(files):
    write(files, good("b"), good("a"), bad("c"), good("b", 2, 1), settle=False)
    assert names(files[0]) == ["b", "a", "b"]
    write(files)
    assert (names(files[0]), names(files[1])) == (["a", "b"], ["c"])


def test_of_a_label_and_a_failure_the_later_stands(files):
    write(files, good("a"), bad("b"))
    write(files, bad("a", 2, 1), good("b", 2, 1))
    assert (names(files[0]), names(files[1])) == (["b"], ["a"])


def test_a_clock_that_was_set_back_decides_nothing(files):
    write(files, good("a", minute=9), bad("b", minute=9))
    write(files, bad("a", 2), good("b", 2))
    assert (names(files[0]), names(files[1])) == (["b"], ["a"])
    with Ledger(*map(str, files)) as found:
        found.load("1-a")
        for row in (good("a", 3, -1), bad("b", 3, -1)):
            found.append(row)
            found.settle()
    assert (names(files[0]), names(files[1])) == (["a"], ["b"])


def test_a_row_is_known_for_its_version_and_model_only(files):
    write(files, good("a"), bad("b"), bad("c", code="unreadable"))
    with Ledger(*map(str, files)) as found:
        found.load("1-a")
        known = [found.has(image(name)) for name in "abcd"]
        assert known == [True, True, False, False]
        assert found.had_failed(image("c"))
        assert not found.has(image("a", 2))
        found.load("2-b")
        assert not found.has(image("a"))
        found.load(None)
        assert not found.has(image("a"))


def test_what_another_decoder_could_not_read_is_new(files):
    def failed(name, code, decoder):
        return manifest_row.failure_row(image(name, 1), Failure(code, "", decoder), "1-a", NOON)

    rows = [failed("a", "corrupt", "old"), failed("b", "unsupported", ""), failed("c", "empty", "")]
    write(files, *rows, failed("d", "corrupt", "new"))
    with Ledger(*map(str, files)) as found:
        found.load("1-a", "new")
        assert [found.has(image(name)) for name in "abcd"] == [False, False, True, True]
        assert not any(found.had_failed(image(name)) for name in "abcd")


def test_a_persons_row_stands_for_every_model(files):
    row = good("a")
    row["alpaca-metadata"]["human-annotated"] = "yes"
    write(files, row)
    with Ledger(*map(str, files)) as found:
        found.load("2-b")
        assert found.has(image("a"))


@pytest.mark.parametrize("share", [1, 12, 100, -2])
def test_a_truncated_last_line_is_cut_off(files, share):
    write(files, good("a"))
    whole = files[0].read_bytes()
    files[0].write_bytes(whole + manifest_row.encode(good("b"))[:share])
    write(files)
    assert files[0].read_bytes() == whole


def test_a_last_row_without_its_newline_is_kept(files):
    write(files, good("a"))
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:-1])
    write(files, good("b"))
    assert names(files[0]) == ["a", "b"]


@pytest.mark.parametrize("text", [b"my notes", b"one\ntwo", b"\xff\xd8\xff", b"x" * (2**20 + 9)])
def test_a_file_of_another_kind_is_left_as_it_is(files, text):
    files[0].write_bytes(text)
    with pytest.raises(LedgerError, match=r"m\.jsonl: not a manifest"):
        write(files)
    assert files[0].read_bytes() == text


def test_a_second_run_is_refused_also_after_settling(files):
    with Ledger(*map(str, files)) as first:
        first.load("1-a")
        first.append(good("a"))
        for _ in range(2):
            with pytest.raises(LedgerError, match="another run"):
                write(files)
            first.settle()


@pytest.mark.parametrize("moment", ["open", "fsync", "replace 1", "replace 2"])
def test_killed_while_it_settles_it_loses_nothing(files, monkeypatch, moment):
    write(files, good("a"), bad("b"), good("c"))
    left = 2 if moment == "replace 2" else 1
    name, _, _ = moment.partition(" ")
    real = open if name == "open" else getattr(os, name)

    def dies(*arguments, **options):
        nonlocal left
        left -= 1 if name != "open" or arguments[1] == "wb" else 0
        if left == 0:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module if name == "open" else os, name, dies, raising=False)
        with pytest.raises(KeyboardInterrupt):
            write(files, bad("a", 2, 1), good("b", 2, 1), good("d"))
    write(files)
    assert (names(files[0]), names(files[1])) == (["b", "c", "d"], ["a"])
    assert sorted(os.listdir(files[0].parent)) == ["f.jsonl", "m.jsonl"]


def test_a_short_write_is_written_on():
    class Slow(io.BytesIO):
        def write(self, data):
            return super().write(data[:7])

    slow = Slow()
    jsonl.write(slow, b"a line of more than seven bytes\n")
    assert slow.getvalue() == b"a line of more than seven bytes\n"


def test_a_link_stays_a_link_and_files_keep_their_mode(files, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/real.jsonl").touch(mode=0o640)
    os.symlink("there/real.jsonl", files[0])
    write(files, good("b"), good("a"))
    assert files[0].is_symlink()
    assert names(tmp_path / "there/real.jsonl") == ["a", "b"]
    assert (tmp_path / "there/real.jsonl").stat().st_mode & 0o777 == 0o640


def test_a_manifest_that_cannot_be_used_leaves_no_empty_file_behind(files):
    files[1].mkdir()
    with pytest.raises(LedgerError, match="not a regular file"):
        write(files)
    assert not files[0].exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n", b"\n\n"),  # blank lines
        (b'{"source-ref":"a"', b'\xef\xbb\xbf{"source-ref":"a"'),
        (b'"source-ref":"a"', b'"source-ref":"./a"'),
        (b'"source-ref":"b"', b'"source-ref":"c/../b"'),
        (b'"source-ref":"b"', b'"source-ref":"x","source-ref":"b"'),
        (b'"source-ref":"b"', b'"source-ref": "b"'),
        (b"}\n", b"} \n"),
    ],
)
def test_a_manifest_that_was_edited_is_read_as_the_one_before(files, old, new):
    write(files, good("a"), good("b"), bad("f"))
    with Ledger(*map(str, files)) as found:
        found.load("1-a")
        before = [manifest_row.parse(line) for line, _ in found.table()]
    for file in files:
        file.write_bytes(file.read_bytes().replace(old, new))
    with Ledger(*map(str, files)) as found:
        found.load("1-a")
        assert [manifest_row.parse(line) for line, _ in found.table()] == before
        assert found.gone() == ["a", "b", "f"]
        found.named(image(str(files[0].with_name("f"))))
        assert [row["source-ref"] for row in found.found()] == ["f"]


def test_peeking_writes_nothing(files):
    found = Ledger(*map(str, files))
    found.peek("1-a")
    assert not found.has(image("a"))
    write(files, good("b"), good("a"), settle=False)
    files[0].write_bytes(files[0].read_bytes() + b'{"source-ref":"to')
    before = files[0].read_bytes()
    found.peek("1-a")
    assert found.has(image("a"))
    assert files[0].read_bytes() == before
    files[0].write_bytes(b"cut}\n" + before)
    with pytest.raises(manifest_row.ManifestError, match="line 1"):
        found.peek("1-a")

"""Every command: its help, and one sentence for whatever it is given."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from unittest.mock import Mock

import click
import pytest
from click.testing import CliRunner

from alpaca_labeler.console import arguments
from alpaca_labeler.main import COMMANDS, main
from alpaca_labeler.photos import images
from alpaca_labeler.pipeline.labeler import Labeler
from alpaca_labeler.pipeline.worker import Ready
from tests.support.permissions import without_overrides
from tests.support.reference import PAGE, commands, leaves, reference
from tests.support.runs import COMMAND, alpaca

EVERY = [pytest.param(*found, id=" ".join(found[0]) or "alpaca") for found in commands()]
LEAVES = [pytest.param(*found, id=" ".join(found[0])) for found in leaves()]


def run(*words, **settings):
    return CliRunner().invoke(main, words, **settings)


ROW = b'{"source-ref":"a.jpg","alpaca":0,"alpaca-metadata":{"class-name":"alpaca"}}\n'

HOSTILE = (
    *"missing missing/ folder empty binary latin-1 unreadable locked rows.jsonl".split(),
    *("dangling", "loop", "new\nline\x1b[2J", "n" * 300, "", "-", "nan", "1" + "0" * 22),
    *("s3://bucket/prefix/", "s3://bucket/rows.jsonl", "s3://", "S3://bucket", "gs://bucket/k"),
    *("https://example.com/a.jpg", "arn:aws:s3:eu-west-1:123456789012:accesspoint/name"),
)


@pytest.fixture
def here(tmp_path, monkeypatch, aws, photos):
    """Every kind of file and folder, two classes of photos, and a bucket without any object."""
    monkeypatch.chdir(tmp_path)
    aws.create_bucket(Bucket="bucket")
    for name, taken in (("alpaca", "alpaca.jpg"), ("not alpaca", "cat.png")):
        (tmp_path / "folder" / name).mkdir(parents=True)
        shutil.copy(photos / taken, tmp_path / "folder" / name)
    (tmp_path / "locked").mkdir(mode=0)
    files = {"empty": b"", "binary": bytes(range(256)) * 9, "rows.jsonl": ROW, "unreadable": ROW}
    for name, content in {**files, "latin-1": "Zaunkönig,größer\n".encode("latin-1")}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "unreadable").chmod(0)
    os.symlink("nowhere", tmp_path / "dangling")
    os.symlink("loop", tmp_path / "loop")
    endless = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr("webbrowser.open", endless)
    for name in ("review.server.Server.serve_forever", "job.local_aws.Sandbox.run"):
        monkeypatch.setattr(f"alpaca_labeler.{name}", endless)
    monkeypatch.setattr("alpaca_labeler.training.experiment.train", endless)
    monkeypatch.setattr("alpaca_labeler.label.command.Workers", InProcess)
    yield tmp_path
    (tmp_path / "locked").chmod(0o755)


def calls(words, command):
    """Yield the words of calls, each parameter in turn with hostile values."""
    # What else a command asks for is right, or at least of the right kind.
    fill = {
        param: _usual(param)
        for param in command.params
        if param.required or isinstance(param, click.Argument)
    }
    for hostile in command.params:
        if getattr(hostile, "is_flag", False) or hostile.name == "help":
            continue
        for value in HOSTILE:
            given = [*words]
            for param, usual in {**fill, hostile: None}.items():
                word = value if param is hostile else usual
                given += [param.opts[0]] * isinstance(param, click.Option)
                given += [word] * max(param.nargs, 1)
            yield given


def _usual(param):
    place = param.human_readable_name.strip("[].").lower()
    if isinstance(param.type, click.Choice):
        return param.type.choices[0]
    if "uri" in str(param.name) or place in {"results", "input"}:
        return "s3://bucket/prefix/"
    if param.type is arguments.BUNDLE:
        return "embedded"
    return "rows.jsonl" if place in {"manifest", "file", "corrections"} else "folder"


@contextmanager
def at_most(seconds):
    def stop(*_):
        pytest.fail("the command did not come to an end")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("words", "command"), LEAVES)
def test_a_hostile_argument_gives_one_sentence_and_never_a_traceback(words, command):
    for given in calls(words, command):
        with at_most(30), without_overrides():
            done = run(*given)
        said = f"{given}: {done.exit_code}\n{done.output}"
        assert done.exception is None or isinstance(done.exception, SystemExit), said
        assert done.exit_code in {0, 1, 2, 130}, said
        for wrong in ("fault in alpaca", "Traceback", "\x1b"):
            assert wrong not in done.output, said
        if done.exit_code in {1, 2}:
            lines = done.stderr.splitlines()
            assert sum(line.startswith("Error: ") for line in lines) == 1, said
            assert lines[-1].startswith("Error: "), said
            assert len(lines[-1]) > len("Error: ") + 10, said


class InProcess:
    """Labels without processes of its own: hundreds of them would take minutes to start."""

    def __init__(self, job, _count):
        self.labeler = Labeler(job.model)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ready(self):
        return Ready(self.labeler.card.version, self.labeler.card.labels, images.DECODER)

    def label(self, images):
        return self.labeler.label(images)


def test_a_mistyped_command_gets_a_suggestion():
    for words, meant in (
        ("lable", "label"),
        ("manifest shwo", "show"),
        ("models promot", "promote"),
    ):
        done = run(*words.split())
        assert (done.exit_code, f"Did you mean '{meant}'?" in done.stderr) == (2, True), words


def test_ctrl_c_and_an_unexpected_error_are_one_sentence(monkeypatch, tmp_path):
    (tmp_path / "manifest.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    fails = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(main.get_command(click.Context(main), "report"), "callback", fails)
    said = "\nInterrupted. Run the same command again to go on.\n"
    assert (run("report").exit_code, run("report").stderr) == (130, said)
    fails.side_effect = ZeroDivisionError("by\nzero")
    done = run("report")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: ZeroDivisionError: by\\nzero. This is a fault in alpaca")
    shown = run("report", env={"ALPACA_TRACEBACK": "1"})
    assert isinstance(shown.exception, ZeroDivisionError)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_without_no_color(no_color, coloured):
    words = ["report", "nope.jsonl"]
    done = run(*words, env={"NO_COLOR": no_color}, color=True)
    assert ("\x1b[" in done.output) is coloured
    assert "\x1b" not in run(*words).output  # in a pipe


def test_ctrl_c_during_imports_shows_no_traceback():
    words = "import os, signal, alpaca_labeler.__main__; os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", words], stderr=-1, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


def test_names_are_utf_8_in_any_locale(tmp_path):
    name = "ü 中.jsonl"
    (tmp_path / name).write_bytes(b'{"source-ref":"caf\xc3\xa9.jpg","failure":{"code":"empty"}}\n')
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert "café.jpg" in alpaca("manifest", "show", name, cwd=tmp_path, env=locale).stdout


@pytest.mark.parametrize(("words", "command"), EVERY)
def test_help_fits_80_columns_and_shows_a_real_invocation_or_each_command(words, command):
    done = run(*words, "-h", terminal_width=78)  # as click takes a terminal's
    assert done.exit_code == 0
    lines = [line.strip() for line in done.output.splitlines()]
    assert [line for line in done.output.splitlines() if len(line) > 80] == []
    assert [line for line in lines if line.endswith("...") and "Usage" not in line] == []
    if not isinstance(command, click.Group):
        assert [line for line in lines if line.startswith(" ".join(("alpaca", *words)))]
        return
    context = click.Context(command)
    names = command.list_commands(context)
    for name in names:
        found = command.get_command(context, name)
        assert found
        first = found.get_short_help_str(100)
        assert any(line.startswith(f"{name} ") and line.endswith(f"  {first}") for line in lines)
        assert command is not main or first == COMMANDS[name][1]


def test_the_page_of_commands_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "run `python -m tests.support.reference`"
    )


def test_help_answers_at_once():
    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*COMMAND, "label", "-h"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Done-point: under 0.2 s of a processor. The ceiling leaves room for a slower machine.
    assert min(seconds() for _ in range(3)) < 0.6


PATHS = {"path", "paths", "file", "files", "folder", "dataset", "manifest", "bundle", "old", "new"}


@pytest.mark.parametrize(("words", "command"), LEAVES)
def test_every_argument_that_names_a_file_or_bundle_is_completed_by_the_shell(words, command):
    for param in command.params:
        if {param.name, (param.metavar or "").strip("[].").lower()} & PATHS:
            context = click.Context(command)
            assert param.type.shell_complete(context, param, "") != [], (words, param.name)

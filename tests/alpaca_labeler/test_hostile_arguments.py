"""Whatever a command is given, it answers with one sentence and the right exit code."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import contextmanager

import click
import pytest
from click.testing import CliRunner

from alpaca_labeler.console import arguments
from alpaca_labeler.handler import images
from alpaca_labeler.handler.labeler import Labeler
from alpaca_labeler.handler.worker import Done, Ready
from alpaca_labeler.main import main
from tests.support.commands import leaves
from tests.support.permissions import without_overrides

ROW = b'{"source-ref":"a.jpg","alpaca":0,"alpaca-metadata":{"class-name":"alpaca"}}\n'

HOSTILE = (
    "missing",
    "missing/",
    "folder",
    "empty",
    "binary",
    "latin-1",
    "unreadable",
    "locked",
    "rows.jsonl",
    "dangling",
    "loop",
    "new\nline\x1b[2J",
    "n" * 300,
    "s3://bucket/prefix/",
    "s3://bucket/rows.jsonl",
    "s3://",
    "S3://bucket",
    "gs://bucket/k",
    "https://example.com/a.jpg",
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/name",
    "",
    "-",
    "nan",
    "10000000000000000000000",
)


pytestmark = pytest.mark.slow  # each case runs a command with two dozen values


@pytest.fixture
def here(tmp_path, monkeypatch, aws, photos):
    """Every kind of file and folder, two classes of photos, and a bucket without any object."""
    monkeypatch.chdir(tmp_path)
    aws.create_bucket(Bucket="bucket")
    for name, taken in (("alpaca", "alpaca.jpg"), ("not alpaca", "cat.png")):
        (tmp_path / "folder" / name).mkdir(parents=True)
        shutil.copy(photos / taken, tmp_path / "folder" / name)
    (tmp_path / "locked").mkdir(mode=0)
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "latin-1").write_bytes("Zaunkönig,größer\n".encode("latin-1"))
    (tmp_path / "unreadable").write_bytes(ROW)
    (tmp_path / "unreadable").chmod(0)
    (tmp_path / "rows.jsonl").write_bytes(ROW)
    os.symlink("nowhere", tmp_path / "dangling")
    os.symlink("loop", tmp_path / "loop")
    yield tmp_path
    (tmp_path / "locked").chmod(0o755)


def calls():
    """Yield (words, where the hostile value goes) of every command, once for each parameter."""
    for words, command in leaves():
        # What else a command asks for is right, or at least of the right kind.
        fill = {
            param: _usual(param)
            for param in command.params
            if param.required or isinstance(param, click.Argument)
        }
        for param in command.params:
            if getattr(param, "is_flag", False) or param.name in {"help", "port"}:
                continue
            yield pytest.param(words, fill, param, id=f"{' '.join(words)} {param.name}")


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


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("words", "fill", "hostile"), list(calls()))
def test_a_hostile_argument_gives_one_sentence_and_never_a_traceback(
    monkeypatch, words, fill, hostile
):
    monkeypatch.setattr("alpaca_labeler.label.command.Workers", InProcess)
    monkeypatch.setattr("alpaca_labeler.review.server.Server.serve_forever", _interrupted)
    monkeypatch.setattr("webbrowser.open", _interrupted)
    monkeypatch.setattr("alpaca_labeler.job.local_aws.Sandbox.run", _interrupted)
    monkeypatch.setattr("alpaca_labeler.training.experiment.train", _interrupted)
    for value in HOSTILE:
        given = [*words]
        for param in {**fill, hostile: None}:
            word = value if param is hostile else fill[param]
            given += [param.opts[0]] * isinstance(param, click.Option) + [word] * max(
                param.nargs, 1
            )
        with at_most(30), without_overrides():
            done = CliRunner().invoke(main, given)
        said = f"{given}: {done.exit_code}\n{done.output}"
        assert done.exception is None or isinstance(done.exception, SystemExit), said
        assert done.exit_code in {0, 1, 2, 130}, said
        assert "fault in alpaca" not in done.stderr, said
        assert "Traceback" not in done.output, said
        assert "\x1b" not in done.output, said
        if done.exit_code in {1, 2}:
            lines = done.stderr.splitlines()
            assert sum(line.startswith("Error: ") for line in lines) == 1, said
            assert lines[-1].startswith("Error: "), said
            assert len(lines[-1]) > len("Error: ") + 10, said


class InProcess:
    """Labels without processes of its own: hundreds of them would take minutes to start."""

    def __init__(self, job, _count):
        self.model = job.model

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ready(self):
        self.labeler = Labeler(self.model)
        return Ready(self.labeler.card.version, self.labeler.card.labels, images.DECODER)

    def label(self, images):
        for image in images:
            for found in self.labeler.label([image]):
                yield Done(found.image, found.row, found.problem, found.label)


def _interrupted(*_, **__):
    raise KeyboardInterrupt

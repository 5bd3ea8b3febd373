"""Help that is true, quick, fits its terminal, and shows how."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from alpaca_labeler.console.help import summary
from alpaca_labeler.main import COMMANDS, main
from tests.support.commands import commands, leaves

ALPACA = [sys.executable, "-m", "alpaca_labeler"]
EVERY = [pytest.param(*found, id=" ".join(found[0]) or "alpaca") for found in commands()]
LEAVES = [pytest.param(words, id=" ".join(words)) for words, _ in leaves()]


def run(*words, **settings):
    return CliRunner().invoke(main, words, **settings)


def summary_of(group, name):
    return summary(group.get_command(click.Context(group), name))


def help_of(words, columns):
    done = run(*words, "-h", terminal_width=max(columns - 2, 50))  # as click takes a terminal's
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says(name):
    assert summary_of(main, name) == COMMANDS[name][1]


@pytest.mark.parametrize("columns", [50, 80])
@pytest.mark.parametrize(("words", "command"), EVERY)
def test_no_help_is_wider_than_its_terminal_or_cut_off(words, command, columns):
    text = help_of(words, columns)
    assert [line for line in text.splitlines() if len(line) > columns] == []
    assert [line for line in text.splitlines() if line.endswith("...")] == [
        line for line in text.splitlines() if line.startswith("Usage") and line.endswith("...")
    ]
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            first = summary_of(command, name)
            assert first in " ".join(text.split())


@pytest.mark.parametrize(("words", "command"), EVERY)
def test_at_80_columns_each_command_of_a_list_takes_one_line(words, command):
    if isinstance(command, click.Group):
        lines = {line.strip() for line in help_of(words, 80).splitlines()}
        names = command.list_commands(click.Context(command))
        width = max(map(len, names))
        for name in names:
            first = summary_of(command, name)
            assert f"{name:<{width}}  {first}" in lines


@pytest.mark.parametrize("words", LEAVES)
def test_every_help_shows_a_real_invocation_that_fits_80_columns(words):
    lines = [line.strip() for line in help_of(words, 80).splitlines()]
    assert [line for line in lines if line.startswith(" ".join(("alpaca", *words)))]


def test_a_long_example_is_continued_as_a_shell_allows():
    text = help_of(("train",), 50)
    example = text[text.index("alpaca train photos/ \\\n        --extra") :].partition(
        "\n    alpaca"
    )[0]
    assert "\\\n" in example
    done = subprocess.run(
        ["bash", "-c", f'alpaca() {{ printf "%s|" "$@"; }}\n{example}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("train|photos/|--extra|not alpaca=sheep/|")


@pytest.mark.parametrize("words", [["--help"], ["label", "-h"], ["manifest", "--help"]])
def test_help_answers_at_once(words):
    def seconds():
        def used():
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
            return spent.ru_utime + spent.ru_stime

        before = used()
        subprocess.run([*ALPACA, *words], check=True, capture_output=True)
        return used() - before

    # Done-point: under 0.2 s of a processor. The ceiling leaves room for a slower machine.
    assert min(seconds() for _ in range(3)) < 0.6


@pytest.mark.parametrize(
    ("words", "meant"),
    [(["lable"], "label"), (["manifest", "shwo"], "show"), (["models", "promot"], "promote")],
    ids=" ".join,
)
def test_a_mistyped_command_gets_a_suggestion(words, meant):
    done = run(*words)
    assert done.exit_code == 2
    assert f"Did you mean '{meant}'?" in done.stderr


def fail_with(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(main.get_command(click.Context(main), "report"), "callback", fail)


def test_ctrl_c_says_so_and_exits_with_130(monkeypatch, tmp_path):
    (tmp_path / "manifest.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    fail_with(monkeypatch, KeyboardInterrupt())
    done = run("report")
    assert (done.exit_code, done.stderr) == (130, "\nInterrupted.\n")


def test_an_unexpected_error_is_said_in_one_sentence_and_shown_on_request(monkeypatch, tmp_path):
    (tmp_path / "manifest.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    fail_with(monkeypatch, ZeroDivisionError("by\nzero"))
    done = run("report")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ZeroDivisionError: by\\nzero. This is a fault in alpaca")
    shown = run("report", env={"ALPACA_TRACEBACK": "1"})
    assert isinstance(shown.exception, ZeroDivisionError)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_without_no_color(no_color, coloured):
    done = run("report", "nope.jsonl", env={"NO_COLOR": no_color}, color=True)
    assert ("\x1b[" in done.output) is coloured
    help_ = run("-h", env={"NO_COLOR": no_color}, color=True)
    assert ("\x1b[" in help_.output) is coloured


def test_there_are_no_colours_in_a_pipe():
    done = subprocess.run(
        [*ALPACA, "report", "nope.jsonl"],
        capture_output=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "NO_COLOR"},
    )
    assert b"\x1b" not in done.stdout + done.stderr


def test_names_are_utf_8_in_any_locale(tmp_path):
    name = "ü 中.jsonl"
    (tmp_path / name).write_bytes(b'{"source-ref":"caf\xc3\xa9.jpg","failure":{"code":"empty"}}\n')
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [*ALPACA, "manifest", "show", os.fsencode(name)],
        cwd=tmp_path,
        env=os.environ | locale,
        capture_output=True,
        check=True,
    )
    assert "café.jpg" in done.stdout.decode()

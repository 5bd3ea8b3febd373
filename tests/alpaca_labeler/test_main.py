"""Help that is true, quick and shows how."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time

import pytest

from alpaca_labeler.main import COMMANDS, main


def command(name):
    module = COMMANDS[name][0]
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not there")


def first_line(found):
    return found.help.strip().partition("\n")[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says(name):
    assert COMMANDS[name][1] == first_line(command(name))


def leaves(name, found):
    yield name, found
    for sub, inner in getattr(found, "commands", {}).items():
        yield from leaves(f"{name} {sub}", inner)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_shows_a_real_invocation(name):
    for path, found in leaves(name, command(name)):
        lines = [line.strip() for line in found.help.splitlines()]
        shown = [line for line in lines if line.startswith(f"alpaca {path}")]
        assert shown, path
        assert found.help.count("\b") >= 1, path


@pytest.mark.parametrize("words", [["--help"], ["label", "--help"], ["manifest", "--help"]])
def test_help_answers_at_once(words):
    def seconds():
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "alpaca_labeler", *words], check=True, capture_output=True
        )
        return time.perf_counter() - began

    # Done-point: under 0.2 s. The ceiling leaves room for a machine that is busy with other tests.
    assert min(seconds() for _ in range(3)) < 0.6


def test_an_unknown_command_is_wrong_usage():
    done = subprocess.run(
        [sys.executable, "-m", "alpaca_labeler", "lable"], capture_output=True, check=False
    )
    assert done.returncode == 2


def test_every_command_is_listed():
    assert main.list_commands(None) == list(COMMANDS)

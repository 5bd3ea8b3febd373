"""What Tab completes, as the shells ask for it, and once in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import click
import pytest
from click.shell_completion import ShellComplete

from alpaca_labeler.console.arguments import SHARE
from alpaca_labeler.main import main
from tests.support.commands import leaves

SHELL = ShellComplete(main, {}, "alpaca", "_ALPACA_COMPLETE")

LABELS = b"".join(
    b'{"source-ref":"%d.jpg","alpaca":0,"alpaca-metadata":{"class-name":"%s"}}\n' % found
    for found in enumerate([b"alpaca", b"not alpaca"])
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/better").mkdir(parents=True)
    (tmp_path / "my models").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "manifest.jsonl").write_bytes(LABELS)
    (tmp_path / "farm.jsonl").write_bytes(LABELS.replace(b"alpaca", b"llama"))
    return tmp_path


def completed(*words):
    """Complete the last word; a path is left to the shell, as `<file>` or `<dir>`."""
    found = SHELL.get_completions(list(words[:-1]), words[-1])
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in found]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["la"], ["label"]),
        (["manifest", "s"], ["show", "stats"]),
        (["label", "ph"], ["<file>"]),
        (["label", "--manifest", ""], ["<file>"]),
        (["label", "--copy-to", ""], ["<dir>"]),
        (["label", "--model", ""], ["embedded", "my models", "photos", "runs", "runs/better"]),
        (["label", "--model", "runs/"], ["runs/better"]),
        (["evaluate", "e"], ["embedded"]),
        (["evaluate", "embedded", ""], ["<dir>"]),
        (["compare", "embedded", "runs/b"], ["runs/better"]),
        (["train", ""], ["<dir>"]),
        (["report", "man"], ["<file>"]),
        (["review", ""], ["<file>"]),
        (["manifest", "show", "--label", ""], ["alpaca", "not alpaca"]),
        (["manifest", "show", "farm.jsonl", "--label", "n"], ["not llama"]),
        (["manifest", "show", "none.jsonl", "--label", ""], []),
        (["manifest", "apply", ""], ["<file>"]),
        (["manifest", "export", "--format", "c"], ["csv"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["audit", "s3://"], []),
    ],
    ids=" ".join,
)
def test_tab_completes_commands_paths_bundles_and_labels(words, found):
    assert completed(*words) == found


PATHS = {"path", "paths", "file", "files", "folder", "dataset", "manifest", "bundle", "old", "new"}


@pytest.mark.parametrize(("words", "command"), list(leaves()), ids=lambda value: str(value)[:20])
def test_every_argument_that_names_a_file_or_bundle_is_completed(words, command):
    for param in command.params:
        names = {param.name, (param.metavar or "").strip("[].").lower()}
        if names & PATHS and isinstance(param, click.Parameter):
            context = click.Context(command)
            assert param.type.shell_complete(context, param, "") != [], (words, param.name)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(shell):
    done = subprocess.run(
        [sys.executable, "-m", "alpaca_labeler", "completion", shell],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"_ALPACA_COMPLETE={shell}_complete" in done.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=done.stdout, text=True, check=True, timeout=20)


def test_bash_completes_a_label_with_a_blank_and_a_path(here):
    (here / "bin").mkdir()
    alpaca = here / "bin/alpaca"
    alpaca.write_text(f'#!/bin/sh\nexec {sys.executable} -m alpaca_labeler "$@"\n')
    alpaca.chmod(0o755)
    script = """
        eval "$(alpaca completion bash)"
        compopt() { printf 'compopt %s %s\n' "$@"; }
        ask() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
                _alpaca_completion alpaca; printf '[%s]' "${COMPREPLY[@]}"; echo; }
        ask alpaca manifest show --label ""
        ask alpaca label --model my
        ask alpaca label ph
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PATH": f"{here}/bin:{os.environ['PATH']}"},
    )
    assert done.stdout.splitlines() == [
        "[alpaca]['not alpaca']",
        "['my models']",
        "compopt -o default",
        "[]",
    ]


@pytest.mark.parametrize("value", ["nan", "-0.1", "1.1", "inf", "half"])
def test_a_share_is_a_number_from_0_to_1(value):
    with pytest.raises(click.BadParameter):
        SHARE.convert(value, None, None)


@pytest.mark.parametrize(("value", "number"), [("0", 0.0), ("0.25", 0.25), ("1", 1.0)])
def test_both_ends_of_a_share_are_allowed(value, number):
    assert SHARE.convert(value, None, None) == number

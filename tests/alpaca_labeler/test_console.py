"""What a terminal shows: one line of progress, however narrow it is."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpaca_labeler import console

COUNT = """
import sys, time
from alpaca_labeler.console import Progress, say
total = 250_000
with Progress("labelling", total) as progress:
    for done in range(0, total + 1, 50_000):
        progress.at(done, total)
        time.sleep(0.11)
    progress.step("a photo: " + "broken " * 3)
    say("and on")
    progress.at(total, total)
print("done", file=sys.stderr)
"""


def in_terminal(program, columns, **env):
    """Run a Python program in a terminal of `columns` columns and return what it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=theirs, stderr=theirs, env={**os.environ, **env}
    )
    os.close(theirs)
    found = b""
    try:
        while more := os.read(ours, 4096):
            found += more
    except OSError:  # Linux ends a terminal with an error
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return found.decode().replace("\r\n", "\n")


def screen(text, columns):
    """Return the lines that stay; each that is drawn over must fit into `columns` columns."""
    lines = [line.split("\r") for line in text.split("\n")]
    assert all(len(click.unstyle(drawn)) < columns for line in lines for drawn in line[:-1])
    return [line[-1].removeprefix("\x1b[K") for line in lines]


@pytest.mark.parametrize("columns", [80, 50, 30])
def test_progress_stays_on_one_line_and_goes_when_it_is_done(columns):
    written = in_terminal(COUNT, columns)
    assert "250,000" in written
    assert screen(written, columns) == ["a photo: broken broken broken ", "and on", "done", ""]


def test_there_is_no_progress_in_a_pipe_or_under_quiet(capfd):
    done = subprocess.run(
        [sys.executable, "-c", COUNT], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == "a photo: broken broken broken \nand on\ndone\n"

    @click.command()
    @console.quiet_option
    def command():
        console.say("how it goes")
        console.warn("what went wrong")

    command(["--quiet"], standalone_mode=False)
    assert capfd.readouterr().err == "what went wrong\n"


def test_a_daemon_may_close_what_is_printed_to(tmp_path):
    program = """
import os, subprocess, sys
from alpaca_labeler import console
console.open_terminal()
with open("file", "w") as file:
    print("out")
    console.warn("err")
    subprocess.run(["sh", "-c", "echo out; echo err >&2"], check=True)
    file.write(str(file.fileno()))
"""
    words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", program]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "file").read_text() == "3"


@given(
    done=st.integers(0, 10**9),
    more=st.none() | st.integers(0, 10**9),
    seconds=st.floats(0, 10**7),
    width=st.integers(0, 200),
)
def test_a_progress_line_never_exceeds_its_width(done, more, seconds, width):
    total = None if more is None else done + more
    assert len(console.progress_line("labelling", done, total, seconds, width)) <= width

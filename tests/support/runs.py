"""`alpaca` as a process of its own, as a person or a script starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "alpaca_labeler"]


def alpaca(*words, cwd, env=None, timeout=60, **options):
    """Run `alpaca WORDS` to its end. A traceback is never an answer."""
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def start(*words, cwd):
    """Start `alpaca WORDS` and do not wait."""
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def label(*words, cwd, code=0, **options):
    """Run `alpaca label WORDS --json` and return its report."""
    done = alpaca("label", *words, "--workers", 1, "--json", cwd=cwd, **options)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def rows(path):
    """Source-ref: row. Every line is whole, and no image has two."""
    path = Path(path)
    if not path.exists():
        return {}
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    by_name = {row["source-ref"]: row for row in found}
    assert len(by_name) == len(found)
    assert list(by_name) == sorted(by_name)
    return by_name


def wait_until(true, seconds=20):
    """Wait until `true()` is true."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.01)


def free_port():
    """Return a port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def wait_for_port(port, process, log):
    """Wait until a process listens; fails with its log."""
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def children(pid):
    """Process ids of the living workers of `pid`."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def is_alive(pid):
    """Tell whether a process runs; one that is dead and not collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def interrupt(process, how=signal.SIGINT):
    """Signal the parent only, wait for its end, and say what it printed."""
    process.send_signal(how)
    try:
        return process.communicate(timeout=90)  # a busy disk has kept one from its end for 30
    except subprocess.TimeoutExpired:
        process.kill()  # else another test is blamed for what this one left open
        process.communicate()
        raise

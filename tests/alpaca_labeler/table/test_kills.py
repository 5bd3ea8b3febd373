"""Killed at any moment, with torn writes: what was said counts, and nothing counts twice.

KILLS=300 pytest tests/alpaca_labeler/table/test_kills.py
"""

import json
import multiprocessing
import os
import random
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alpaca_labeler.table import incoming, log
from alpaca_labeler.table.facts import later
from alpaca_labeler.table.log import Log
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.run import Run
from alpaca_labeler.table.table import open_table
from tests.support.rows import reading, rows_of

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("KILLS", "12"))
PHOTOS = 400
SPAWN = multiprocessing.get_context("spawn")


class Torn:
    """A file whose writes arrive in pieces, with time between them to be killed in."""

    def __init__(self, file):
        self._file = file

    def write(self, data):
        time.sleep(0.0003)
        return self._file.write(data[: max(1, len(data) // 2)])

    def __getattr__(self, name):
        return getattr(self._file, name)


def victim(folder, seed):
    """Label, decide, take back, settle, prune and merge until killed, and note each action."""
    os.chdir(folder)
    opened, rng = log._opened, random.Random(seed)
    vars(log)["_opened"] = lambda path: Torn(opened(path))
    with open("notes", "ab", buffering=0) as notes, Run("manifest.jsonl") as run:
        run.load("m1")
        while True:
            name, what = f"{rng.randrange(PHOTOS):03}.jpg", rng.choice(ACTIONS)
            content = f"{name}-{rng.choice('ab')}"
            said = [what.__name__, name, content, rng.choice(["alpaca", "goat"])]
            notes.write(json.dumps(["begin", *said]).encode() + b"\n")
            what(run, *said[1:])
            notes.write(json.dumps(["end", *said]).encode() + b"\n")
            if rng.random() < 0.03:
                run.settle()


def read(run, name, content, _label):
    run.append(reading(name, "", content, size=10, last_modified=content))


def present(name):
    return next((row for row in rows_of("manifest.jsonl") if row.source_ref == name), Row(name))


def decide(_run, name, _content, label):
    said = present(name).decided(label, "kim", datetime.now(UTC), index=1, attribute="alpaca")
    with Log("manifest.jsonl") as page:
        page.append([said], sync=True)


def take_back(_run, name, _content, _label):
    with Log("manifest.jsonl") as page:
        page.append([present(name).decided(None, "kim", datetime.now(UTC))], sync=True)


def prune(run, name, _content, _label):
    run.prune([Row(name, gone=later(datetime.now(UTC), present(name).newest))])


def merge(_run, name, _content, label):
    said = present(name).decided(label, "ann", datetime.now(UTC), index=1, attribute="alpaca")
    Path("theirs.jsonl").write_bytes(said.to_line())
    incoming.bring_in("theirs.jsonl", open_table("manifest.jsonl"))


ACTIONS = [read, read, decide, decide, take_back, prune, merge]


def after(state, action, content, label):
    """Return what is known of a photo, as (content, decisions, hidden), after one more action."""
    now, said, hidden = state
    if action == "read":
        return content, said, False
    if action == "prune":
        return now, said, True
    label = None if action == "take_back" else label
    return now, frozenset({**dict(said), now: label}.items()), hidden


def shown(state):
    """Return the label of a photo; None if it is hidden."""
    now, said, hidden = state
    return None if hidden else dict(said).get(now) or "alpaca"


def expected(notes):
    """Return what each photo may be. What was begun and not ended may have been done or not."""
    names = [f"{number:03}.jpg" for number in range(PHOTOS)]
    states: dict[str, set[tuple[Any, ...]]] = {
        name: {(f"{name}-a", frozenset(), False)} for name in names
    }
    begun = None
    for step, action, name, content, label in [*notes, ("begin", "read", names[0], "", "")]:
        if step == "begin" and begun:
            states[begun[1]] |= done(states, *begun)
        elif step == "end":
            states[name] = done(states, action, name, content, label)
        begun = (action, name, content, label) if step == "begin" else None
    return {name: {*map(shown, some)} for name, some in states.items()}


def done(states, action, name, content, label):
    return {after(state, action, content, label) for state in states[name]}


def test_what_was_said_survives_a_kill_at_any_moment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Run("manifest.jsonl") as run:
        for number in range(PHOTOS):
            read(run, f"{number:03}.jpg", f"{number:03}.jpg-a", "")
    rng, notes = random.Random(1), tmp_path / "notes"
    for number in range(KILLS):
        process = SPAWN.Process(target=victim, args=(tmp_path, number))
        process.start()
        size = notes.stat().st_size if notes.exists() else 0
        while not notes.exists() or notes.stat().st_size == size:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.4))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL  # it did not fail before
    said = [json.loads(line) for line in notes.read_text().splitlines()]
    print(f"{KILLS} kills, {sum(step == 'end' for step, *_ in said)} actions acknowledged")
    possible = expected(said)
    for settled in (False, True):
        if settled:
            with Run("manifest.jsonl") as run:
                run.settle()
            assert len(Path("manifest.jsonl").read_bytes().splitlines()) == PHOTOS
        rows = {row.source_ref: row for row in rows_of("manifest.jsonl")}
        found = {name: None if row.hidden else row.label for name, row in rows.items()}
        assert found.keys() == possible.keys()
        assert [name for name in possible if found[name] not in possible[name]] == []

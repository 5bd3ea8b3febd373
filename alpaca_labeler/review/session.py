"""A review in progress: the table's rows, people's decisions about them, and undo.

A page says which decisions it has seen. A decision that somebody else has made since is never
overwritten unseen: that part is refused, and the page shows it. For use by any thread.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from alpaca_labeler.console import printable
from alpaca_labeler.handler import manifest_row, storage
from alpaca_labeler.review import bursts
from alpaca_labeler.review.index import CHANGED, CONFIRMED, FAILED, LEFT, UNKNOWN, Index, Query
from alpaca_labeler.review.photos import PhotoError
from alpaca_labeler.table.corrections import Label, again, decision, made_at, withdrawal

if TYPE_CHECKING:
    import sqlite3

    from alpaca_labeler.handler.manifest_row import Row
    from alpaca_labeler.table.corrections import BucketCorrections, Corrections
    from alpaca_labeler.table.table import Table

MAX_TILES: Final = 1000
"""Photos that one answer describes."""
MAX_CHOICES: Final = 200
"""Folders, models or labels to choose from: those with the most photos; search finds the others."""
MAX_TEXT: Final = 2000
"""Characters that are shown of one text."""

_TICK: Final = timedelta(microseconds=1)
_TILES: Final = """
    SELECT id, name, folder, label, coalesce(said, label) AS now, said, who, before, certainty,
        confidence, review, reason, burst, status
    FROM photo WHERE id IN (SELECT value FROM json_each(?))
"""
_STATUS: Final = "SELECT id, status FROM photo WHERE id IN (SELECT value FROM json_each(?))"


Measure = Callable[["Row"], tuple[int, int]]


class Outdated(Exception):
    """The page refers to an earlier state of the manifest."""


class Session:
    """A review of one table, into one file of corrections."""

    def __init__(
        self,
        table: Table,
        corrections: Corrections | BucketCorrections,
        classes: dict[int, str],
        annotator: str,
        *,
        before: Table | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read table and corrections.

        `classes` are names by index, for those that no row tells; `before` are the labels of an
        earlier model. Raises `ManifestError`, `CorrectionsError` and `OSError`.
        """
        self.annotator = annotator
        self.table = table
        self.corrections = corrections
        self._given_classes = classes
        self._before = before
        self._clock = clock
        self._lock = threading.RLock()
        self.generation = 0
        self._log: list[int] = []
        """Photos in the order in which decisions about them became known."""
        self.made = 0
        """Photos that were decided here, less those that were taken back."""
        self.bursts: bursts.Bursts
        self.reload()

    def reload(self) -> None:
        """Read the table again."""
        with self._lock:
            if self.generation > 0:
                self.bursts.stop()
            self._state = self._files()
            index = Index(line for line, _ in self.table.lines())
            index.write(
                "UPDATE photo SET before = ? WHERE name = ?",
                (
                    (manifest_row.label(row), row["source-ref"])
                    for row in (self._before.rows() if self._before else ())
                ),
            )
            self.index = index
            self.classes = {**index.classes, **self._given_classes}
            # What was withdrawn here, each with the annotator's last step of that time, and the
            # step of a decision by its photo and date, if such a withdrawal was undone.
            self._withdrawn: list[tuple[str, dict[int, _Event]]] = []
            self._same: dict[tuple[int, str], str] = {}
            self._events: dict[int, list[_Event]] = {}
            self._now: dict[int, list[_Event]] = {}
            self._steps: dict[str, set[int]] = {}
            people = index.ask("SELECT id FROM photo WHERE said IS NOT NULL")
            self._in_table = {n: _Event.of(index.row(n)) for (n,) in people}
            for number, event in self._in_table.items():
                self._set(number, [event])
            self.generation += 1
            self.bursts = bursts.Bursts(index, self.table.place, self._lock)
            self.corrections.forget()
            self._follow()

    # --- reading ---------------------------------------------------------------------------------

    def start(self) -> dict[str, Any]:
        """Return what a page needs to begin."""
        with self._lock:
            return {
                "name": printable(self.table.name),
                "corrections": printable(self.corrections.path),
                "annotator": printable(self.annotator),
                "local": not storage.is_s3(self.table.name),
                "classes": [text(self.classes[number]) for number in sorted(self.classes)],
                "labels": self._choices("coalesce(said, label)"),
                "models": self._choices("model"),
                "folders": self._choices("folder"),
                "next": self.next_steps(),
            }

    def progress(self) -> tuple[int, int]:
        """Return how many labels people have (changed, confirmed)."""
        with self._lock:
            self._follow()
            found = self.index.ask("SELECT status FROM photo WHERE said NOT NULL")
            counts = Counter(status for (status,) in found)
            return counts[CHANGED], counts[CONFIRMED]

    def next_steps(self) -> list[tuple[str, str]]:
        """Return what to do with reviewed labels: (what for, the command)."""
        name = shlex.quote(self.table.name)
        steps = [
            ("See the figures", f"alpaca report {name} --open"),
            ("Export the labels", f"alpaca manifest export {name} --format csv -o labels.csv"),
        ]
        folders = self.index.ask("SELECT DISTINCT folder FROM photo")
        with suppress(ValueError):  # they have nothing in common, or lie in a bucket
            common = os.path.commonpath([self.table.place(folder) for (folder,) in folders])
            sort = f"alpaca label {shlex.quote(common)} --manifest {name} --copy-to sorted"
            if not storage.is_s3(self.table.name):
                steps.append(("Sort the photos into folders", sort))
        return [(what, printable(command)) for what, command in steps]

    def _choices(self, column: str) -> list[dict[str, Any]]:
        """Return what there is to choose from, by name, with the decided and all photos of each."""
        found = self.index.ask(
            # The column is one of ours.
            f"SELECT {column} AS value, count(*) AS photos, count(said) AS decided, "  # noqa: S608
            f"sum(status = {FAILED}) FROM photo "
            f"WHERE value NOT NULL GROUP BY value ORDER BY photos DESC LIMIT {MAX_CHOICES}"
        )
        return [
            {"value": value, "text": text(value), "photos": photos - failed, "decided": decided}
            for value, photos, decided, failed in sorted(map(tuple, found))
        ]

    def select(self, query: Query, name: str = "") -> dict[str, Any]:
        """Return the photos of a list, the status of each, and its stacks.

        `status` has one digit per photo. A stack is a burst, named by its first photo. `at` is the
        place of the photo that is called `name`, or -1.
        """
        if query.stack or query.burst or query.sort == "taken":
            self.bursts.wait()
        with self._lock:
            self._follow()
            found = self.index.select(query)
            place = self.index.number(name)
            stacks: dict[int, list[int]] = {}
            if query.stack and not query.burst:
                found, stacks = _stacked(found)
                place = next((n for n, many in stacks.items() if place in many), place)
            return {
                "ids": [number for number, _, _ in found],
                "status": "".join(str(status) for _, status, _ in found),
                "stacks": {str(first): many for first, many in stacks.items() if len(many) > 1},
                "at": next((at for at, (n, _, _) in enumerate(found) if n == place), -1),
                "reading": self.bursts.reading(),
                **self.state(len(self._log)),
            }

    def tiles(self, generation: int, numbers: list[int]) -> list[dict[str, Any]]:
        """Return the content of the tiles of photos. Raises `Outdated`."""
        with self._lock:
            self._check(generation)
            found = self.index.ask(_TILES, str(numbers[:MAX_TILES]))
            tiles = {row["id"]: self._tile(row) for row in found}
            return [tiles[number] for number in numbers if number in tiles]

    def _tile(self, row: sqlite3.Row) -> dict[str, Any]:
        now, label, status = row["now"], row["label"], row["status"]
        was = label if status == CHANGED else ""
        before = row["before"] if status == LEFT and row["before"] != label else ""
        indexes = {name: index for index, name in self.classes.items()}
        return {
            **{key: row[key] for key in ("id", "certainty", "confidence", "burst", "status")},
            "ref": row["name"],
            "name": text(row["name"].rpartition("/")[2]),
            "folder": text(row["folder"]),
            "label": text(now or ""),
            "class": indexes.get(now, -1),
            "was": text(was or ""),
            "before": text(before or ""),
            "wasClass": indexes.get(was or before, -1),
            "who": text(row["who"] or ""),
            "review": bool(row["review"]),
            "reason": text(row["reason"] or "") if status == FAILED else "",
        }

    def row(self, generation: int, number: int) -> Row:
        """Return a row. Raises `Outdated`."""
        with self._lock:
            self._check(generation, number)
            return self.index.row(number)

    def facts(self, generation: int, number: int) -> str:
        """Return all that is known of a photo, for people. Raises `Outdated`."""
        with self._lock:
            row = self.row(generation, number)
            people = [
                f"{e.who or 'a person'}, {e.made}: {e.label}" for e in self._now.get(number, [])
            ]
        lines = orjson.dumps(row, option=orjson.OPT_INDENT_2).decode().splitlines()
        return "\n".join(map(text, (*people, *lines)))

    def state(self, since: int) -> dict[str, Any]:
        """Return what has changed since a page last asked. Raises `CorrectionsError`."""
        with self._lock:
            self._follow()
            changed = self.index.ask(_STATUS, str(sorted(set(self._log[since:]))))
            return {
                "generation": self.generation,
                "since": len(self._log),
                "changed": [tuple(row) for row in changed],
                "stale": self._files() != self._state,
                "undo": bool(self._withdrawn or self._steps),
            }

    def _files(self) -> tuple[object, ...]:
        # Manifest and failures; what is new in the corrections is followed.
        return self.table.state()[:2]

    def _check(self, generation: int, *numbers: int) -> None:
        if generation != self.generation or not all(0 <= n < len(self.index) for n in numbers):
            raise Outdated

    # --- decisions -------------------------------------------------------------------------------

    def decide(
        self, generation: int, since: int, wanted: dict[int, int], measure: Measure
    ) -> tuple[int, list[str]]:
        """Write decisions about photos, all in one step.

        `wanted` is the class index per photo; `since` is the state that the page has seen.
        `measure` returns the (width, height) of a photo that could not be labelled, or raises
        `PhotoError`: what cannot be seen is not decided. Returns how many were refused because
        somebody else has decided them since, and the reasons why others were.

        Raises `Outdated`, and `CorrectionsError`: then nothing is written.
        """
        with self._lock:
            self._check(generation, *wanted)
            if not set(wanted.values()) <= set(self.classes):
                raise Outdated
            self._follow()
            unseen = wanted.keys() & set(self._log[since:])
            refused, rows = [], []
            made = self._moment(list(wanted))
            for number, index in wanted.items():
                row, label = self.index.row(number), self.classes[index]
                if number in unseen or self._label_of(number) == label:
                    continue
                try:
                    if manifest_row.is_failure(row):
                        size = dict(zip(("width", "height"), measure(row), strict=True))
                        row["labeler"] = {**manifest_row.block(row, "labeler"), **size}
                except PhotoError as error:
                    refused.append(str(error))
                    continue
                chosen = Label(self.index.attribute, index, label)
                rows.append(decision(row, chosen, self.annotator, made))
            self._write(rows)
            self.made += len(rows)
            return len(unseen), refused

    def undo(self) -> dict[str, Any]:
        """Take back the annotator's last step; return the photos and their labels then."""
        with self._lock:
            self._follow()
            last = max(self._steps, default="")
            if self._withdrawn and self._withdrawn[-1][0] >= last:
                events = self._withdrawn.pop()[1]
                made = self._moment(list(events))
                for number, event in events.items():
                    self._same[number, manifest_row.timestamp(made)] = event.step
                self._write([again(event.row, made) for event in events.values()])
                self.made += len(events)
                return self._again(list(events))
            numbers = sorted(self._steps.get(last, ()))
            self._take_back({number: self._now[number][:-1] for number in numbers})
            return self._again(numbers)

    def withdraw(self, generation: int, numbers: list[int]) -> dict[str, Any]:
        """Take back all that the annotator decided about photos; return their labels then."""
        with self._lock:
            self._check(generation, *numbers)
            self._follow()
            last = max(self._steps, default="")
            mine = {n: self._now[n][-1] for n in numbers if self._is_mine(n)}
            rest = {n: [e for e in self._now[n] if e.who != self.annotator] for n in mine}
            self._take_back(rest)
            if mine:
                self._withdrawn.append((last, mine))
            return self._again(list(mine))

    def _take_back(self, wanted: dict[int, list[_Event]]) -> None:
        """Let the decisions count that are `wanted` of each photo, the last of them."""
        made = self._moment(list(wanted))
        rows = []
        for number, events in wanted.items():
            now = self._now[number][-1].row
            rows.append(again(events[-1].row, made) if events else withdrawal(now, made))
        self._write(rows)
        self.made = max(0, self.made - len(wanted))

    def _write(self, rows: list[Row]) -> None:
        if rows:
            self.corrections.add_all(rows)
        self._follow()

    def _moment(self, numbers: list[int]) -> datetime:
        """Return the present; a clock that was set back must not make an earlier decision last."""
        earlier = [
            event.made for n in numbers for event in self._events.get(n, self._now.get(n, []))
        ]
        last = max([*earlier, *self._steps], default="")
        now = self._clock()
        try:
            return max(now, datetime.fromisoformat(last).replace(tzinfo=UTC) + _TICK)
        except ValueError:
            return now

    def _again(self, numbers: list[int]) -> dict[str, Any]:
        """Say what photos are after a step was taken back."""
        if len(numbers) != 1:
            return {"ids": numbers, "text": f"{len(numbers):,} photos are as they were before"}
        [tile] = self.tiles(self.generation, numbers)
        who = f", as {tile['who']} said" if tile["who"] else ""
        is_again = f"is {tile['label']} again{who}" if tile["label"] else "has no label again"
        return {"ids": numbers, "text": f"{tile['name']} {is_again}"}

    def _label_of(self, number: int) -> str:
        events = self._now.get(number)
        return events[-1].label if events else ""

    def _is_mine(self, number: int) -> bool:
        events = self._now.get(number, [])
        return bool(events) and events[-1].who == self.annotator

    def _follow(self) -> None:
        """Read the decisions made since, here or in another process."""
        new = self.corrections.read_new()
        touched: set[int] = set()
        if new.reset:
            touched, self._events = set(self._events), {}
        for row in new.rows:
            number = self.index.find(row)
            if number is not None:
                event = _Event.of(row)
                step = self._same.get((number, event.made), event.made)
                self._events.setdefault(number, []).append(replace(event, step=step))
                touched.add(number)
        changed = []
        for number in sorted(touched):
            events = sorted(self._events.get(number, []), key=lambda event: event.made)
            first = self._in_table.get(number)
            # What the table has may be one of them.
            if first and (not events or first.made < events[0].made):
                events.insert(0, first)
            if self._set(number, _counting(events)):
                changed.append(number)
        if changed:
            last = {number: self._now[number][-1:] for number in changed}
            self.index.write(
                "UPDATE photo SET said = ?, who = ? WHERE id = ?",
                ((e[0].label, e[0].who, n) if e else (None, None, n) for n, e in last.items()),
            )
            self._log += changed

    def _set(self, number: int, events: list[_Event]) -> bool:
        """Note which decisions count; return whether the one on top has changed."""
        before = self._now.get(number, [])
        if self._is_mine(number):
            step = self._steps[before[-1].step]
            step.discard(number)
            if not step:
                del self._steps[before[-1].step]
        self._now[number] = events
        if self._is_mine(number):
            self._steps.setdefault(events[-1].step, set()).add(number)
        return [(e.label, e.who) for e in before[-1:]] != [(e.label, e.who) for e in events[-1:]]


@dataclass(frozen=True, slots=True)
class _Event:
    """A decision about a photo, or the withdrawal of all before it."""

    made: str
    step: str
    """When it was first made. Decisions of one step are taken back together."""
    who: str
    label: str
    """Empty for a withdrawal."""
    line: bytes

    @classmethod
    def of(cls, row: Row) -> _Event:
        who = manifest_row.block(row, "labeler").get("annotator")
        withdrawn = manifest_row.withdrawn(row)
        label = "" if withdrawn else manifest_row.label(row) or UNKNOWN
        line = manifest_row.encode(row)
        made = made_at(row)
        return cls(made, made, who if isinstance(who, str) else "", label, line)

    @property
    def row(self) -> Row:
        return manifest_row.parse(self.line)


def _counting(events: list[_Event]) -> list[_Event]:
    """Return the decisions about one photo that count, oldest first; the last is its label.

    A decision that is made again, because one on top of it was taken back, takes that one away.
    """
    found: list[_Event] = []
    for event in events:
        if not event.label:
            found = []
        elif len(found) > 1 and (found[-2].label, found[-2].who) == (event.label, event.who):
            found.pop()
        elif not found or (found[-1].label, found[-1].who) != (event.label, event.who):
            found.append(event)
    return found


def _stacked(
    found: list[tuple[int, int, int | None]],
) -> tuple[list[tuple[int, int, int | None]], dict[int, list[int]]]:
    """Return (the photos with one for each burst, the photos of each burst by its first)."""
    first: dict[int | None, int] = {}
    stacks: dict[int, list[int]] = {}
    status: dict[int, int] = {}
    kept = []
    for number, its_status, burst in found:
        top = number if burst is None else first.setdefault(burst, number)
        stacks.setdefault(top, []).append(number)
        # A stack is undecided as long as one of its photos is.
        status[top] = min(its_status, status.get(top, its_status))
        if top == number:
            kept.append((number, burst))
    return [(number, status[number], burst) for number, burst in kept], stacks


def text(value: str) -> str:
    """Return a text without control characters, shortened if it is long."""
    return printable(value[:MAX_TEXT]) + ("..." if len(value) > MAX_TEXT else "")

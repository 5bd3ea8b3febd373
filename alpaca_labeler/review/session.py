"""A review in progress: the table's rows, people's decisions about them, and undo.

A page says which decisions it has seen. A decision that somebody else has made since is never
overwritten unseen: that part is refused, and the page shows it. For use by any thread.
"""

from __future__ import annotations

import shlex
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson

from alpaca_labeler.console import printable
from alpaca_labeler.review.index import CHANGED, CONFIRMED, FAILED, UNKNOWN, Index, Query
from alpaca_labeler.review.photos import PhotoError
from alpaca_labeler.table import manifest_row
from alpaca_labeler.table.corrections import Label, again, decision, made_at, withdrawal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from alpaca_labeler.table.corrections import BucketCorrections, Corrections
    from alpaca_labeler.table.manifest_row import Row
    from alpaca_labeler.table.table import Table

MAX_TILES: Final = 1000
"""Photos that one answer describes."""
MAX_CHOICES: Final = 200
"""Folders, models or labels to choose from: those with the most photos; search finds the others."""
MAX_TEXT: Final = 2000
"""Characters that are shown of one text."""

_TICK: Final = timedelta(microseconds=1)
_TILES: Final = """
    SELECT id, name, folder, label, coalesce(said, label) AS now, said, who,
        certainty, confidence, review, reason, status
    FROM photo WHERE id IN (SELECT value FROM json_each(?))
"""
_STATUS: Final = "SELECT id, status FROM photo WHERE id IN (SELECT value FROM json_each(?))"


Measure = Callable[["Row"], tuple[int, int]]

_Step = dict[str, tuple[str, bytes | None]]
"""Of each photo, by name: the label that it was given, and the decision that counted before."""


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
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read table and corrections; `classes` are names by index, for those that no row tells.

        Raises `ManifestError`, `CorrectionsError` and `OSError`.
        """
        self.annotator = annotator
        self.table = table
        self.corrections = corrections
        self._given_classes = classes
        self._clock = clock
        self._lock = threading.RLock()
        self.generation = 0
        self._log: list[int] = []
        """Photos in the order in which decisions about them became known."""
        self.made = 0
        """Photos that were decided here, less those that were taken back."""
        self.reload()
        self._steps = self._earlier_steps()

    def reload(self) -> None:
        """Read the table again."""
        with self._lock:
            self._state = self._files()
            self.index = Index(line for line, _ in self.table.lines())
            self.classes = {**self.index.classes, **self._given_classes}
            self._now: dict[int, _Decision] = self._in_table()
            self.generation += 1
            self.corrections.forget()
            self._follow()

    def _in_table(self) -> dict[int, _Decision]:
        people = self.index.ask("SELECT id FROM photo WHERE human")
        return {number: _Decision.of(self.index.row(number)) for (number,) in people}

    def _earlier_steps(self) -> list[_Step]:
        """Return the annotator's steps of earlier sessions, of which only the result is known."""
        steps: dict[str, _Step] = {}
        for number, now in self._now.items():
            if now.label and now.who == self.annotator:
                name = self.index.row(number)["source-ref"]
                steps.setdefault(now.made, {})[name] = now.label, None
        return [steps[made] for made in sorted(steps)]

    # --- reading ---------------------------------------------------------------------------------

    def start(self) -> dict[str, Any]:
        """Return what a page needs to begin."""
        with self._lock:
            return {
                "name": printable(self.table.name),
                "corrections": printable(self.corrections.path),
                "annotator": printable(self.annotator),
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
        name = printable(shlex.quote(self.table.name))
        return [
            ("See the figures", f"alpaca report {name} --open"),
            ("Export the labels", f"alpaca manifest export {name} --format csv -o labels.csv"),
        ]

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
        """Return the photos of a list, and the status of each as one digit.

        `at` is the place of the photo that is called `name`, or -1.
        """
        with self._lock:
            self._follow()
            found = self.index.select(query)
            ids = [number for number, _ in found]
            number = self.index.number(name)
            return {
                "ids": ids,
                "status": "".join(str(status) for _, status in found),
                "at": ids.index(number) if number in ids else -1,
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
        indexes = {name: index for index, name in self.classes.items()}
        return {
            **{key: row[key] for key in ("id", "certainty", "confidence", "status")},
            "ref": row["name"],
            "name": text(row["name"].rpartition("/")[2]),
            "folder": text(row["folder"]),
            "label": text(now or ""),
            "class": indexes.get(now, -1),
            "was": text(was or ""),
            "wasClass": indexes.get(was, -1),
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
            now = self._now.get(number)
        people = [f"{now.who or 'a person'}, {now.made}: {now.label}"] if now and now.label else []
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
                "undo": bool(self._steps),
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
            step: _Step = {}
            made = self._moment(wanted)
            for number, index in wanted.items():
                row, label = self.index.row(number), self.classes[index]
                now = self._now.get(number)
                if number in unseen or (now and now.label == label):
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
                step[row["source-ref"]] = label, now.line if now and now.label else None
            if rows:
                self._write(rows)
                self._steps.append(step)
            self.made += len(rows)
            return len(unseen), refused

    def undo(self) -> dict[str, Any]:
        """Take back the annotator's last step that still counts; return its photos' labels then.

        A photo gets the label that it had before the step; of a step of an earlier session, the
        model's. Raises `CorrectionsError`: then nothing is taken back.
        """
        with self._lock:
            self._follow()
            while self._steps:
                back = self._still_counting(self._steps[-1])
                made = self._moment(back)
                self._write(
                    [
                        again(manifest_row.parse(line), made)
                        if line
                        else withdrawal(self._now[number].row, made)
                        for number, line in back.items()
                    ]
                )
                self._steps.pop()
                self.made = max(0, self.made - len(back))
                if back:
                    return self._again(sorted(back))
            return self._again([])

    def _still_counting(self, step: _Step) -> dict[int, bytes | None]:
        """Return what was said before, by photo, where nobody has said anything else since."""
        found = {}
        for name, (label, before) in step.items():
            number = self.index.number(name)
            now = None if number is None else self._now.get(number)
            if number is not None and now and (now.who, now.label) == (self.annotator, label):
                found[number] = before
        return found

    def _write(self, rows: list[Row]) -> None:
        if rows:
            self.corrections.add_all(rows)
        self._follow()

    def _moment(self, numbers: Iterable[int]) -> datetime:
        """Return the present; a clock that was set back must not make an earlier decision last."""
        last = max((self._now[n].made for n in numbers if n in self._now), default="")
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

    def _follow(self) -> None:
        """Read the decisions made since, here or in another process."""
        new = self.corrections.read_new()
        before = dict(self._now) if new.reset else {}
        if new.reset:
            self._now = self._in_table()
        for row in new.rows:
            number = self.index.find(row)
            if number is None:
                continue
            said = _Decision.of(row)
            before.setdefault(number, self._now.get(number, _NOTHING))
            if said.made >= self._now.get(number, _NOTHING).made:
                self._now[number] = said
        changed = {
            number: now
            for number, was in before.items()
            if (now := self._now.get(number, _NOTHING)).says != was.says
        }
        self.index.write(
            "UPDATE photo SET said = ?, who = ? WHERE id = ?",
            ((*now.says, number) for number, now in changed.items()),
        )
        self._log += sorted(changed)


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a person says of a photo, or that a decision was taken back."""

    made: str
    who: str
    label: str
    """Empty if it was taken back."""
    line: bytes

    @classmethod
    def of(cls, row: Row) -> _Decision:
        who = manifest_row.block(row, "labeler").get("annotator")
        label = "" if manifest_row.withdrawn(row) else manifest_row.label(row) or UNKNOWN
        line = manifest_row.encode(row)
        return cls(made_at(row), who if isinstance(who, str) else "", label, line)

    @property
    def row(self) -> Row:
        return manifest_row.parse(self.line)

    @property
    def says(self) -> tuple[str | None, str | None]:
        """The label and who gave it."""
        return (self.label, self.who) if self.label else (None, None)


_NOTHING: Final = _Decision("", "", "", b"")


def text(value: str) -> str:
    """Return a text without control characters, shortened if it is long."""
    return printable(value[:MAX_TEXT]) + ("..." if len(value) > MAX_TEXT else "")

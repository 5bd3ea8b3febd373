"""A review in progress: the table's rows, people's decisions about them, and undo.

A page says which decisions it has seen. A decision that somebody else has made since is never
overwritten unseen: that part is refused, and the page shows it. For use by any thread.
"""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime
from typing import Any, Final

from alpaca_labeler.console import printable
from alpaca_labeler.review.index import CHANGED, Index, Query
from alpaca_labeler.table.facts import RANDOM, Decision
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import Table

MAX_TEXT: Final = 2000
"""Characters that are shown of one text."""

_TILES: Final = """
    SELECT id, name, label, class, was, who, confidence, review, status, content, model
    FROM photo WHERE id IN (SELECT value FROM json_each(?))
"""
_STATUS: Final = "SELECT id, status FROM photo WHERE id IN (SELECT value FROM json_each(?))"

_Step = dict[str, tuple[str, Decision | None]]
"""Of each photo, by name: the label that it was given, and the decision that stood before."""


class Outdated(Exception):
    """The page refers to an earlier state of the manifest."""


class Session:
    """A review of one table."""

    def __init__(self, table: Table, classes: dict[int, str], annotator: str) -> None:
        """Read the table; `classes` are names by index, for those that no row tells.

        Raises `ManifestError`, `StorageError` and `OSError`.
        """
        self.annotator = annotator
        self.table = table
        self._given_classes = classes
        self._lock = threading.RLock()
        self.generation = 0
        self._log: list[int] = []
        """Photos in the order in which decisions about them became known."""
        self._steps: list[_Step] = []
        self.reload()

    def reload(self) -> None:
        """Read the table again."""
        with self._lock:
            poll = self.table.follow()  # before it is read, so that nothing falls between
            self.index = Index(self.table.read())
            self._poll = poll
            self.classes = {**self.index.classes, **self._given_classes}
            self.generation += 1

    # --- reading ---------------------------------------------------------------------------------

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
                "name": printable(self.table.name),
                "annotator": printable(self.annotator),
                "classes": [text(self.classes[index]) for index in sorted(self.classes)],
                **self._state(len(self._log)),
            }

    def tiles(self, generation: int, numbers: list[int]) -> list[dict[str, Any]]:
        """Return the content of the tiles of photos. Raises `Outdated`."""
        with self._lock:
            self._check(generation)
            found = self.index.ask(_TILES, str(numbers))
            tiles = {row["id"]: self._tile(row) for row in found}
            return [tiles[number] for number in numbers if number in tiles]

    def _tile(self, row: sqlite3.Row) -> dict[str, Any]:
        folder, _, name = row["name"].rpartition("/")
        index = row["class"] if row["class"] in self.classes else -1
        return {
            **{key: row[key] for key in ("id", "confidence", "status")},
            "ref": row["name"],
            "name": text(name),
            "folder": text(f"{folder or '.'}/"),
            "label": text(row["label"]),
            "class": index,
            "was": text(row["was"]) if row["status"] == CHANGED else "",
            "who": text(row["who"] or ""),
            "review": bool(row["review"]),
            "model": text(row["model"]),
            "content": row["content"] or "",
        }

    def row(self, generation: int, number: int) -> Row:
        """Return a row. Raises `Outdated`."""
        with self._lock:
            self._check(generation, number)
            return self.index.row(number)

    def _state(self, since: int) -> dict[str, Any]:
        progress = self.index.progress
        changed = self.index.ask(_STATUS, str(sorted(set(self._log[since:]))))
        return {
            "generation": self.generation,
            "since": len(self._log),
            "changed": [tuple(row) for row in changed],
            "progress": str(progress),
            "check": progress.check(),
        }

    def _check(self, generation: int, *numbers: int) -> None:
        if generation != self.generation or not all(0 <= n < len(self.index) for n in numbers):
            raise Outdated

    # --- decisions -------------------------------------------------------------------------------

    def decide(
        self, generation: int, since: int, wanted: dict[int, int], *, check: bool = False
    ) -> dict[str, Any]:
        """Write decisions about photos, all in one step, and return the state.

        `wanted` is the class index per photo; `since` is the state that the page has seen; `check`
        says that these photos were drawn at random. `unseen` is how many were refused because
        somebody else has decided them since, `refused` names those that do not stand.

        Raises `Outdated`, and `LabelerError` or `OSError`: then nothing is written.
        """
        with self._lock:
            self._follow()
            self._check(generation, *wanted)
            if not set(wanted.values()) <= set(self.classes):
                raise Outdated
            unseen = wanted.keys() & set(self._log[since:])
            drawn = {number for number, _ in self.index.select(Query(show="random")) if check}
            rows, refused = [], []
            step: _Step = {}
            for number, index in wanted.items():
                row, label = self.index.row(number), self.classes[index]
                before = row.decision
                if number in unseen or (before and before.label == label):
                    continue
                sample = RANDOM if number in drawn else before.sample if before else None
                said = Decision("", self.annotator, label, index, self.index.attribute, sample)
                rows.append(self._said(row, said))
                step[row.source_ref] = label, before
            if rows:
                self._write(rows)
                self._steps.append(step)
                standing = {row.source_ref for row, _ in self._still_counting(step)}
                refused = [f"{text(name)}: not decided" for name in step.keys() - standing]
            return {**self._state(since), "unseen": len(unseen), "refused": refused}

    def undo(self, since: int) -> dict[str, Any]:
        """Take back this session's last step that still counts.

        Returns the state and the photos of that step, each of which has the label that it had
        before. Raises `LabelerError` or `OSError`: then nothing is taken back.
        """
        with self._lock:
            self._follow()
            back: list[tuple[Row, Decision | None]] = []
            while self._steps and not back:
                back = self._still_counting(self._steps[-1])
                rows = [
                    self._said(row, before or Decision("", self.annotator)) for row, before in back
                ]
                self._write(rows)
                self._steps.pop()
            numbers = (self.index.number(row.source_ref) for row, _ in back)
            again = sorted(number for number in numbers if number is not None)
            return {**self._state(since), "ids": again}

    def _said(self, row: Row, said: Decision) -> Row:
        return row.decided(
            said.label,
            said.who,
            datetime.now(UTC),
            index=said.index,
            attribute=said.attribute,
            sample=said.sample,
        )

    def _still_counting(self, step: _Step) -> list[tuple[Row, Decision | None]]:
        """Return what was said before, by photo, where nobody has said anything else since."""
        found = []
        for name, (label, before) in step.items():
            number = self.index.number(name)
            row = None if number is None else self.index.row(number)
            now = row.decision if row else None
            if row and now and (now.who, now.label) == (self.annotator, label):
                found.append((row, before))
        return found

    def _write(self, rows: list[Row]) -> None:
        if rows:
            self.table.append(rows)
            self._follow()

    def _follow(self) -> None:
        """Merge what was appended since, here or elsewhere; read again what was replaced."""
        rows, is_replaced = self._poll()
        self._log += self.index.merge(rows)
        if is_replaced:
            self.reload()


def text(value: str) -> str:
    """Return a text without control characters, shortened if it is long."""
    return printable(value[:MAX_TEXT]) + ("..." if len(value) > MAX_TEXT else "")

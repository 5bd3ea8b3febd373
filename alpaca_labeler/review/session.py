"""A review in progress: the table's rows, people's decisions about them, and undo.

A page says which decisions it has seen. A decision that somebody else has made since is never
overwritten unseen: that part is refused, and the page shows it. For use by any thread.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from alpaca_labeler.console import printable
from alpaca_labeler.review.index import CHANGED, CONFIRMED, FAILED, Index, Query
from alpaca_labeler.review.photos import PhotoError
from alpaca_labeler.table.facts import Decision
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import Table

MAX_TILES: Final = 1000
"""Photos that one answer describes."""
MAX_CHOICES: Final = 200
"""Folders or labels to choose from: those with the most photos; search finds the others."""
MAX_TEXT: Final = 2000
"""Characters that are shown of one text."""

_TILES: Final = """
    SELECT id, name, folder, label, coalesce(said, label) AS now, said, who,
        confidence, review, reason, status, content, model
    FROM photo WHERE id IN (SELECT value FROM json_each(?))
"""
_STATUS: Final = "SELECT id, status FROM photo WHERE id IN (SELECT value FROM json_each(?))"


See = Callable[[Row], object]
"""Shows a photo, or raises `PhotoError`: what cannot be seen is not decided."""

_Step = dict[str, tuple[str, Decision | None]]
"""Of each photo, by name: the label that it was given, and the decision that stood before."""


class Outdated(Exception):
    """The page refers to an earlier state of the manifest."""


class Session:
    """A review of one table."""

    def __init__(
        self,
        table: Table,
        classes: dict[int, str],
        annotator: str,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read the table; `classes` are names by index, for those that no row tells.

        Raises `ManifestError`, `StorageError` and `OSError`.
        """
        self.annotator = annotator
        self.table = table
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
            news = self.table.follow()  # before it is read, so that nothing falls between
            self.index = Index(self.table.read())
            self._news = news
            self.classes = {**self.index.classes, **self._given_classes}
            self.generation += 1

    def _earlier_steps(self) -> list[_Step]:
        """Return the annotator's steps of earlier sessions, of which only the result is known."""
        steps: dict[str, _Step] = {}
        for (number,) in self.index.ask("SELECT id FROM photo WHERE who = ?", self.annotator):
            row = self.index.row(number)
            if row.decision and row.decision.label:
                step = steps.setdefault(row.decision.at, {})
                step[row.source_ref] = row.decision.label, None
        return [steps[made] for made in sorted(steps)]

    # --- reading ---------------------------------------------------------------------------------

    def start(self) -> dict[str, Any]:
        """Return what a page needs to begin."""
        with self._lock:
            return {
                "name": printable(self.table.name),
                "annotator": printable(self.annotator),
                "classes": [text(self.classes[number]) for number in sorted(self.classes)],
                "labels": self._choices("coalesce(said, label)"),
                "folders": self._choices("folder"),
            }

    def progress(self) -> tuple[int, int]:
        """Return how many labels people have (changed, confirmed)."""
        with self._lock:
            found = self.index.ask("SELECT status FROM photo WHERE said NOT NULL")
            counts = Counter(status for (status,) in found)
            return counts[CHANGED], counts[CONFIRMED]

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
                **self._state(len(self._log)),
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
            **{key: row[key] for key in ("id", "confidence", "status")},
            "ref": row["name"],
            "name": text(row["name"].rpartition("/")[2]),
            "folder": text(row["folder"]),
            "label": text(now or ""),
            "class": indexes.get(now, -1),
            "was": text(was or ""),
            "wasClass": indexes.get(was, -1),
            "who": text(row["who"] or ""),
            "review": bool(row["review"]),
            "model": text(row["model"]),
            "content": row["content"] or "",
            "reason": text(row["reason"] or "") if status == FAILED else "",
        }

    def row(self, generation: int, number: int) -> Row:
        """Return a row. Raises `Outdated`."""
        with self._lock:
            self._check(generation, number)
            return self.index.row(number)

    def state(self, since: int) -> dict[str, Any]:
        """Return what has changed since a page last asked. Raises `LabelerError`."""
        with self._lock:
            self._follow()
            return self._state(since)

    def _state(self, since: int) -> dict[str, Any]:
        changed = self.index.ask(_STATUS, str(sorted(set(self._log[since:]))))
        return {
            "generation": self.generation,
            "since": len(self._log),
            "changed": [tuple(row) for row in changed],
            "undo": bool(self._steps),
        }

    def _check(self, generation: int, *numbers: int) -> None:
        if generation != self.generation or not all(0 <= n < len(self.index) for n in numbers):
            raise Outdated

    # --- decisions -------------------------------------------------------------------------------

    def decide(
        self, generation: int, since: int, wanted: dict[int, int], see: See
    ) -> dict[str, Any]:
        """Write decisions about photos, all in one step, and return the state.

        `wanted` is the class index per photo; `since` is the state that the page has seen. `unseen`
        is how many were refused because somebody else has decided them since, `refused` says why
        others were: they could not be labelled and cannot be seen, or do not stand.

        Raises `Outdated`, and `LabelerError` or `OSError`: then nothing is written.
        """
        with self._lock:
            self._follow()
            self._check(generation, *wanted)
            if not set(wanted.values()) <= set(self.classes):
                raise Outdated
            unseen = wanted.keys() & set(self._log[since:])
            refused, rows = [], []
            step: _Step = {}
            for number, index in wanted.items():
                row, label = self.index.row(number), self.classes[index]
                before = row.decision
                if number in unseen or (before and before.label == label):
                    continue
                try:
                    if row.answer and row.answer.failure:
                        see(row)
                except PhotoError as error:
                    refused.append(text(str(error)))
                    continue
                rows.append(self._said(row, label, self.annotator, index))
                step[row.source_ref] = label, before
            if rows:
                self._write(rows)
                self._steps.append(step)
                self.made += len(rows)
                standing = {row.source_ref for row, _ in self._still_counting(step)}
                refused += [f"{text(name)}: not decided" for name in step.keys() - standing]
            return {**self._state(since), "unseen": len(unseen), "refused": refused}

    def undo(self, since: int) -> dict[str, Any]:
        """Take back the annotator's last step that still counts.

        Returns the state, the photos of that step and what to say about it.

        A photo gets the label that it had before the step; of a step of an earlier session, the
        model's. Raises `LabelerError` or `OSError`: then nothing is taken back.
        """
        with self._lock:
            self._follow()
            while self._steps:
                back = self._still_counting(self._steps[-1])
                rows = [
                    self._said(row, before.label, before.who, before.index)
                    if before
                    else self._said(row, None, self.annotator, None)
                    for row, before in back
                ]
                self._write(rows)
                self._steps.pop()
                self.made = max(0, self.made - len(back))
                if back:
                    numbers = (self.index.number(row.source_ref) for row, _ in back)
                    again = sorted(number for number in numbers if number is not None)
                    return {**self._state(since), **self._again(again)}
            return {**self._state(since), **self._again([])}

    def _said(self, row: Row, label: str | None, who: str, index: int | None) -> Row:
        now, attribute = self._clock(), self.index.attribute
        return row.decided(label, who, now, index=index, attribute=attribute)

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

    def _again(self, numbers: list[int]) -> dict[str, Any]:
        """Say what photos are after a step was taken back."""
        if len(numbers) != 1:
            return {"ids": numbers, "text": f"{len(numbers):,} photos are as they were before"}
        [tile] = self.tiles(self.generation, numbers)
        who = f", as {tile['who']} said" if tile["who"] else ""
        is_again = f"is {tile['label']} again{who}" if tile["label"] else "has no label again"
        return {"ids": numbers, "text": f"{tile['name']} {is_again}"}

    def _follow(self) -> None:
        """Merge what was appended since, here or elsewhere; read again what was replaced."""
        rows, is_replaced = self._news()
        self._log += self.index.merge(rows)
        if is_replaced:
            self.reload()


def text(value: str) -> str:
    """Return a text without control characters, shortened if it is long."""
    return printable(value[:MAX_TEXT]) + ("..." if len(value) > MAX_TEXT else "")

"""The rows of a table in SQLite, so that a million of them are filtered and sorted from a file.

The database is a temporary file of this process. Nothing in a row is trusted: a
value of the wrong type counts as missing.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from alpaca_labeler.table.facts import Answer
from alpaca_labeler.table.row import Row, merge

CLASSES: Final = (0, 1)
UNKNOWN: Final = "?"
_BATCH: Final = 5000
"""Rows that are read, then written."""

LEFT, CONFIRMED, CHANGED, FAILED = range(4)
"""Status of a photo. A failure that somebody has decided is no longer one."""

_STATUS: Final = (
    f"CASE WHEN said IS NULL THEN iif(label IS NULL, {FAILED}, {LEFT}) "
    f"WHEN said IS label THEN {CONFIRMED} ELSE {CHANGED} END"
)

_SCHEMA: Final = f"""
    CREATE TABLE photo (
        id INTEGER PRIMARY KEY, name TEXT UNIQUE, folded TEXT, folder TEXT,
        label TEXT,      -- what the model says; NULL for a failure
        model TEXT, reason TEXT, certainty REAL, confidence REAL, review INT,
        content TEXT,
        said TEXT, who TEXT,  -- what a person says, and who
        status INT GENERATED ALWAYS AS ({_STATUS}) STORED
    );
    CREATE TABLE line (id INTEGER PRIMARY KEY, line BLOB);
"""

_WRITE: Final = "INSERT OR REPLACE INTO photo VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

SHOW: Final = {
    "all": "1",
    "left": f"status = {LEFT}",
    "review": f"status = {LEFT} AND review",
    "changed": f"status = {CHANGED}",
    "confirmed": f"status = {CONFIRMED}",
    "failed": f"status = {FAILED}",
}

# A person's decision is certain, and a failure has no certainty: both come last.
_LAST: Final = "status = 3, said IS NOT NULL, certainty IS NULL"
ORDERS: Final = {
    "doubt": f"{_LAST}, certainty, id",
    "name": "folder, folded",
}


@dataclass(frozen=True, slots=True)
class Query:
    """Which photos to show, in which order. An empty text asks for any."""

    search: str = ""
    show: str = "all"
    label: str = ""
    """A class name: the person's, or the model's if nobody has decided."""
    folder: str = ""
    sort: str = "doubt"


class Index:
    """The photos of one table, by number. Not for use by two threads at once."""

    def __init__(self, rows: Iterable[tuple[Row, bytes]]) -> None:
        """Read rows with their lines, one per photo. Raises `ManifestError`."""
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_SCHEMA)
        self._classes: Counter[tuple[str, int, str]] = Counter()
        self._db.execute("PRAGMA journal_mode = OFF")  # no other process uses it
        numbered = enumerate(each for each in rows if not each[0].hidden)
        while some := list(islice(numbered, _BATCH)):
            self.write(
                "INSERT INTO line VALUES (?, ?)", ((number, line) for number, (_, line) in some)
            )
            self.write(_WRITE, ((number, *self._facts(row)) for number, (row, _) in some))
        self._db.execute("CREATE INDEX decided ON photo (said, label) WHERE said IS NOT NULL")
        self._size: int = self.ask("SELECT count(*) FROM photo")[0][0]
        self.attribute, self.classes = self._meant()

    def __len__(self) -> int:
        return self._size

    def ask(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Run one statement and return its rows."""
        return self._db.execute(sql, values).fetchall()

    def write(self, sql: str, values: Iterable[tuple[object, ...]]) -> None:
        """Write for many photos at once."""
        self._db.execute("BEGIN")
        self._db.executemany(sql, values)
        self._db.execute("COMMIT")

    def row(self, number: int) -> Row:
        """Return what is known of a photo."""
        [(line,)] = self.ask("SELECT line FROM line WHERE id = ?", number)
        return Row.from_line(line)

    def merge(self, rows: Iterable[Row]) -> list[int]:
        """Merge rows into those that are here; return the photos that look different now."""
        changed = {}
        for row in rows:
            number = self.number(row.source_ref)
            if number is None:
                continue
            before = self.row(number)
            after = merge(before, row)
            if after == before:
                continue
            self.write("UPDATE line SET line = ? WHERE id = ?", [(after.to_line(), number)])
            facts = self._facts(after)
            if facts != self._facts(before):
                changed[number] = facts
        self.write(_WRITE, ((number, *facts) for number, facts in changed.items()))
        return sorted(changed)

    def number(self, name: str) -> int | None:
        """Return the number of the photo of that name."""
        found = self.ask("SELECT id FROM photo WHERE name = ?", name)
        return int(found[0][0]) if found else None

    def select(self, query: Query) -> list[tuple[int, int]]:
        """Return (number, status) of the photos that were asked for, in their order."""
        where, values = [SHOW[query.show]], []
        for sql, value in (
            ("instr(folded, ?)", folded(query.search)),
            ("coalesce(said, label) = ?", query.label),
            ("folder = ?", query.folder),
        ):
            if value:
                where.append(sql)
                values.append(value)
        found = self.ask(
            f"SELECT id, status FROM photo WHERE {' AND '.join(where)} "  # noqa: S608 - ours
            f"ORDER BY {ORDERS[query.sort]}",
            *values,
        )
        return list(map(tuple, found))

    def _facts(self, row: Row) -> tuple[object, ...]:
        answer = row.answer or Answer()
        for said in (row.answer, row.decision):
            if said and said.label and said.attribute and said.index in CLASSES:
                self._classes[said.attribute, said.index, said.label] += 1
        failure = answer.failure
        label = None if failure else answer.label or row.label or UNKNOWN
        probability = answer.probability
        sure = None if probability is None else round(max(probability, 1 - probability), 4)
        return (
            row.source_ref,
            folded(row.source_ref),
            folder(row.source_ref),
            label,
            row.model or UNKNOWN,
            f"{failure.code}: {failure.message}" if failure else None,
            certainty(answer),
            sure,
            answer.needs_review,
            row.read.content if row.read else None,
            row.decision and row.decision.label,
            row.decision and row.decision.who,
        )

    def _meant(self) -> tuple[str, dict[int, str]]:
        """Return the most common label attribute, and what most rows call its classes."""
        found = [kind for kind, _ in self._classes.most_common()]
        chosen = found[0][0] if found else ""
        return chosen, {index: name for of, index, name in reversed(found) if of == chosen}


def certainty(answer: Answer) -> float | None:
    """Return how far the probability lies from the threshold: 0 at it, 1 at 0 or 1."""
    probability, threshold = answer.probability, answer.threshold
    if probability is None:
        return None
    if threshold is None or not 0 < threshold < 1:
        threshold = 0.5
    room = 1 - threshold if probability >= threshold else threshold
    return min(1.0, abs(probability - threshold) / room)


def folder(name: str) -> str:
    """Return an image's name up to and including the last slash."""
    return name[: name.rfind("/") + 1] or "./"


def folded(name: str) -> str:
    """Return a name as it is searched and sorted: without capitals, accents in one form."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())

"""The rows of a table in SQLite, so that a million of them are filtered and sorted from a file.

The database is a temporary file of this process. Nothing in a row is trusted: a
value of the wrong type counts as missing.
"""

from __future__ import annotations

import hashlib
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from alpaca_labeler.table.facts import RANDOM, Answer
from alpaca_labeler.table.progress import CHECK, Progress, doubt, is_changed
from alpaca_labeler.table.row import Row, merge

CLASSES: Final = (0, 1)
UNKNOWN: Final = "?"
_SEED: Final = b"1"
"""The same table always gives the same random check."""

LEFT, CONFIRMED, CHANGED = range(3)
"""Status of a photo."""

_SCHEMA: Final = """
    CREATE TABLE photo (
        id INTEGER PRIMARY KEY, name TEXT UNIQUE, folded TEXT,
        class INT, label TEXT,  -- the person's, else the model's
        was TEXT,               -- what the model says
        model TEXT, certainty REAL, confidence REAL, review INT, content TEXT,
        who TEXT, status INT,
        sample INT, draw INT,   -- whether it was checked at random; its place in that order
        line BLOB
    );
    CREATE INDEX undecided ON photo (draw, model) WHERE status = 0;
    CREATE INDEX sampled ON photo (id) WHERE sample;
"""

_WRITE: Final = f"INSERT OR REPLACE INTO photo VALUES ({', '.join('?' * 16)})"  # noqa: S608 - ours

_LEFT: Final = f"SELECT model FROM photo WHERE status = {LEFT}"  # noqa: S608 - ours
_CHECKED: Final = f"(sample AND (model IN ({_LEFT}) OR NOT EXISTS ({_LEFT})))"
_DRAWN: Final = f"""({_CHECKED} OR id IN (
    SELECT id FROM photo WHERE status = {LEFT} ORDER BY draw
    LIMIT max(0, {CHECK} - (SELECT count(*) FROM photo WHERE {_CHECKED}))
))"""  # noqa: S608 - ours
"""What was checked, then the next of what is left: the same photos, however often it is resumed.
Checks of a model that has no labels left do not count: they say nothing about the rest."""

_SHOW: Final = {
    "all": "1",
    "left": f"status = {LEFT}",
    "review": f"status = {LEFT} AND review",
    "changed": f"status = {CHANGED}",
    "confirmed": f"status = {CONFIRMED}",
    "random": _DRAWN,
}

_DOUBT: Final = f"status <> {LEFT}, certainty IS NULL, certainty, id"
"""A person's decision is certain: it comes last."""


class Query(Struct, frozen=True):
    """Which photos to show, the least certain first. An empty text asks for any."""

    search: Annotated[str, Meta(max_length=500)] = ""
    show: Literal["all", "left", "review", "changed", "confirmed", "random"] = "all"
    label: Literal["", "0", "1"] = ""
    """A class index: the person's, or the model's if nobody has decided."""


class Index:
    """The photos of one table that have a label, by number. Not for use by two threads at once."""

    def __init__(self, rows: Iterable[tuple[Row, bytes]]) -> None:
        """Read rows with their lines, one per photo. Raises `ManifestError`."""
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_SCHEMA)
        self._classes: Counter[tuple[str, int, str]] = Counter()
        self.progress = Progress()
        self._db.execute("PRAGMA journal_mode = OFF")  # no other process uses it
        self._size = 0
        self._write(self._read(rows))
        self.attribute, self.classes = self._meant()

    def __len__(self) -> int:
        return self._size

    def _read(self, rows: Iterable[tuple[Row, bytes]]) -> Iterator[tuple[object, ...]]:
        for row, line in rows:
            if not row.hidden and not row.failure:
                self.progress.add(row)
                yield self._size, *self._facts(row), line
                self._size += 1

    def ask(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Run one statement and return its rows."""
        return self._db.execute(sql, values).fetchall()

    def _write(self, photos: Iterable[tuple[object, ...]]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(_WRITE, photos)
        self._db.execute("COMMIT")

    def row(self, number: int) -> Row:
        """Return what is known of a photo."""
        [(line,)] = self.ask("SELECT line FROM photo WHERE id = ?", number)
        return Row.from_line(line)

    def merge(self, rows: Iterable[Row]) -> list[int]:
        """Merge rows into those that are here; return the photos that look different now."""
        changed = set()
        for row in rows:
            number = self.number(row.source_ref)
            if number is None:
                continue
            before = self.row(number)
            after = merge(before, row)
            if after == before:
                continue
            self.progress.add(before, -1)
            self.progress.add(after)
            facts = self._facts(after)
            self._write([(number, *facts, after.to_line())])
            if facts != self._facts(before):
                changed.add(number)
        return sorted(changed)

    def number(self, name: str) -> int | None:
        """Return the number of the photo of that name."""
        found = self.ask("SELECT id FROM photo WHERE name = ?", name)
        return int(found[0][0]) if found else None

    def select(self, query: Query) -> list[tuple[int, int]]:
        """Return (number, status) of the photos that were asked for, in their order."""
        where, values = [_SHOW[query.show]], []
        for sql, value in (
            ("instr(folded, ?)", folded(query.search)),
            ("class = CAST(? AS INT)", query.label),
        ):
            if value:
                where.append(sql)
                values.append(value)
        order = "draw" if query.show == "random" else _DOUBT
        found = self.ask(
            f"SELECT id, status FROM photo WHERE {' AND '.join(where)} "  # noqa: S608 - ours
            f"ORDER BY {order}",
            *values,
        )
        return list(map(tuple, found))

    def _facts(self, row: Row) -> tuple[object, ...]:
        answer, decision = row.answer or Answer(), row.decision
        for said in (row.answer, decision):
            if said and said.label and said.attribute and said.index in CLASSES:
                self._classes[said.attribute, said.index, said.label] += 1
        probability, wrong = answer.probability, doubt(row)
        threshold = 0.5 if answer.threshold is None else answer.threshold
        status = LEFT if decision is None else CHANGED if is_changed(row) else CONFIRMED
        return (
            row.source_ref,
            folded(row.source_ref),
            row.index,
            row.label or UNKNOWN,
            answer.label or UNKNOWN,
            row.model or UNKNOWN,
            None if probability is None else abs(probability - threshold),
            None if wrong is None else round(1 - wrong, 4),
            answer.needs_review,
            row.read.content if row.read else None,
            decision and decision.who,
            status,
            bool(decision and decision.sample == RANDOM),
            _draw(row.source_ref),
        )

    def _meant(self) -> tuple[str, dict[int, str]]:
        """Return the most common label attribute, and what most rows call its classes."""
        found = [kind for kind, _ in self._classes.most_common()]
        chosen = found[0][0] if found else ""
        return chosen, {index: name for of, index, name in reversed(found) if of == chosen}


def folded(name: str) -> str:
    """Return a name as it is searched and sorted: without capitals, accents in one form."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


def _draw(name: str) -> int:
    """Return a photo's place in a random order that follows from its name alone."""
    digest = hashlib.blake2b(name.encode(), digest_size=6, key=_SEED).digest()
    return int.from_bytes(digest)

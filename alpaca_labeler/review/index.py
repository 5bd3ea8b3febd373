"""The rows of a table in SQLite, so that a million of them are filtered and sorted from a file.

The database is a temporary file of this process. Nothing in a row is trusted: a
value of the wrong type counts as missing.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from alpaca_labeler.model.bundle import RESERVED
from alpaca_labeler.table import manifest_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alpaca_labeler.table.manifest_row import Row

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
        label TEXT,      -- what the table says without corrections; NULL for a failure
        model TEXT, reason TEXT, certainty REAL, confidence REAL, review INT,
        said TEXT, who TEXT,  -- what a person says, and who
        human INT,       -- whether a person's label is in the table itself
        status INT GENERATED ALWAYS AS ({_STATUS}) STORED
    );
    CREATE TABLE line (id INTEGER PRIMARY KEY, line BLOB);
"""

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
    "certain": f"{_LAST}, certainty DESC, id",
    "name": "folder, folded",
}


@dataclass(frozen=True, slots=True)
class Query:
    """Which photos to show, in which order. An empty text asks for any."""

    search: str = ""
    show: str = "all"
    label: str = ""
    """A class name: the person's, or the model's if nobody has decided."""
    model: str = ""
    folder: str = ""
    sort: str = "doubt"


class Index:
    """The photos of one table, by number. Not for use by two threads at once."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        """Read rows, one per photo. Raises `ManifestError`."""
        self._db = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_SCHEMA)
        self._classes: Counter[tuple[str, int, str]] = Counter()
        self._db.execute("PRAGMA journal_mode = OFF")  # no other process uses it
        numbered = enumerate(lines)
        while some := list(islice(numbered, _BATCH)):
            self.write("INSERT INTO line VALUES (?, ?)", some)
            self.write(
                "INSERT INTO photo VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((number, *self._facts(manifest_row.parse(line))) for number, line in some),
            )
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
        """Return a photo's row as the table has it."""
        [(line,)] = self.ask("SELECT line FROM line WHERE id = ?", number)
        return manifest_row.parse(line)

    def find(self, said: Row) -> int | None:
        """Return the number of the photo whose version `said` is about."""
        number = self.number(said["source-ref"])
        if number is None or not manifest_row.names_version(said):
            return number
        return number if manifest_row.same_version(self.row(number), said) else None

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
            ("model = ?", query.model),
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
        name: str = row["source-ref"]
        labeler, failure = manifest_row.block(row, "labeler"), manifest_row.block(row, "failure")
        failed, person = manifest_row.is_failure(row), manifest_row.is_human(row)
        label = None if failed else manifest_row.label(row) or UNKNOWN
        if label:
            self._count(row, label)
        said, who = (label, _text(labeler.get("annotator"))) if person else (None, None)
        review = not failed and labeler.get("needs-review") is True
        confidence = manifest_row.confidence(row)
        if person:  # its row keeps what the model had said
            failed = "model-failure" in labeler
            failure = manifest_row.block(labeler, "model-failure")
            label = None if failed else _text(labeler.get("model-class-name")) or label
            review = labeler.get("model-needs-review") is True
            probability = manifest_row.probability(row)
            confidence = probability and round(max(probability, 1 - probability), 4)
        return (
            name,
            folded(name),
            folder(name),
            label,
            manifest_row.model_version(row) or UNKNOWN,
            f"{failure.get('code')}: {failure.get('message')}" if failed else None,
            None if failed else certainty(row, confidence),
            None if failed else confidence,
            review,
            said,
            who,
            person,
        )

    def _count(self, row: Row, label: str) -> None:
        attribute = manifest_row.attribute(row) or ""
        index = row.get(attribute)
        if attribute and attribute not in RESERVED and type(index) is int and index in CLASSES:
            self._classes[attribute, index, label] += 1

    def _meant(self) -> tuple[str, dict[int, str]]:
        """Return the most common label attribute, and what most rows call its classes."""
        found = [kind for kind, _ in self._classes.most_common()]
        chosen = found[0][0] if found else ""
        return chosen, {index: name for of, index, name in reversed(found) if of == chosen}


def certainty(row: Row, confidence: float | None) -> float | None:
    """Return how far the probability lies from the threshold: 0 at it, 1 at 0 or 1."""
    probability = manifest_row.probability(row)
    threshold = manifest_row.number(manifest_row.block(row, "labeler").get("threshold"))
    if probability is None:
        probability, threshold = confidence, 0.5
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


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None

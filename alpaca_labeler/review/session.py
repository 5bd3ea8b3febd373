"""What is being reviewed: the manifest's rows, what people say of them, and the lists on show.

A list is put together once and then stays as it is, so that nothing moves under the hand of who is
working through it; only the labels in it change. For use by any thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from alpaca_labeler.console import printable
from alpaca_labeler.handler import manifest_row
from alpaca_labeler.handler.manifest_row import ManifestError
from alpaca_labeler.review import shown
from alpaca_labeler.review.index import label_name
from alpaca_labeler.table.corrections import Label, again, decision, made_at, withdrawal

if TYPE_CHECKING:
    import numpy.typing as npt

    from alpaca_labeler.handler.manifest_row import Row
    from alpaca_labeler.review.index import Index
    from alpaca_labeler.table.corrections import BucketCorrections, Corrections

KINDS: Final = ("all", "review", "failed")
PEOPLE: Final = ("all", "left", "changed", "confirmed")
SORTS: Final = ("doubt", "certain", "name", "newest")

MAX_ROWS: Final = 200
"""Rows that one answer holds."""
MAX_VIEWS: Final = 16
"""Lists that are kept, 4 bytes a row: some for each open page. An older one is made again."""
MAX_CHANGES: Final = 500
"""Changed rows that one answer names; where there are more, a page asks for its rows again."""

_TICK: Final = timedelta(microseconds=1)


class Outdated(Exception):
    """The page speaks of a list or of a state of the manifest that is not there any more."""


class Refused(Exception):
    """What was asked for cannot be done. The message says why, for people."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows to show, in which order."""

    search: str = ""
    kind: str = "all"
    people: str = "all"
    label: str | None = None
    """A class name: the person's word where there is one, else the model's."""
    model: str | None = None
    folder: str | None = None
    sort: str = "doubt"


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from."""

    name: str
    """For people."""
    read: Callable[[], Index]
    changed: Callable[[], bool]
    """Tells whether `read` would find other rows than it did last."""


class Session:
    """A review of one manifest, into one file of corrections."""

    def __init__(
        self,
        source: Source,
        corrections: Corrections | BucketCorrections,
        classes: dict[int, str],
        annotator: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read manifest and corrections. `classes` are names by index for those no row tells.

        Raises `ManifestError`, `CorrectionsError` and `OSError`.
        """
        self.annotator = annotator
        self.source = source
        self._corrections = corrections
        self._given_classes = classes
        self._clock = clock
        self._lock = threading.RLock()
        self._counter = 0
        self._steps: list[tuple[int, Row | None, Row | None]] = []
        """(row, decision, the one before) of what was decided here; None once taken back."""
        self.made = 0
        """Decisions that were made here, and not taken back."""
        self.reload()

    def reload(self) -> None:
        """Read the manifest again."""
        with self._lock:
            self.index = self.source.read()
            self.classes = {**self.index.classes, **self._given_classes}
            self._views: OrderedDict[int, npt.NDArray[np.int32]] = OrderedDict()
            self._said: dict[int, Row] = {}
            self._given = np.where(self.index.human, self.index.label, -1).astype(np.int32)
            self._changes: list[int] = []
            self._counter += 1
            self.generation = self._counter
            self._corrections.forget()
            self._follow()

    # --- lists -----------------------------------------------------------------------------------

    def start(self) -> dict[str, Any]:
        """Return what a page needs to begin."""
        with self._lock:
            index = self.index
            return {
                "name": printable(self.source.name),
                "corrections": printable(self._corrections.path),
                "annotator": printable(self.annotator),
                "generation": self.generation,
                "rows": len(index),
                "classes": [printable(self.classes[number]) for number in sorted(self.classes)],
                "labels": shown.counted(index.labels, self._effective()),
                "models": shown.counted(index.models, index.model),
                "folders": shown.counted(index.folders, index.folder),
                "review": int(index.review.sum()),
                "failed": int((index.label < 0).sum()),
            }

    def view(self, query: Query) -> dict[str, Any]:
        """Make a list and return its number, its length and its progress."""
        with self._lock:
            self._follow()
            rows = self._ordered(np.flatnonzero(self._mask(query)).astype(np.int32), query.sort)
            self._counter += 1
            self._views[self._counter] = rows
            while len(self._views) > MAX_VIEWS:
                self._views.popitem(last=False)
            return {
                "view": self._counter,
                "rows": len(rows),
                "generation": self.generation,
                "since": len(self._changes),
                "progress": self._progress(rows),
            }

    def rows(self, view: int, offset: int, limit: int) -> list[dict[str, Any]]:
        """Return a part of a list as `shown.tile` describes rows. Raises `Outdated`."""
        with self._lock:
            numbers = self._view(view)[max(0, offset) :][: max(0, min(limit, MAX_ROWS))].tolist()
            return [self._tile(each) for each in numbers]

    def changes(self, view: int, since: int) -> dict[str, Any]:
        """Return which rows people have spoken of since, in this page or any other.

        Raises `Outdated`, and `CorrectionsError`.
        """
        with self._lock:
            self._follow()
            rows = sorted(set(self._changes[max(0, since) :]))
            return {
                "since": len(self._changes),
                "all": len(rows) > MAX_CHANGES,
                "rows": [self._tile(row) for row in rows] if len(rows) <= MAX_CHANGES else [],
                "progress": self._progress(self._view(view)),
                "stale": self.source.changed(),
            }

    def _view(self, view: int) -> npt.NDArray[np.int32]:
        if view not in self._views:
            raise Outdated
        self._views.move_to_end(view)
        return self._views[view]

    def _effective(self) -> npt.NDArray[np.int32]:
        return np.where(self._given >= 0, self._given, self.index.label)

    def _mask(self, query: Query) -> npt.NDArray[np.bool_]:
        index = self.index
        mask = np.ones(len(index), dtype=np.bool_)
        if query.kind == "review":
            mask &= index.review
        elif query.kind == "failed":
            mask &= index.label < 0
        said = self._given >= 0
        if query.people == "left":
            mask &= ~said
        elif query.people == "changed":
            mask &= said & (self._given != index.label)
        elif query.people == "confirmed":
            mask &= said & (self._given == index.label)
        for wanted, names, column in (
            (query.label, index.labels, self._effective()),
            (query.model, index.models, index.model),
            (query.folder, index.folders, index.folder),
        ):
            if wanted is not None:
                mask &= column == names.get(wanted, -2)
        return mask & index.search(query.search) if query.search else mask

    def _ordered(self, rows: npt.NDArray[np.int32], sort: str) -> npt.NDArray[np.int32]:
        index = self.index
        if sort == "name":
            return rows[np.argsort(index.ranks()[rows], kind="stable")]
        if sort == "newest":
            backwards = rows[::-1]
            return backwards[np.argsort(index.created[backwards], kind="stable")][::-1]
        doubt = index.doubt[rows] if sort == "doubt" else -index.doubt[rows]
        # What a person has said is certain, and a failure has nothing to be certain of.
        last = np.where(index.label[rows] < 0, 2, self._given[rows] >= 0)
        return rows[np.lexsort((doubt, last))]

    def _progress(self, rows: npt.NDArray[np.int32]) -> dict[str, int]:
        given = self._given[rows]
        said = int((given >= 0).sum())
        confirmed = int(((given >= 0) & (given == self.index.label[rows])).sum())
        return {"changed": said - confirmed, "confirmed": confirmed, "left": len(rows) - said}

    # --- rows ------------------------------------------------------------------------------------

    def row(self, generation: int, row: int) -> Row:
        """Read a row. Raises `Outdated` where it is of another state of the manifest.

        So do all that read rows; they raise `ManifestError` where there is no manifest any more.
        """
        with self._lock:
            if generation != self.generation or not 0 <= row < len(self.index):
                raise Outdated
            return self._read(row)

    def _read(self, row: int) -> Row:
        try:
            return self.index.row(row)
        except ManifestError:  # overwritten in place, as no command of ours does
            self.reload()
            raise Outdated from None

    def facts(self, generation: int, row: int) -> list[tuple[str, str]]:
        """Return all that is known of a row, as text."""
        with self._lock:
            found = [*shown.facts(self.row(generation, row))]
            if said := self._said.get(row):
                found += [(f"person: {name}", text) for name, text in shown.facts(said)]
            return found

    def _tile(self, row: int) -> dict[str, Any]:
        return {
            "row": row,
            **shown.tile(self._read(row)),
            "status": self._status(row),
            **shown.word(self._said.get(row)),
        }

    def _status(self, row: int) -> str:
        if self._given[row] < 0:
            return "left"
        return "confirmed" if self._given[row] == self.index.label[row] else "changed"

    # --- decisions -------------------------------------------------------------------------------

    def correct(self, generation: int, row: int, index: int, size: tuple[int, int] | None) -> str:
        """Write down that a person calls a photo the class `index`; return what `undo` takes.

        Empty where that is what people say of it already. `size` is the photo's (width, height) of
        one that could not be labelled.

        Raises `Outdated`, `Refused`, and `CorrectionsError`: then nothing is written.
        """
        with self._lock:
            found = self.row(generation, row)
            self._follow()
            name = self.classes.get(index)
            if name is None:
                raise Refused("there is no such class")
            if self._given[row] == self.index.labels[name]:
                return ""
            if size is not None:
                found = {
                    **found,
                    "labeler": {
                        **manifest_row.block(found, "labeler"),
                        "width": size[0],
                        "height": size[1],
                    },
                }
            made = max(self._clock(), self._last_word(row) + _TICK)
            label = Label(self.index.attribute, index, name)
            new = decision(found, label, self.annotator, made)
            self._corrections.add_all([new])
            identity = str(len(self._steps))
            self._steps.append((row, new, self._said.get(row)))
            self.made += 1
            self._follow()
            return identity

    def undo(self, identity: str) -> bool:
        """Take back one decision; False where it is not there. Raises `CorrectionsError`."""
        with self._lock:
            if not identity.isdecimal() or int(identity) >= len(self._steps):
                return False
            self._follow()
            row, taken, before = self._steps[int(identity)]
            if taken is None:
                return False
            self._steps[int(identity)] = row, None, None
            self.made -= 1
            if self._said.get(row) == taken:  # else somebody has decided since, and that counts
                made = max(self._clock(), self._last_word(row) + _TICK)
                new = again(before, made) if before else withdrawal(taken, made)
                self._corrections.add_all([new])
                self._follow()
            return True

    def _last_word(self, row: int) -> datetime:
        # A clock that was set back must not make the earlier word the last one.
        said = self._said.get(row)
        try:
            return datetime.fromisoformat(made_at(said or {})).replace(tzinfo=UTC)
        except ValueError:
            return datetime.min.replace(tzinfo=UTC)

    def _follow(self) -> None:
        """Take in what people have said since, here or in another process."""
        news = self._corrections.news()
        if not news.anew:
            self._changes.extend(self._take(news.rows))
            return
        given, said = self._given, self._said
        self._given = np.where(self.index.human, self.index.label, -1).astype(np.int32)
        self._said = {}
        self._take(news.rows)
        known = {*said, *self._said}
        self._changes.extend(np.flatnonzero(given != self._given).tolist())
        self._changes.extend(row for row in known if said.get(row) != self._said.get(row))

    def _take(self, rows: list[Row]) -> list[int]:
        """Take in what people said, and return which rows of ours it is about."""
        taken: list[int] = []
        for said in rows:
            row = self.index.find(said)
            if row is None:
                continue
            known = self._said.get(row)
            if known is not None and made_at(known) > made_at(said):
                continue
            if manifest_row.withdrawn(said):
                self._said.pop(row, None)
                self._given[row] = -1
            else:
                self._said[row] = said
                self._given[row] = self.index.labels[label_name(manifest_row.metadata(said))]
            taken.append(row)
        return taken

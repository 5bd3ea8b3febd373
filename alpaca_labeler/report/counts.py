"""What a report counts and picks while rows pass by: in one reading, in flat memory.

Whatever the rows hold, nothing here raises: a manifest may come from anywhere.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from alpaca_labeler.handler import manifest_row
from alpaca_labeler.report.times import Times

if TYPE_CHECKING:
    from collections.abc import Hashable

    from alpaca_labeler.handler.manifest_row import Row

BINS: Final = 20
"""Of the histogram of probabilities."""

MANY: Final = 1000
"""Different names (labels, models, reasons) that are told apart; a manifest has a handful."""

EXAMPLES: Final = 3
"""Photos named for each reason."""

_SEED: Final = 0
"""The same manifest is to give the same report."""


class Tally(Counter[Any]):
    """Counts that stay few: of names beyond `MANY`, only how often one came."""

    def __init__(self) -> None:
        super().__init__()
        self.others = 0

    def count(self, name: Hashable) -> None:
        """Count one more."""
        if name in self or len(self) < MANY:
            self[name] += 1
        else:
            self.others += 1


class Sample:
    """So many of a stream, each with the same chance, chosen by skipping (Li's algorithm L)."""

    def __init__(self, size: int) -> None:
        self.rows: list[tuple[int, Row]] = []
        """(place in the stream, row), in no order."""
        self._size = size
        self._seen = 0
        self._random = random.Random(_SEED)  # noqa: S311 - to be the same every time
        self._weight = 1.0
        self._next = 0

    def offer(self, row: Row) -> None:
        """See one more row."""
        place, self._seen = self._seen, self._seen + 1
        if len(self.rows) < self._size:
            self.rows.append((place, row))
            if len(self.rows) == self._size:
                self._skip(place)
        elif self._size and place == self._next:
            self.rows[self._random.randrange(self._size)] = place, row
            self._skip(place)

    def _skip(self, place: int) -> None:
        self._weight *= (1 - self._random.random()) ** (1 / self._size)
        # A weight that is no longer told from 0 would take more rows than there are.
        gap = math.log(1 - self._random.random()) / math.log1p(-max(self._weight, 1e-300))
        self._next = place + int(min(gap, 1e15)) + 1


@dataclass(slots=True)
class Reason:
    """Why photos could not be labelled."""

    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)
    """(source-ref, message) of the first of them."""


@dataclass(slots=True)
class Counts:
    """All that a report says of a manifest. Make it, `add` each row, read it."""

    least: int
    """How many of the least certain to pick."""
    sample: Sample
    """Of the labelled photos."""
    rows: int = 0
    review: int = 0
    people: int = 0
    failed: int = 0
    unlabelled: int = 0
    """Rows that are neither a label nor a failure."""
    labels: Tally = field(default_factory=Tally)
    """By (index, class name)."""
    models: Tally = field(default_factory=Tally)
    reasons: dict[str, Reason] = field(default_factory=dict)
    other_reasons: int = 0
    scores: list[list[int]] = field(default_factory=lambda: [[0, 0] for _ in range(BINS)])
    """Rows by probability, parted into [the positive label, others]."""
    thresholds: Tally = field(default_factory=Tally)
    band: tuple[float, float] = (math.inf, -math.inf)
    """Lowest and highest probability that needed a review."""
    times: Times = field(default_factory=Times)
    """[The positive label, others, failures] by creation date."""
    _least: list[tuple[float, int, Row]] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Count one more row."""
        self.rows += 1
        if manifest_row.is_failure(row):
            self._add_failure(row)
            return
        facts = manifest_row.metadata(row)
        name = facts.get("class-name")
        if not isinstance(name, str):
            self.unlabelled += 1
            return
        index = row.get(f"{manifest_row.attribute(row)}")
        positive = index == 1
        self.labels.count((index if type(index) is int else -1, name))
        self.models.count(manifest_row.model_version(row) or "unknown")
        self.times.add(manifest_row.created(row), int(not positive))
        self.sample.offer(row)
        if facts.get("human-annotated") == "yes":
            self.people += 1
        else:
            self._add_score(row, positive=positive)

    def _add_score(self, row: Row, *, positive: bool) -> None:
        labeler = manifest_row.block(row, "labeler")
        review = labeler.get("needs-review") is True
        self.review += review
        probability, threshold = share(labeler.get("probability")), share(labeler.get("threshold"))
        if probability is None:
            return
        self.scores[min(int(probability * BINS), BINS - 1)][not positive] += 1
        if review:
            self.band = min(self.band[0], probability), max(self.band[1], probability)
        if threshold is None:
            return
        self.thresholds.count(threshold)
        # Of equally uncertain ones the first: the place in the manifest decides, and not the heap.
        item = (-abs(probability - threshold), -self.rows, row)
        if len(self._least) < self.least:
            heapq.heappush(self._least, item)
        elif self._least and item[:2] > self._least[0][:2]:
            heapq.heapreplace(self._least, item)

    def _add_failure(self, row: Row) -> None:
        self.failed += 1
        self.times.add(manifest_row.created(row), 2)
        failure = manifest_row.block(row, "failure")
        code = failure.get("code")
        code = code if isinstance(code, str) else "unknown"
        if code not in self.reasons and len(self.reasons) == MANY:
            self.other_reasons += 1
            return
        reason = self.reasons.setdefault(code, Reason())
        reason.count += 1
        if len(reason.examples) < EXAMPLES:
            message = failure.get("message")
            text = message if isinstance(message, str) else ""
            reason.examples.append((row["source-ref"], text))

    def least_certain(self) -> list[Row]:
        """Return the rows nearest to their threshold, the nearest first."""
        return [row for _, _, row in sorted(self._least, key=lambda item: item[:2], reverse=True)]

    def drawn(self) -> list[Row]:
        """Return the random sample, in the manifest's order."""
        return [row for _, row in sorted(self.sample.rows, key=lambda item: item[0])]


def share(value: object) -> float | None:
    """Return a number from 0 to 1; None for whatever else stands in its place."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)

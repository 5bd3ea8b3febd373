"""What a table holds, counted and sampled while its rows pass by: one reading, flat memory.

Whatever the rows hold, nothing here raises: a manifest may come from anywhere.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final

from alpaca_labeler.table.facts import Failure
from alpaca_labeler.table.progress import Progress
from alpaca_labeler.table.row import Row

BINS: Final = 20
"""Of the histogram of probabilities."""

EXAMPLES: Final = 3
"""Photos named for each reason."""

FOLDERS: Final = 10_000
"""Folders counted separately. The photos of any more are counted together, under `OTHERS`."""

OTHERS: Final = "(other folders)"

_SEED: Final = 0
"""The same manifest gives the same sample."""


class Top:
    """The `size` rows with the greatest scores; of equal scores the first rows count."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen = 0
        self._heap: list[tuple[float, int, Row]] = []

    def offer(self, score: float, row: Row) -> None:
        """See one more row."""
        self._seen += 1
        item = (score, -self._seen, row)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, item)
        elif self._heap and item > self._heap[0]:
            heapq.heapreplace(self._heap, item)

    def best(self) -> list[Row]:
        """Return the rows, the greatest score first."""
        return [row for _, _, row in sorted(self._heap, reverse=True)]

    def in_order(self) -> list[Row]:
        """Return the rows as they came."""
        return [row for _, _, row in sorted(self._heap, key=itemgetter(1), reverse=True)]


Group = list[int]
"""Photos of one folder: [label 1, other labels, failed, needs review]."""


@dataclass(slots=True)
class Reason:
    """Why photos could not be labelled."""

    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)
    """(source-ref, message) of the first of them."""


@dataclass
class Counts:
    """All that is counted. Make it, `add` each row, read it."""

    least: int = 0
    """How many of the least certain labels to keep."""
    sample: int = 0
    """How many labels of either class to sample."""
    rows: int = 0
    review: int = 0
    progress: Progress = field(default_factory=Progress)
    failed: int = 0
    unlabelled: int = 0
    """Rows that are neither a label nor a failure."""
    ambiguous: int = 0
    """Rows of another tool with several image labels, of which the first counts."""
    labels: Counter[tuple[int, str]] = field(default_factory=Counter)
    """By (index, class name); index -1 if a row has none."""
    models: Counter[str] = field(default_factory=Counter)
    """Labels by model version."""
    reasons: dict[str, Reason] = field(default_factory=dict)
    scores: list[list[int]] = field(default_factory=lambda: [[0, 0] for _ in range(BINS)])
    """Models' labels by probability: [label 1, others] for each of `BINS`."""
    thresholds: Counter[float] = field(default_factory=Counter)
    band: tuple[float, float] = (math.inf, -math.inf)
    """Lowest and highest probability that needs review."""
    folders: dict[str, Group] = field(default_factory=dict)
    _least: Top = field(init=False)
    _samples: tuple[Top, Top] = field(init=False)

    def __post_init__(self) -> None:
        self._least = Top(self.least)
        self._samples = Top(self.sample), Top(self.sample)
        self._random = random.Random(_SEED)  # noqa: S311 - not for secrets

    def add(self, row: Row) -> None:
        """Count one more row."""
        self.rows += 1
        if row.failure:
            series = 2
            self._add_failure(row.source_ref, row.failure)
        elif row.label is None:
            self.unlabelled += 1
            return
        else:
            series = int(row.index != 1)
            self._add_label(row, row.label)
        self.ambiguous += bool(row.ambiguous)
        folder = row.source_ref.rpartition("/")[0]
        if folder not in self.folders and len(self.folders) >= FOLDERS:
            folder = OTHERS
        group = self.folders.setdefault(folder, [0, 0, 0, 0])
        group[series] += 1
        group[3] += row.needs_review

    def _add_label(self, row: Row, name: str) -> None:
        positive = row.index == 1
        self.labels[-1 if row.index is None else row.index, name] += 1
        self.models[row.model or "unknown"] += 1
        self.review += row.needs_review
        # The rows with the greatest random numbers are a sample: every row is equally likely.
        self._samples[positive].offer(self._random.random(), row)
        self.progress.add(row)
        if not row.decision:
            self._add_score(row, positive=positive)

    def _add_score(self, row: Row, *, positive: bool) -> None:
        probability = row.probability
        if probability is None:
            return
        self.scores[min(int(probability * BINS), BINS - 1)][not positive] += 1
        if row.needs_review:
            self.band = min(self.band[0], probability), max(self.band[1], probability)
        threshold = row.answer.threshold if row.answer else None
        if threshold is None:
            return
        self.thresholds[threshold] += 1
        self._least.offer(-abs(probability - threshold), row)

    def _add_failure(self, name: str, failure: Failure) -> None:
        self.failed += 1
        reason = self.reasons.setdefault(failure.code, Reason())
        reason.count += 1
        if len(reason.examples) < EXAMPLES:
            reason.examples.append((name, failure.message))

    def least_certain(self) -> list[Row]:
        """Return the rows nearest to their threshold, the nearest first."""
        return self._least.best()

    def sampled(self) -> tuple[list[Row], list[Row]]:
        """Return random samples: of photos with label 1, and of the others."""
        return self._samples[True].in_order(), self._samples[False].in_order()

"""What a table holds, counted and sampled while its rows pass by: one reading, flat memory.

Whatever the rows hold, nothing here raises: a manifest may come from anywhere.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from alpaca_labeler.table.facts import Failure
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


class Sample:
    """A random sample of a stream, every row equally likely: reservoir sampling, algorithm R."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen = 0
        self._rows: list[tuple[int, Row]] = []
        self._random = random.Random(_SEED)  # noqa: S311 - not for secrets

    def offer(self, row: Row) -> None:
        """See one more row."""
        place, self._seen = self._seen, self._seen + 1
        if place < self._size:
            self._rows.append((place, row))
        elif (drawn := int(self._random.random() * self._seen)) < self._size:
            self._rows[drawn] = place, row

    def rows(self) -> list[Row]:
        """Return the sampled rows, in the order of the stream."""
        return [row for _, row in sorted(self._rows, key=lambda item: item[0])]


Group = list[int]
"""Photos of one folder: [label 1, other labels, failed, needs review]."""


@dataclass(slots=True)
class Reason:
    """Why photos could not be labelled."""

    count: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)
    """(source-ref, message) of the first of them."""


@dataclass(slots=True)
class Counts:
    """All that is counted. Make it, `add` each row, read it."""

    least: int = 0
    """How many of the least certain labels to keep."""
    sample: int = 0
    """How many labels of either class to sample."""
    rows: int = 0
    review: int = 0
    people: int = 0
    """Labels that a person gave or confirmed."""
    failed: int = 0
    unlabelled: int = 0
    """Rows that are neither a label nor a failure."""
    ambiguous: int = 0
    """Rows of another tool with several image labels, of which the first counts."""
    labels: Counter[tuple[int, str]] = field(default_factory=Counter)
    """By (index, class name); index -1 if a row has none."""
    models: Counter[str] = field(default_factory=Counter)
    """Labels by model version."""
    judged: Counter[tuple[bool, bool]] = field(default_factory=Counter)
    """People's labels of photos that a model had labelled: by (person says label 1, model did)."""
    reasons: dict[str, Reason] = field(default_factory=dict)
    scores: list[list[int]] = field(default_factory=lambda: [[0, 0] for _ in range(BINS)])
    """Models' labels by probability: [label 1, others] for each of `BINS`."""
    thresholds: Counter[float] = field(default_factory=Counter)
    band: tuple[float, float] = (math.inf, -math.inf)
    """Lowest and highest probability that needs review."""
    folders: dict[str, Group] = field(default_factory=dict)
    _least: list[tuple[float, int, Row]] = field(default_factory=list)
    _samples: tuple[Sample, Sample] = field(init=False)

    def __post_init__(self) -> None:
        self._samples = Sample(self.sample), Sample(self.sample)

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
        self._samples[positive].offer(row)
        if not row.decision:
            self._add_score(row, positive=positive)
            return
        self.people += 1
        if row.answer and row.answer.label:
            # Of two classes: a model that did not say this one said the other.
            self.judged[positive, positive == (row.answer.label == name)] += 1

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
        # Of equally uncertain ones the first: the place in the manifest decides, and not the heap.
        item = (-abs(probability - threshold), -self.rows, row)
        if len(self._least) < self.least:
            heapq.heappush(self._least, item)
        elif self._least and item[:2] > self._least[0][:2]:
            heapq.heapreplace(self._least, item)

    def _add_failure(self, name: str, failure: Failure) -> None:
        self.failed += 1
        reason = self.reasons.setdefault(failure.code, Reason())
        reason.count += 1
        if len(reason.examples) < EXAMPLES:
            reason.examples.append((name, failure.message))

    def changed(self) -> int:
        """Return how many of the people's labels are not what the model had said."""
        return self.judged[True, False] + self.judged[False, True]

    def least_certain(self) -> list[Row]:
        """Return the rows nearest to their threshold, the nearest first."""
        return [row for _, _, row in sorted(self._least, key=lambda item: item[:2], reverse=True)]

    def sampled(self) -> tuple[list[Row], list[Row]]:
        """Return random samples: of photos with label 1, and of the others."""
        return self._samples[True].rows(), self._samples[False].rows()

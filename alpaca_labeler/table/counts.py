"""What a table holds, counted and sampled while its rows pass by: one reading, flat memory.

Whatever the rows hold, nothing here raises: a manifest may come from anywhere.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Final

from alpaca_labeler.table import manifest_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alpaca_labeler.table.manifest_row import Row

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
"""Photos of one day or one folder: [label 1, other labels, failed, needs review]."""


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
    days: dict[str, Group] = field(default_factory=dict)
    """By the day on which the photo's file or object was written (`2026-01-31`, UTC)."""
    folders: dict[str, Group] = field(default_factory=dict)
    _least: list[tuple[float, int, Row]] = field(default_factory=list)
    _samples: tuple[Sample, Sample] = field(init=False)

    def __post_init__(self) -> None:
        self._samples = Sample(self.sample), Sample(self.sample)

    def add(self, row: Row) -> None:
        """Count one more row."""
        self.rows += 1
        name = manifest_row.label(row)
        if manifest_row.is_failure(row):
            series, review = 2, False
            self._add_failure(row)
        elif name is None:
            self.unlabelled += 1
            return
        else:
            index = row.get(manifest_row.attribute(row) or "")
            index = index if type(index) is int else -1
            series, review = int(index != 1), manifest_row.needs_review(row)
            self._add_label(row, index, name, review=review)
        for group in self._groups(row):
            group[series] += 1
            group[3] += review

    def _groups(self, row: Row) -> Iterator[Group]:
        folder = row["source-ref"].rpartition("/")[0]
        if folder not in self.folders:
            folder = folder if len(self.folders) < FOLDERS else OTHERS
        yield self.folders.setdefault(folder, [0, 0, 0, 0])
        date = manifest_row.block(row, "labeler").get("last-modified")
        day = date[:10] if isinstance(date, str) else ""
        if day in self.days or _is_day(day):
            yield self.days.setdefault(day, [0, 0, 0, 0])

    def _add_label(self, row: Row, index: int, name: str, *, review: bool) -> None:
        positive = index == 1
        self.labels[index, name] += 1
        self.models[manifest_row.model_version(row) or "unknown"] += 1
        self.review += review
        self._samples[positive].offer(row)
        if not manifest_row.is_human(row):
            self._add_score(row, positive=positive, review=review)
            return
        self.people += 1
        model_said = manifest_row.block(row, "labeler").get("model-class-name")
        if isinstance(model_said, str):
            # Of two classes: a model that did not say this one said the other.
            self.judged[positive, positive == (model_said == name)] += 1

    def _add_score(self, row: Row, *, positive: bool, review: bool) -> None:
        probability = manifest_row.probability(row)
        if probability is None:
            return
        self.scores[min(int(probability * BINS), BINS - 1)][not positive] += 1
        if review:
            self.band = min(self.band[0], probability), max(self.band[1], probability)
        threshold = manifest_row.number(manifest_row.block(row, "labeler").get("threshold"))
        if threshold is None or not 0 <= threshold <= 1:
            return
        self.thresholds[threshold] += 1
        # Of equally uncertain ones the first: the place in the manifest decides, and not the heap.
        item = (-abs(probability - threshold), -self.rows, row)
        if len(self._least) < self.least:
            heapq.heappush(self._least, item)
        elif self._least and item[:2] > self._least[0][:2]:
            heapq.heapreplace(self._least, item)

    def _add_failure(self, row: Row) -> None:
        self.failed += 1
        failure = manifest_row.block(row, "failure")
        code, message = failure.get("code"), failure.get("message")
        reason = self.reasons.setdefault(code if isinstance(code, str) else "unknown", Reason())
        reason.count += 1
        if len(reason.examples) < EXAMPLES:
            text = message if isinstance(message, str) else ""
            reason.examples.append((row["source-ref"], text))

    def changed(self) -> int:
        """Return how many of the people's labels are not what the model had said."""
        return self.judged[True, False] + self.judged[False, True]

    def least_certain(self) -> list[Row]:
        """Return the rows nearest to their threshold, the nearest first."""
        return [row for _, _, row in sorted(self._least, key=lambda item: item[:2], reverse=True)]

    def sampled(self) -> tuple[list[Row], list[Row]]:
        """Return random samples: of photos with label 1, and of the others."""
        return self._samples[True].rows(), self._samples[False].rows()


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False

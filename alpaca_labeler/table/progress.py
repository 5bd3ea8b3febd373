"""How far people have checked a table, and how many of the labels that are left may be wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from alpaca_labeler.table.facts import RANDOM
from alpaca_labeler.table.row import Row

CHECK: Final = 60
"""Photos of a random check: if none is wrong, at least 94 % of what was left is right."""

_Z95: Final = 1.959964
"""Standard deviations on either side that hold 95 % of a normal distribution."""


@dataclass(slots=True)
class Progress:
    """What people have decided. Make it, `add` each row, print it."""

    left_of: Counter[str] = field(default_factory=Counter)
    """Labels that only a model has given, by model."""
    changed: int = 0
    """Labels by people that are not what the model had said."""
    confirmed: int = 0
    """All other labels by people."""
    checked_of: Counter[str] = field(default_factory=Counter)
    """Labels by people in a random check, by the model that they were checked of."""
    wrong_of: Counter[str] = field(default_factory=Counter)
    """Of those, changed ones."""
    doubt_left: float = 0.0
    """The sum of 1 - confidence over what is left: the mistakes that the model expects there."""
    doubt_decided: float = 0.0
    """The same over what people have decided."""
    without_doubt: int = 0
    """Labels that are left and have no confidence."""

    def add(self, row: Row, times: int = 1) -> None:
        """Count a row; with -1, count it no longer."""
        if row.label is None:
            return
        wrong = doubt(row)
        if row.decision is None:
            self.left_of[row.model] += times
            self.doubt_left += times * (wrong or 0.0)
            self.without_doubt += times * (wrong is None)
            return
        changed, checked = is_changed(row), row.decision.sample == RANDOM
        self.changed += times * changed
        self.confirmed += times * (not changed)
        self.checked_of[row.model] += times * checked
        self.wrong_of[row.model] += times * (checked and changed)
        self.doubt_decided += times * (wrong or 0.0)

    def counting(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows, counted as they pass by."""
        for row in rows:
            self.add(row)
            yield row

    @property
    def left(self) -> int:
        """Labels that only a model has given."""
        return self.left_of.total()

    @property
    def checked(self) -> int:
        """Labels by people in a random check of what is left."""
        return self._of_left(self.checked_of)

    def _of_left(self, counts: Counter[str]) -> int:
        """Add up the counts of models that still have labels left: only they are in question."""
        return sum(n for model, n in counts.items() if self.left_of[model] or not self.left)

    @property
    def decided(self) -> int:
        """Labels that a person gave or confirmed."""
        return self.changed + self.confirmed

    @property
    def wrong_left(self) -> float | None:
        """About how many of the labels that are left are wrong; None if no model says how sure.

        It is `doubt_left * (changed + 1) / (doubt_decided + 1)`: what the model expects to be wrong
        there, scaled by what people found so far against what it expected there. One more of both
        keeps the scale near 1 while few are decided.
        """
        if self.left and self.without_doubt == self.left:
            return None
        scale = (self.changed + 1) / (max(self.doubt_decided, 0.0) + 1)
        return min(max(self.doubt_left, 0.0) * scale, self.left)

    def __str__(self) -> str:
        total = self.decided + self.left
        text = f"{self.decided:,} of {total:,} decided, {self.changed:,} changed"
        wrong = self.wrong_left
        if not self.left or wrong is None:
            return text
        about = f"about {wrong:,.0f}" if wrong >= 1 else "fewer than 1"
        return f"{text}; {about} wrong in the {self.left:,} left"

    def check(self) -> str:
        """Return what a random check says so far; empty if there was none."""
        if not self.checked:
            return ""
        wrong = self._of_left(self.wrong_of)
        if self.checked < CHECK and self.left:
            total = min(CHECK, self.checked + self.left)
            return f"random check: {self.checked} of {total}, {wrong} wrong so far"
        right, low, high = (f"{100 * share:.1f}".removesuffix(".0") for share in self._right())
        found = f"{wrong} of {self.checked:,} wrong"
        return f"random check: {found}: {right} % right ({low} to {high} %)"

    def _right(self) -> tuple[float, float, float]:
        """Return the share of a random check that was right, and its 95 % interval."""
        right = 1 - self._of_left(self.wrong_of) / self.checked
        return right, *wilson(right, self.checked)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers for programs; None stands for what nothing is known of."""
        return {
            "decided": self.decided,
            "changed": self.changed,
            "left": self.left,
            "wrong_left": None if self.wrong_left is None else round(self.wrong_left, 2),
            "checked": self.checked,
            "checked_wrong": self._of_left(self.wrong_of),
            "checked_right": [round(e, 4) for e in self._right()] if self.checked else None,
        }


def is_changed(row: Row) -> bool:
    """Tell whether a person says something else than the model did."""
    answer, said = row.answer, row.decision
    return bool(said and answer and answer.label and answer.label != said.label)


def doubt(row: Row) -> float | None:
    """Return how probable it is, 0..1, that the model's label is wrong; None if it does not say."""
    answer = row.answer
    if answer is None or answer.probability is None or answer.label is None:
        return None
    return 1 - answer.probability if answer.index == 1 else answer.probability


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` (Wilson, 1927), which is wide for few."""
    z2 = _Z95**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    reach = _Z95 * math.sqrt(share * (1 - share) / count + z2 / count / 4) / (1 + z2)
    return (max(middle - reach, 0.0), min(middle + reach, 1.0))

"""Rows over time: counted at the finest step at which dates stay few, shown in some 40 bars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

K = TypeVar("K")

MOST_BARS: Final = 40

_MOST_KEYS: Final = 4096
"""Dates that are kept apart; beyond it they are counted at the next coarser step."""

_WIDTHS: Final = (19, 16, 13, 10, 7, 4)
"""Characters of a date that tell second, minute, hour, day, month and year."""

_FULL: Final = "0001-01-01T00:00:00"


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time and what was made in it."""

    start: datetime
    """UTC, without a zone."""
    counts: list[int]
    """By series."""


@dataclass(frozen=True, slots=True)
class Bars:
    """Stretches of the same length, one after the other, those in which nothing was made too."""

    bars: list[Bar]
    step: str
    """How long each is: `minute`, `6 hours`, `week`."""
    form: str
    """How a start is written, for `strftime`."""


class Times:
    """Counts three series by date. Memory stays flat over any stretch of time."""

    def __init__(self) -> None:
        self.undated = 0
        """Rows whose date is none."""
        self._level = 0
        self._counts: dict[str, list[int]] = {}

    def add(self, date: str, series: int) -> None:
        """Count a row made at `date`, as `handler.manifest_row.timestamp` writes it."""
        key = date[: _WIDTHS[self._level]]
        counts = self._counts.get(key)
        if counts is None:
            if len(date) < _WIDTHS[0] or _moment(key) is None:
                self.undated += 1
                return
            counts = self._counts[key] = [0, 0, 0]
            if len(self._counts) > _MOST_KEYS and self._level + 1 < len(_WIDTHS):
                self._coarsen()
                self.add(date, series)
                return
        counts[series] += 1

    def _coarsen(self) -> None:
        self._level += 1
        fine, self._counts = self._counts, {}
        for key, counts in fine.items():
            _sum(self._counts, key[: _WIDTHS[self._level]], counts)

    def bars(self) -> Bars | None:
        """Return the counts in at most `MOST_BARS` bars; None where nothing has a date."""
        moments = {at: counts for key, counts in self._counts.items() if (at := _moment(key))}
        if not moments:
            return None
        first, last = min(moments), max(moments)
        # What was not kept apart is not shown apart either: so many dates are more than the bars.
        scale = next(
            scale for scale in _SCALES if scale.place(last) - scale.place(first) < MOST_BARS
        )
        shown: dict[int, list[int]] = {}
        for moment, counts in moments.items():
            _sum(shown, scale.place(moment), counts)
        places = range(scale.place(first), scale.place(last) + 1)
        bars = [Bar(scale.start(place), shown.get(place, [0, 0, 0])) for place in places]
        days = first.date() != last.date()
        return Bars(bars, scale.step, f"%d %b {scale.form}" if days and scale.clock else scale.form)


def _moment(key: str) -> datetime | None:
    whole = key + _FULL[len(key) :]
    try:
        moment = datetime.fromisoformat(whole)
    except ValueError:
        return None
    return moment if moment.isoformat() == whole else None


def _sum(into: dict[K, list[int]], key: K, counts: list[int]) -> None:
    into[key] = [a + b for a, b in zip(into.get(key, [0, 0, 0]), counts, strict=True)]


# --- the steps that a calendar has --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Scale:
    step: str
    place: Callable[[datetime], int]
    """Number of the stretch in which a moment lies."""
    start: Callable[[int], datetime]
    form: str
    clock: bool = False
    """Whether `form` is a time of day."""


_MONDAY: Final = datetime(1970, 1, 5)  # noqa: DTZ001 - dates of rows are UTC, without a zone


def _even(seconds: int, step: str, form: str) -> _Scale:
    width = timedelta(seconds=seconds)
    return _Scale(
        step,
        lambda moment: (moment - _MONDAY) // width,
        lambda place: _MONDAY + place * width,
        form,
        clock=seconds < 86_400,
    )


def _by_month(months: int, step: str, form: str) -> _Scale:
    def start(place: int) -> datetime:
        year, month = divmod(place * months, 12)
        return datetime(max(1, year), month + 1, 1)  # noqa: DTZ001 - as `_MONDAY`

    return _Scale(step, lambda moment: (moment.year * 12 + moment.month - 1) // months, start, form)


_SCALES: Final = (
    _even(1, "second", "%H:%M:%S"),
    _even(5, "5 seconds", "%H:%M:%S"),
    _even(15, "15 seconds", "%H:%M:%S"),
    _even(60, "minute", "%H:%M"),
    _even(300, "5 minutes", "%H:%M"),
    _even(900, "15 minutes", "%H:%M"),
    _even(3600, "hour", "%H:%M"),
    _even(10_800, "3 hours", "%H:%M"),
    _even(21_600, "6 hours", "%H:%M"),
    _even(86_400, "day", "%d %b"),
    _even(604_800, "week", "%d %b %Y"),
    _by_month(1, "month", "%b %Y"),
    _by_month(3, "quarter", "%b %Y"),
    _by_month(12, "year", "%Y"),
    _by_month(60, "5 years", "%Y"),
    _by_month(240, "20 years", "%Y"),
    _by_month(1200, "century", "%Y"),
    _by_month(12_000, "thousand years", "%Y"),
)

"""The geometry of charts; `pages/` draw them as SVG.

Positions are percentages of the plot, so that a chart reads as well in the 350 pixels of a phone as
on a desk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

NBSP: Final = "\u00a0"
"""Keeps a value and its unit on one line."""


def percent(share: float, digits: int = 1) -> str:
    """Return a share, 0..1, as people read it: `97.7 %`."""
    return f"{100 * share:.{digits}f}{NBSP}%"


def short_percent(share: float) -> str:
    """Return a share, 0..1, with the digits that it has, at most two: `50 %`, `27.24 %`."""
    return f"{round(100 * share, 2):g}{NBSP}%"


def short_count(count: float) -> str:
    """Return a count short enough for the label of a tick: `1.2k`."""
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:g}"


def range_text(low: float, high: float) -> str:
    """Return an interval of shares for people; empty if its ends read the same."""
    ends = percent(low), percent(high)
    return "" if ends[0] == ends[1] else " to ".join(ends)


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of numbers and the ticks on it."""

    low: float
    high: float
    ticks: tuple[float, ...]
    text: Callable[[float], str] = "{:g}".format
    """How a tick is labelled."""
    scale: Callable[[float], float] = float

    def at(self, value: float) -> float:
        """Return the place of a value on the axis, in percent from its start."""
        low, high = self.scale(self.low), self.scale(self.high)
        return round(100 * (self.scale(value) - low) / (high - low), 3)


PROBABILITY: Final = Axis(0, 1, (0, 0.25, 0.5, 0.75, 1), lambda value: percent(value, 0))


def nice_axis(low: float, high: float) -> Axis:
    """Return an axis that holds `low` and `high`, with two to seven ticks at round numbers."""
    spread = max(high - low, 1e-6)
    unit = 10 ** math.floor(math.log10(spread))
    step = next(s * unit for s in (0.2, 0.5, 1, 2) if spread / (s * unit) <= 5)
    # The tolerance keeps 0.6 / 0.2 from counting as more than 3.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(round(step * index, 10) for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def root_axis(most: int) -> Axis:
    """Return an axis of counts up to `most` on a square-root scale: one photo can be seen.

    Its last tick is not below `most`.
    """
    steps = [size * 10**power for power in range(18) for size in (1, 2, 5)]
    top = next(step for step in steps if step >= most)
    ticks = [top]
    # A tick under a fifth of the height would touch its neighbour's text.
    while low := next((step for step in reversed(steps) if top / 25 <= step <= ticks[-1] / 4), 0):
        ticks.append(low)
    return Axis(0, top, (0, *ticks), short_count, math.sqrt)


SERIES: Final = ("label-1", "label-0")
"""Styles of label 1 and of the others."""


def probabilities(
    stacks: Sequence[Sequence[int]],
    names: Sequence[str],
    thresholds: Sequence[float],
    band: tuple[float, float],
) -> dict[str, object]:
    """Return what `manifest.html` draws as a histogram: (label 1, others) per bin.

    A bar is as high as its sum and divided in proportion; its parts are (style, top, height), in
    percent of the plot. `names` are those of both.
    """
    y = root_axis(max(map(sum, stacks)))
    width = 100 / len(stacks)
    bars = []
    for index, stack in enumerate(stacks):
        said = ", ".join(f"{count:,} {name}" for count, name in zip(stack, names, strict=True))
        ends = pairwise(accumulate(stack, initial=0))
        share = y.at(sum(stack)) / max(sum(stack), 1)
        parts = [
            (style, round(100 - share * top, 3), round(share * (top - bottom), 3))
            for style, (bottom, top) in zip(SERIES, ends, strict=True)
            if top > bottom
        ]
        place = f"{index * width:g} to {(index + 1) * width:g}{NBSP}%"
        left, wide = round((index + 0.06) * width, 3), round(0.88 * width, 3)
        bars.append({"title": f"{place}: {said}", "left": left, "width": wide, "parts": parts})
    return {
        "names": names,
        "x": PROBABILITY,
        "y": y,
        "bars": bars,
        "thresholds": thresholds,
        "band": band if band[0] < band[1] else None,
        "total": sum(map(sum, stacks)),
    }

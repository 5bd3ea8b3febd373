"""Small charts as inline SVG, for reports. No script, no dependency, no fixed width.

Positions are percentages of the plot and text is not scaled with it, so that a chart reads as well
in the 350 pixels of a phone as on a desk. Colours are the page's CSS classes. Every text is
escaped here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LABEL_WIDTH = 0.3
"""Smallest share of the plot in which a phase's name fits; a narrower phase is given its number."""
DOTS_UP_TO = 16
"""Curves of more points are drawn without a dot at each."""


def safe(text: object) -> str:
    """Return any text so that HTML shows it and nothing else: a file's name may hold anything."""
    shown = str(text).encode("utf-8", "backslashreplace").decode()
    return escape("".join(c if c.isprintable() or c == " " else "\ufffd" for c in shown))


@dataclass(frozen=True, slots=True)
class Axis:
    """A stretch of numbers and the ticks that stand on it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return the place of a value on the axis, in percent from its start."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


def nice_axis(low: float, high: float) -> Axis:
    """Return an axis that holds `low` and `high`, with three to six ticks at round numbers."""
    spread = max(high - low, 1e-6)
    unit = 10 ** math.floor(math.log10(spread))
    step = next(s * unit for s in (0.2, 0.5, 1, 2) if spread / (s * unit) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = tuple(round(step * index, 10) for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def chart(
    body: str,
    *,
    label: str,
    x: Axis,
    y: Axis,
    x_title: str,
    y_title: str = "",
    x_text: Callable[[float], str] = "{:g}".format,
    y_text: Callable[[float], str] = "{:g}".format,
    square: bool = False,
) -> str:
    """Put axes, grid and titles around the marks in `body`; `label` is for screen readers."""
    grid = []
    for tick in y.ticks:
        height = 100 - y.at(tick)
        grid.append(
            f'<line class="grid" x1="0" x2="100%" y1="{height}%" y2="{height}%"/>'
            f'<text class="tick" x="-8" y="{height}%" dy=".35em" text-anchor="end">'
            f"{safe(y_text(tick))}</text>"
        )
    grid.extend(
        f'<text class="tick" x="{x.at(tick)}%" y="100%" dy="18" text-anchor="middle">'
        f"{safe(x_text(tick))}</text>"
        for tick in x.ticks
    )
    return (
        f'<div class="plot{" square" if square else ""}">'
        f'<p class="axis" aria-hidden="true">{safe(y_title)}</p>'
        f'<svg role="img" aria-label="{safe(label)}">{"".join(grid)}{body}</svg>'
        f'<p class="axis x" aria-hidden="true">{safe(x_title)}</p></div>'
    )


def curve(points: Sequence[tuple[float, float]], x: Axis, y: Axis, style: str) -> str:
    """Draw a line through points, with a dot at each where they are few."""
    places = [(x.at(a), 100 - y.at(b)) for a, b in points]
    path = " ".join(f"{left},{top}" for left, top in places)
    line = (
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%">'
        f'<polyline class="curve {style}" points="{path}"/></svg>'
    )
    if len(places) > DOTS_UP_TO:
        return line
    return line + "".join(dot(left, top, 3, style) for left, top in places)


def dot(left: float, top: float, radius: float, style: str) -> str:
    """Draw a dot at percentages of the plot, with a radius in pixels."""
    return f'<circle class="dot {style}" cx="{left}%" cy="{top}%" r="{radius:.1f}"/>'


def phases(names: Sequence[str], x: Axis) -> str:
    """Mark where the phases of training begin; `names` holds the phase of each epoch in turn."""
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    marks = []
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(names)], strict=True), 1):
        left = x.at(start + 0.5)
        if start:
            marks.append(f'<line class="phase" x1="{left}%" x2="{left}%" y1="-18" y2="100%"/>')
        fits = (end - start) / len(names) >= LABEL_WIDTH and len(names[start]) <= 14
        name = f"{number}. {names[start]}" if fits else f"{number}."
        marks.append(f'<text class="tick" x="{left}%" dx="5" y="-7">{safe(name)}</text>')
    return "".join(marks)


def mirrored_bars(up: Sequence[int], down: Sequence[int], y: Axis) -> str:
    """Draw two histograms of the same bins back to back, counts on a square-root scale."""
    width = 100 / len(up)
    zero = 100 - y.at(0)
    bars = []
    for counts, style, sign in ((up, "a", 1), (down, "b", -1)):
        for index, count in enumerate(counts):
            top = 100 - y.at(sign * math.sqrt(count))
            if count:
                bars.append(
                    f'<rect class="bar {style}" x="{round(index * width + 0.4, 3)}%" '
                    f'width="{round(width - 0.8, 3)}%" y="{min(top, zero)}%" '
                    f'height="{round(abs(top - zero), 3)}%"/>'
                )
    return "".join(bars) + f'<line class="zero" x1="0" x2="100%" y1="{zero}%" y2="{zero}%"/>'


def stacked_bars(
    stacks: Sequence[Sequence[int]],
    styles: Sequence[str],
    y: Axis,
    *,
    names: Sequence[str],
    height: Callable[[int], float] = float,
) -> str:
    """Draw a bar a stack, as high as `height` of its sum, parted in proportion from the bottom up.

    `names` says what each bar is, for who points at it.
    """
    width = 100 / len(stacks)
    bars = []
    for index, (stack, name) in enumerate(zip(stacks, names, strict=True)):
        total = sum(stack)
        if not total:
            continue
        reach, below, parts = y.at(height(total)), 0, []
        for count, style in zip(stack, styles, strict=True):
            if count:
                top = 100 - reach * (below + count) / total
                parts.append(
                    f'<rect class="bar {style}" x="{round((index + 0.06) * width, 3)}%" '
                    f'width="{round(0.88 * width, 3)}%" y="{round(top, 3)}%" '
                    f'height="{round(reach * count / total, 3)}%"/>'
                )
            below += count
        bars.append(f"<g><title>{safe(name)}</title>{''.join(parts)}</g>")
    return "".join(bars)


def interval(value: float, low: float, high: float, style: str = "a") -> str:
    """Draw a share, 0..1, as a dot on a track with its interval, as high as a line of text."""
    at, start, end = (100 * min(max(number, 0.0), 1.0) for number in (value, low, high))
    return (
        '<svg class="track" aria-hidden="true">'
        '<line class="rail" x1="0" x2="100%" y1="50%" y2="50%"/>'
        f'<line class="range {style}" x1="{start:.2f}%" x2="{end:.2f}%" y1="50%" y2="50%"/>'
        f"{dot(round(at, 2), 50, 4, style)}</svg>"
    )

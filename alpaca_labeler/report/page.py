"""Fills in the templates of `pages/`: one HTML file that loads nothing and runs nothing.

A page can be mailed, archived and opened in ten years. Templates escape every text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

NBSP: Final = "\u00a0"
"""Keeps a value and its unit on one line."""

SERIES: Final = ("label-1", "label-0")
"""Styles of label 1 and of the others."""


def percent(share: float) -> str:
    """Return a share, 0..1, as people read it: `97.7 %`."""
    return f"{100 * share:.1f}{NBSP}%"


def short_percent(share: float) -> str:
    """Return a share, 0..1, with the digits that it has, at most two: `50 %`, `27.24 %`."""
    return f"{round(100 * share, 2):g}{NBSP}%"


def range_text(low: float, high: float, show: Callable[[float], str] = percent) -> str:
    """Return an interval for people; empty if its ends read the same, so that it says nothing."""
    ends = show(low), show(high)
    return "" if ends[0] == ends[1] else " to ".join(ends)


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return a page, for `encoding="utf-8"`. Raises `jinja2.UndefinedError` for a missing value."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(os.path.join(os.path.dirname(__file__), "pages")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = {"count": "{:,}".format, "percent": percent, "short_percent": short_percent}
    environment.filters |= filters
    return environment


def _shown(value: object) -> object:
    """Return text without control characters, those that reverse a line included."""
    if isinstance(value, Markup):
        return value
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c == NBSP else "\ufffd" for c in text)

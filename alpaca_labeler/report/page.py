"""Fills in the templates of `pages/`: one HTML file that loads nothing and runs nothing.

A page can be mailed, archived and opened in ten years. Templates escape every text.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from alpaca_labeler.report import charts


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
    environment.filters |= {
        "count": "{:,}".format,
        "percent": charts.percent,
        "short_percent": charts.short_percent,
    }
    return environment


def _shown(value: object) -> object:
    """Return text without control characters, those that reverse a line included."""
    if isinstance(value, Markup):
        return value
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c == charts.NBSP else "\ufffd" for c in text)

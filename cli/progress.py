"""A progress bar on stderr with rate and time left; nothing but problems where nobody watches."""

from __future__ import annotations

import sys
import time
from typing import Final, Self

import click

SHOWN_PROBLEMS: Final = 5
"""Problems are named as they come, up to so many: the rest is in the failures file."""


class Progress:
    """Counts photos that are done. A context manager."""

    def __init__(self, total: int | None) -> None:
        """`total` is None where it is not known."""
        self._bar = click.progressbar(
            length=total or 0,
            label="labelling",
            file=sys.stderr,
            width=24,
            show_eta=total is not None,
            show_percent=total is not None,
            show_pos=True,
            item_show_func=self._rate,
            update_min_steps=8,
            hidden=not sys.stderr.isatty() or total == 0,
        )
        self._began = time.monotonic()
        self._done = 0
        self._problems = 0

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.render_finish()
        more = self._problems - SHOWN_PROBLEMS
        if more > 0:
            click.echo(f"... and {more:,} more problems", err=True)

    def step(self, problem: str = "") -> None:
        """Count one more photo, and name its problem where there is one."""
        self._done += 1
        self._bar.update(1, self._done)
        if not problem:
            return
        self._problems += 1
        if self._problems <= SHOWN_PROBLEMS:
            if not self._bar.hidden:
                click.echo("\r\x1b[K", nl=False, err=True)
            click.echo(printable(problem), err=True)

    def _rate(self, _item: object) -> str:
        return f"{self._done / (time.monotonic() - self._began):,.0f} photos/s"


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: file names may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

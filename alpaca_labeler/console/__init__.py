"""Output on a terminal: progress, problems, errors as one sentence."""

from __future__ import annotations

import errno
import logging
import os
import sys
import textwrap
import time
from collections.abc import Iterable
from datetime import timedelta
from typing import IO, Any, Final, Self

import click

from alpaca_labeler.errors import LabelerError

SHOWN_PROBLEMS: Final = 5
"""Problems are named as they come, up to this many: the rest is in the manifest."""

REDRAW_SECONDS: Final = 0.1

TRACEBACK: Final = "ALPACA_TRACEBACK"
"""If this environment variable is set, a fault of our own is shown with its traceback."""

dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


class Failed(click.ClickException):
    """The end of a command, with one sentence that says why. Exits with 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence on stderr."""
        label = click.style("Error:", fg="red", bold=True)
        click.echo(f"{label} {self.message}", file, err=file is None, color=self.show_color)


class Refused(Failed):
    """Wrong usage that one sentence explains. Exits with 2."""

    exit_code = 2


quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=lambda context, _, value: context.meta.update({__name__: value}),
    help="Print only results and problems.",
)
"""Silences `say` and `Progress` for one command."""


def is_quiet() -> bool:
    """Tell whether the command that runs was called with --quiet."""
    context = click.get_current_context(silent=True)
    return context is not None and context.meta.get(__name__, False)


def sentence(error: Exception) -> str | None:
    """Return the message for an error; None if it is to be raised as it is.

    This is the only place that turns errors into messages.
    """
    if isinstance(error, LabelerError):
        return printable(str(error))
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:  # the reader of our output has seen enough: click ends us
            return None
        what = f"{error.filename}: " if error.filename else ""
        return printable(f"{what}{error.strerror or error}")
    if type(error).__module__.startswith(("botocore.", "boto3.")):
        return f"AWS says: {printable(str(error))}"
    if os.environ.get(TRACEBACK):
        return None
    return (
        f"{type(error).__name__}: {printable(str(error))}. This is a fault in alpaca, not in your "
        f"input. Please report it with the output of the same command under {TRACEBACK}=1"
    )


def say(text: str) -> None:
    """Print information on stderr, unless --quiet; results go to stdout."""
    if not is_quiet():
        warn(text)


def warn(text: str) -> None:
    """Print a problem on stderr, also if --quiet."""
    if Progress.shown is not None:
        Progress.shown.clear()
    click.echo(text, err=True)


class _Warnings(logging.Handler):
    """Shows what the library warns of as the command's own warnings: once, in one line each."""

    said: Final[set[str]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if (text := printable(record.getMessage())) not in self.said:
            self.said.add(text)
            warn(text)


_WARNINGS: Final = _Warnings(logging.WARNING)


def open_terminal() -> None:
    """Give every command streams that it can write to, and show the library's warnings.

    A daemon may start it without descriptors 0 to 2. The next files would get these numbers, and
    what is printed would land in them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            os.set_inheritable(handle, True)  # noqa: FBT003 - workers print too
            setattr(sys, name, os.fdopen(handle, mode, encoding="utf-8"))
    _WARNINGS.said.clear()
    logging.getLogger("alpaca_labeler").addHandler(_WARNINGS)


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: file names may hold anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 photo`, `1,234 photos`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def few(names: Iterable[str]) -> str:
    """Return names in one line that cannot steer a terminal, cut after 300 characters."""
    return textwrap.shorten(", ".join(map(printable, names)), 300, placeholder=" and more")


def as_folder(uri: str) -> str:
    """Return a prefix with its slash at the end, so that `labels` is not also `labels-old`."""
    return f"{uri.rstrip('/')}/"


class Progress:
    """A progress line on a terminal. A context manager.

    It never takes more than one line, however narrow the terminal, and is gone when it is done.
    """

    shown: Progress | None = None
    """The one on the terminal now: other lines must clear it first."""

    def __init__(self, label: str, total: int | None = None) -> None:
        """Count up to `total`; None if that is not known."""
        self._label, self._total = label, total
        self._began = time.monotonic()
        self._drawn = 0.0
        self._done = self._problems = 0

    def __enter__(self) -> Self:
        self._outer = Progress.shown
        if sys.stderr.isatty() and not is_quiet():
            Progress.shown = self
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()
        Progress.shown = self._outer
        if (more := self._problems - SHOWN_PROBLEMS) > 0:
            warn(f"... and {more:,} more problems")

    def step(self, problem: str = "") -> None:
        """Count one more, and name its problem if it has one."""
        if problem:
            self._problems += 1
            if self._problems <= SHOWN_PROBLEMS:
                warn(printable(problem))
        self.at(self._done + 1, self._total)

    def at(self, done: int, total: int | None, label: str | None = None) -> None:
        """Show that `done` of `total` are done; another `label` begins another count."""
        now = time.monotonic()
        if label is not None and label != self._label:
            self._label, self._began, self._drawn = label, now, 0.0
        self._done, self._total = done, total
        if Progress.shown is self and (now - self._drawn >= REDRAW_SECONDS or done == total):
            self._drawn = now
            text = progress_line(self._label, done, total, now - self._began, _columns() - 1)
            click.echo(f"\r{text}\x1b[K", nl=False, err=True, color=True)

    def clear(self) -> None:
        """Erase the line."""
        if Progress.shown is self and self._drawn:
            self._drawn = 0.0
            click.echo("\r\x1b[K", nl=False, err=True, color=True)


def progress_line(label: str, done: int, total: int | None, seconds: float, width: int) -> str:
    """Return a progress line of at most `width` characters; the least useful facts go first."""
    rate = done / seconds if seconds >= 1 else 0.0  # sooner it is a guess
    facts = [label, f"{done:,}" if total is None else f"{done:,}/{total:,}"]
    if total:
        facts.append(f"{100 * done // total} %")
    if total and rate:
        facts.append(f"{timedelta(seconds=min(round((total - done) / rate), 10**9))} left")
    if rate:
        facts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
    while len("  ".join(facts)) > width and len(facts) > 2:
        facts.pop()
    text = "  ".join(facts)
    return text if len(text) <= width else facts[1][:width]


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:  # not a terminal after all, as in a test
        return 80

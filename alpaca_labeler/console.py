"""What a person sees on a terminal: progress, files that appear whole, errors as one sentence."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final, Self

import click

from alpaca_labeler.handler.errors import LabelerError

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN_PROBLEMS: Final = 5
"""Problems are named as they come, up to this many: the rest is in the failures file."""

TRACEBACK: Final = "ALPACA_TRACEBACK"
"""If this environment variable is set, a fault of our own is shown with its traceback."""

dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


def sentence(error: Exception) -> str | None:
    """Return what a person is told about an error; None if it is to be raised as it is.

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
    """Tell a person how it goes, on stderr; what a command answers goes to stdout."""
    click.echo(text, err=True)


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: file names may hold anything."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def as_folder(uri: str) -> str:
    """Return a prefix with its slash at the end, so that `labels` is not also `labels-old`."""
    return f"{uri.rstrip('/')}/"


@contextmanager
def whole(path: str) -> Iterator[IO[str]]:
    """Open a text file that appears when it is complete; if anything fails, it never appears."""
    partial = f"{path}.partial"
    try:
        with open(partial, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def check_apart(output: str, source: str) -> None:
    """Raise `click.UsageError` if `output` would replace the file that it is made from."""
    if os.path.exists(output) and os.path.exists(source) and os.path.samefile(output, source):
        raise click.UsageError(f"--output would overwrite {source}: name another file")


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

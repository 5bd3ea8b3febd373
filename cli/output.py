"""Files that have their name only once they are whole."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def whole(path: str) -> Iterator[IO[str]]:
    """Open a text file that appears at its end, or, where anything went wrong, never."""
    partial = f"{path}.partial"
    try:
        with open(partial, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(partial, path)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def check_apart(output: str, source: str) -> None:
    """Raise `click.UsageError` where `output` would replace the file that it is made from."""
    if os.path.exists(output) and os.path.exists(source) and os.path.samefile(output, source):
        raise click.UsageError(f"--output would overwrite {source}: name another file")

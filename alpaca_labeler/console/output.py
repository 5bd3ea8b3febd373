"""Files that appear whole or not at all, wherever their name leads."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, Final

from alpaca_labeler import storage
from alpaca_labeler.console import Refused, printable
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import Table

_SUFFIX: Final = ".partial"


@contextmanager
def whole(path: str, mode: str = "w", *, durable: bool = False) -> Iterator[IO[Any]]:
    """Open a file that gets its name when it is complete; if anything fails, it never does.

    A link stays one: the file that it leads to is replaced, and keeps its permissions. A device, a
    named pipe, or an open file such as /dev/stdout is written to directly. `mode` is `w` (UTF-8) or
    `wb`; `durable` waits until the disk has the content. Raises `OSError` with the name `path`.
    """
    kind: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        if _is_a_channel(path):
            # Not "w": what a shell has written with `>> file` is kept.
            with open(
                os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC), mode, **kind
            ) as file:
                yield file
            return
        with replaced(path) as temporary, open(temporary, mode.replace("w", "x"), **kind) as file:
            with suppress(FileNotFoundError):
                os.fchmod(file.fileno(), stat.S_IMODE(os.stat(path).st_mode))
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        if error.filename is not None and not str(error.filename).endswith(_SUFFIX):
            raise
        raise OSError(error.errno, error.strerror, path) from error


@contextmanager
def replaced(path: str) -> Iterator[str]:
    """Yield a name that nobody can guess, in the folder of `path`; then it takes its place.

    If `path` is a link, that is the place of what it leads to. Raises `OSError`.
    """
    target = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}{_SUFFIX}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _is_a_channel(path: str) -> bool:
    """Tell whether `path` is no file of its own: a device, a pipe, or an open file's descriptor."""
    try:
        return path.startswith(("/dev/", "/proc/")) or not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def spared(output: str | None, table: Table) -> Iterator[Row]:
    """Return the rows of a table, from which `output` is about to be made.

    Raises `Refused` if that would replace the manifest at once, and as soon as a row shows that it
    would replace a photo.
    """
    if output is None or not os.path.isfile(output):
        return table.rows()
    if not storage.is_s3(table.name) and os.path.samefile(output, table.name):
        raise Refused(printable(f"{output}: would overwrite the manifest; name another file"))
    return _other_photos(output, table)


def _other_photos(output: str, table: Table) -> Iterator[Row]:
    name = os.path.basename(os.path.realpath(output))
    for row in table.rows():
        path = storage.to_path(table.place(row.source_ref))
        if path.endswith(name) and os.path.exists(path) and os.path.samefile(path, output):
            raise Refused(printable(f"{output}: a photo of the manifest; name another file"))
        yield row

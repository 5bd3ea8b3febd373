"""The output of an export: its files appear together, and rows that do not fit are counted."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import IO, TypeVar

from alpaca_labeler import storage
from alpaca_labeler.console.output import whole
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.table.row import Row

T = TypeVar("T")


class ExportError(LabelerError):
    """Nothing can be written. The message says why and what to do."""


class LeftOut(Exception):
    """The format cannot hold this row. The message says why and what to do."""


@dataclass(slots=True)
class Out:
    """An export in progress: where it goes, and how many rows it holds and leaves out."""

    place: Callable[[str], str]
    """Where a photo of the manifest is read: an `s3://` URI, or a path."""
    output: str | None = None
    """The file to write. None: standard output."""
    written: int = 0
    ambiguous: int = 0
    """Of those, rows with several image labels, of which the first counts."""
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    """What a person must know to use the export."""
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def folder(self) -> str:
        """The folder of the output, without links."""
        return os.path.realpath(os.path.dirname(self.output) if self.output else os.curdir)

    def open(self, path: str | None = None) -> IO[str]:
        """Open the output, or another file; each appears when all are complete."""
        path = path or self.output
        return self.stack.enter_context(whole(path)) if path is not None else sys.stdout

    def below(self, row: Row) -> str:
        """Return a local photo's path relative to the output's folder, separated by `/`.

        Raises `LeftOut` if it is not below it.
        """
        path = os.path.abspath(storage.to_path(self.place(row.source_ref)))
        if "\0" in path:
            raise LeftOut("a name that no file can have")
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        for found in (path, real):
            name = os.path.relpath(found, self.folder)
            if name.split(os.sep)[0] != os.pardir:
                return name.replace(os.sep, "/")
        raise LeftOut(f"outside {self.folder}, where the output goes")

    def taken(self, rows: Iterable[Row], convert: Callable[[Row], T]) -> Iterator[tuple[Row, T]]:
        """Convert and count each row with a label; count why the others are left out.

        `convert` raises `LeftOut` for a row that the format cannot hold.
        """
        for row in rows:
            try:
                if row.label is None:
                    raise LeftOut(
                        "a photo that could not be labelled"
                        if row.failure
                        else "a row without a class name, of another kind of task"
                    )
                found = convert(row)
            except LeftOut as reason:
                self.left_out[str(reason)] += 1
            else:
                self.written += 1
                self.ambiguous += bool(row.ambiguous)
                yield row, found


@contextmanager
def opened(place: Callable[[str], str], output: str | None) -> Iterator[Out]:
    """Begin an export; its files appear when the context ends, if anything was written.

    Raises `ExportError` if nothing was.
    """
    with ExitStack() as stack:
        out = Out(place, output, stack=stack)
        yield out
        if out.written == 0:
            why = "; ".join(f"{count:,} left out: {why}" for why, count in out.left_out.items())
            raise ExportError(f"nothing to write: {why or 'the manifest has no rows'}")

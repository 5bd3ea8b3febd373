"""The rows of a manifest as columns, so that a million of them are filtered and sorted in memory.

A row is its number. About 150 bytes of it are held, its name included; everything else is read from
the file when it is shown. Nothing in a row is trusted: what has the wrong type counts as missing.
"""

from __future__ import annotations

import itertools
import math
import os
import unicodedata
import weakref
from array import array
from collections import Counter
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from alpaca_labeler.handler import manifest_row, merge
from alpaca_labeler.handler.bundle import RESERVED
from alpaca_labeler.handler.manifest_row import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from alpaca_labeler.handler.manifest_row import Row

CLASSES: Final = (0, 1)

_BETWEEN: Final = b"\xff"
"""Stands between two names; no UTF-8 text holds it."""
_DATE_BYTES: Final = 26
"""Of a creation date as `manifest_row.timestamp` writes it."""
UNKNOWN: Final = "?"


class Names(dict[str, int]):
    """Texts that many rows share, each with its number."""

    def __missing__(self, name: str) -> int:
        self[name] = len(self)
        return self[name]


class Index:
    """Columns over the rows of open files, an element a row, in the order of the files."""

    def __init__(self, files: Sequence[tuple[IO[bytes], str]]) -> None:
        """Read the files through; they stay open until the index is gone. Each has its name.

        Raises `ManifestError`, naming file and line.
        """
        self._files = [os.dup(file.fileno()) for file, _ in files]
        for handle in self._files:
            weakref.finalize(self, os.close, handle)
        self.labels, self.models, self.folders = Names(), Names(), Names()
        self.settled = True
        """Whether each image has one row, as far as the order of the rows tells."""
        columns = _Columns(self)
        for number, (file, name) in enumerate(files):
            last = ""
            for start, length, row in _rows(file, name):
                columns.add(number, start, length, row)
                self.settled &= last < row["source-ref"]
                last = row["source-ref"]
        self._file = np.frombuffer(columns.file, dtype=np.int8)
        self._start = np.frombuffer(columns.start, dtype=np.int64)
        self._length = np.frombuffer(columns.length, dtype=np.int32)
        self._image = np.frombuffer(columns.image, dtype=np.int64)
        self.label = np.frombuffer(columns.label, dtype=np.int32)
        """Number in `labels`; -1 for a failure."""
        self.model = np.frombuffer(columns.model, dtype=np.int32)
        self.folder = np.frombuffer(columns.folder, dtype=np.int32)
        self.doubt = np.frombuffer(columns.doubt, dtype=np.float32)
        """Distance of the probability from the threshold, 0..1; NaN where the row does not say."""
        self.review = np.frombuffer(columns.review, dtype=np.bool_)
        self.human = np.frombuffer(columns.human, dtype=np.bool_)
        self.created = np.frombuffer(columns.created, dtype=f"S{_DATE_BYTES}")
        self._names = bytes(columns.names)
        self._name_at = np.frombuffer(columns.name_at, dtype=np.int64)
        self._by_image = np.argsort(self._image, kind="stable").astype(np.int32)
        self._ranks: npt.NDArray[np.int32] | None = None
        self.attribute, self.classes = columns.meant()
        images = self._image[self._by_image]
        if (images[1:] == images[:-1]).any():  # in both files
            self.settled = False

    def __len__(self) -> int:
        return len(self._start)

    def row(self, number: int) -> Row:
        """Read a row from its file. Raises `ManifestError` where it is no longer there."""
        line = os.pread(
            self._files[self._file[number]], int(self._length[number]), int(self._start[number])
        )
        row = manifest_row.parse(line)
        if hash(row["source-ref"]) != self._image[number]:
            raise ManifestError("the manifest was overwritten")
        return row

    def find(self, said: Row) -> int | None:
        """Return the number of the row about the version of the image that `said` is about."""
        wanted = hash(said["source-ref"])
        place = int(np.searchsorted(self._image, wanted, sorter=self._by_image))
        if place == len(self) or self._image[self._by_image[place]] != wanted:
            return None
        number = int(self._by_image[place])
        row = self.row(number)
        if row["source-ref"] != said["source-ref"]:  # pragma: no cover - 64 bits met by chance
            return None
        same = manifest_row.same_version(row, said) or not manifest_row.names_version(said)
        return number if same else None

    def search(self, text: str) -> npt.NDArray[np.bool_]:
        """Tell which names hold `text`, a character at least, in capitals or not."""
        found = np.zeros(len(self), dtype=np.bool_)
        wanted, at = folded(text), -1
        while (at := self._names.find(wanted, at + 1)) >= 0:
            row = int(np.searchsorted(self._name_at, at, side="right")) - 1
            found[row] = True
            if row + 1 == len(self):
                break
            at = int(self._name_at[row + 1]) - 1
        return found

    def ranks(self) -> npt.NDArray[np.int32]:
        """Return each row's place in the order of names, in capitals or not."""
        if self._ranks is None:
            ends = np.append(self._name_at[1:], len(self._names)) - len(_BETWEEN)
            spans = list(map(slice, self._name_at.tolist(), ends.tolist()))
            order = sorted(range(len(self)), key=lambda row: self._names[spans[row]])
            self._ranks = np.empty(len(self), dtype=np.int32)
            self._ranks[order] = np.arange(len(self), dtype=np.int32)
        return self._ranks


class _Columns:
    """The columns while they grow."""

    def __init__(self, index: Index) -> None:
        self._labels, self._models, self._folders = index.labels, index.models, index.folders
        self.file, self.start, self.length = array("b"), array("q"), array("i")
        self.image = array("q")
        self.label, self.model, self.folder = array("i"), array("i"), array("i")
        self.doubt, self.review, self.human = array("f"), bytearray(), bytearray()
        self.created, self.names, self.name_at = bytearray(), bytearray(), array("q")
        self._classes: Counter[tuple[str, int, str]] = Counter()

    def add(self, file: int, start: int, length: int, row: Row) -> None:
        self.file.append(file)
        self.start.append(start)
        self.length.append(length)
        name: str = row["source-ref"]
        self.image.append(hash(name))
        self.folder.append(self._folders[folder(name)])
        self.name_at.append(len(self.names))
        self.names += folded(name)
        self.names += _BETWEEN
        facts, labeler = manifest_row.metadata(row), manifest_row.block(row, "labeler")
        failed = manifest_row.is_failure(row)
        self.label.append(-1 if failed else self._labels[label_name(facts)])
        self.model.append(self._models[manifest_row.model_version(row) or UNKNOWN])
        self.review.append(not failed and labeler.get("needs-review") is True)
        self.human.append(not failed and manifest_row.is_human(row))
        probability, threshold = number(labeler.get("probability")), labeler.get("threshold")
        if probability is None:
            probability, threshold = number(facts.get("confidence")), 0.5
        self.doubt.append(
            math.nan if probability is None else abs(probability - (number(threshold) or 0.5))
        )
        date = manifest_row.created(row).encode("ascii", "replace")
        self.created += date[:_DATE_BYTES].ljust(_DATE_BYTES, b"\0")
        if not failed:
            attribute = manifest_row.attribute(row) or ""
            index = row.get(attribute)
            if attribute and attribute not in RESERVED and type(index) is int and index in CLASSES:
                self._classes[attribute, index, label_name(facts)] += 1

    def meant(self) -> tuple[str, dict[int, str]]:
        """Return the label attribute that most rows have, and what most call its classes."""
        attributes: Counter[str] = Counter()
        for (attribute, _, _), count in self._classes.items():
            attributes[attribute] += count
        if not attributes:
            return "", {}
        [(chosen, _)] = attributes.most_common(1)
        ordered = [kind for kind, _ in self._classes.most_common() if kind[0] == chosen]
        return chosen, {index: name for _, index, name in reversed(ordered)}


def _rows(file: IO[bytes], name: str) -> Iterator[tuple[int, int, Row]]:
    """Yield (first byte, length in bytes, row) of each line."""
    at = 0
    for count in itertools.count(1):
        line = file.readline(merge.MAX_LINE_BYTES + 1)
        if not line:
            return
        start, at = at, at + len(line)
        if len(line) > merge.MAX_LINE_BYTES:
            raise ManifestError(
                f"{name}: line {count} is longer than {merge.MAX_LINE_BYTES:,} bytes"
            )
        if line.isspace():
            continue
        try:
            yield start, len(line), manifest_row.parse(line)
        except ManifestError as error:
            if not line.endswith(b"\n"):  # it is being written just now, or was torn by a kill
                return
            raise ManifestError(f"{name}: line {count}: {error}") from None


def label_name(facts: dict[str, Any]) -> str:
    """Return the class name in a row's metadata."""
    name = facts.get("class-name")
    return name if isinstance(name, str) else UNKNOWN


def number(value: object) -> float | None:
    """Return a finite number as it is; None for anything else that JSON holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def folder(name: str) -> str:
    """Return what stands before the last slash of an image's name, slash included."""
    return name[: name.rfind("/") + 1]


def folded(name: str) -> bytes:
    """Return a name as it is searched and sorted: without capitals, accents in one form."""
    if name.isascii():
        return name.lower().encode()
    return unicodedata.normalize("NFC", name.casefold()).encode()

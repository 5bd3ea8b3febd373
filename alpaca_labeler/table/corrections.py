"""What people decide about photos: rows in the manifest's own form, which count at once.

For a manifest they lie in `corrections.jsonl` beside it, which every reader of the manifest merges;
for a bucket each step is a part. Rows are only ever added. To take a decision back, a withdrawal is
added: the model's row again, with the moment up to which decisions do not count any more. So it
makes no difference whether a labelling run or a compaction has merged the decision meanwhile.

| decisions about one version of a photo | what counts                          |
|----------------------------------------|--------------------------------------|
| several                                | the last, by its date                |
| a withdrawal after them                | the model's row                      |
| of another version                     | nothing: that photo is not there now |

In a file of corrections, rows by a model are skipped and counted.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from alpaca_labeler.errors import LabelerError
from alpaca_labeler.table import jsonl, manifest_row, merge, parts
from alpaca_labeler.table.manifest_row import ManifestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alpaca_labeler.table.manifest_row import Row

JOB_NAME: Final = "labeling-job/review"

PATIENCE: Final = 10.0
"""Seconds that another process may keep the file locked; a write takes milliseconds."""

PART_ROWS: Final = 10_000
"""Rows of one part at most: some 6 MB, what a full batch of the function writes."""


class CorrectionsError(LabelerError):
    """Corrections cannot be read or written. The message names the file and the remedy."""


# --- rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Label:
    """What a person calls an image."""

    attribute: str
    """The manifest's label attribute."""
    index: int
    """Of the class."""
    name: str
    """Of the class."""


def decision(row: Row, label: Label, annotator: str, made: datetime) -> Row:
    """Return the row that says: `annotator` calls the image of `row` so.

    `row` is the image's row in the table: a label, a failure, or an earlier decision. The decision
    is about the version of the image that it is about. `made` is in UTC.
    """
    return {
        "source-ref": row["source-ref"],
        label.attribute: label.index,
        f"{label.attribute}-metadata": {
            "class-name": label.name,
            "confidence": 1.0,
            "type": manifest_row.TASK_TYPE,
            "job-name": JOB_NAME,
            "human-annotated": "yes",
            "creation-date": manifest_row.timestamp(made),
        },
        "labeler": {**_kept(row), "annotator": annotator},
    }


def withdrawal(row: Row, made: datetime) -> Row:
    """Return the row that says: what people have decided about this image up to now does not count.

    `row` is a decision about it. The withdrawal is the model's row, as the decision keeps it, with
    the date `withdrawn`; of a decision that another tool has written it has no label, and the next
    run labels the image. `made` is in UTC, and later than the decision.
    """
    found = _model_row(row) if manifest_row.is_human(row) else row
    labeler = {
        **manifest_row.block(found, "labeler"),
        manifest_row.WITHDRAWN: manifest_row.timestamp(made),
    }
    return {**found, "labeler": labeler}


def again(row: Row, made: datetime) -> Row:
    """Return a decision made once more: the one before counts again after a later is taken back."""
    name = f"{manifest_row.attribute(row)}-metadata"
    dated = {**manifest_row.metadata(row), "creation-date": manifest_row.timestamp(made)}
    return {**row, name: dated}


def made_at(row: Row) -> str:
    """Return when a decision or a withdrawal was made, as rows write it."""
    return manifest_row.withdrawn(row) or manifest_row.created(row)


def corrected(row: Row, said: Sequence[Row]) -> Row:
    """Return an image's row after what people `said` of it, which came in this order.

    `row` is the one of the manifest. What people said of another version does not count. A row that
    names no version, as other tools write them, is of this one.
    """
    about = [row]
    for each in said:
        if not manifest_row.speaks_of(each, manifest_row.version_of(row)):
            continue
        if not manifest_row.names_version(each):
            labeler = {**_kept(row), **manifest_row.block(each, "labeler")}
            each = {**each, "labeler": labeler}  # noqa: PLW2901
        about.append(each)
    if len(about) == 1:
        return row
    chosen = manifest_row.decided(about)
    if chosen is None:
        models = manifest_row.models([row]) or manifest_row.models(about)
        chosen = manifest_row.by_model(about, max(models, key=manifest_row.withdrawn))
    return manifest_row.with_facts(chosen, manifest_row.version_of(row))


_OF_MODEL: Final = (
    "probability",
    "threshold",
    "model-class-name",
    "model-needs-review",
    "model-creation-date",
    "model-failure",
)
"""What a decision keeps of the model's row, beside its version."""


def _kept(row: Row) -> dict[str, Any]:
    """Return what a decision keeps: which version was seen, and what the model had said of it."""
    labeler = manifest_row.block(row, "labeler")
    said: dict[str, Any] = {}
    if manifest_row.is_human(row):
        said = {name: labeler.get(name) for name in _OF_MODEL}
    elif manifest_row.is_failure(row):
        said = {"model-failure": manifest_row.block(row, "failure")}
    elif manifest_row.model_version(row):
        said = {
            "probability": manifest_row.probability(row),
            "threshold": manifest_row.number(labeler.get("threshold")),
            "model-class-name": manifest_row.label(row),
            "model-needs-review": labeler.get("needs-review") is True,
            "model-creation-date": manifest_row.created(row),
        }
    kept = {
        "model-version": manifest_row.model_version(row) or None,
        **said,
        **manifest_row.version_facts(manifest_row.version_of(row)),
    }
    for side in ("width", "height"):
        if type(labeler.get(side)) is int:
            kept[side] = labeler[side]
    return {name: value for name, value in kept.items() if value is not None}


def _model_row(row: Row) -> Row:
    """Return the model's row again, from a decision that keeps it."""
    labeler = manifest_row.block(row, "labeler")
    facts = manifest_row.version_facts(manifest_row.version_of(row))
    model = {"model-version": manifest_row.model_version(row)}
    found: Row = {"source-ref": row["source-ref"]}
    if "model-failure" in labeler:
        failure = manifest_row.block(labeler, "model-failure")
        return {**found, "failure": failure, "labeler": {**model, **facts}}
    attribute, name = manifest_row.attribute(row), labeler.get("model-class-name")
    index = row.get(attribute or "")
    if attribute and isinstance(name, str) and type(index) is int:
        index = index if name == manifest_row.label(row) else 1 - index
        probability = manifest_row.probability(row) or 0.0
        found[attribute] = index
        found[f"{attribute}-metadata"] = {
            "class-name": name,
            "confidence": probability if index else round(1 - probability, 4),
            "type": manifest_row.TASK_TYPE,
            "job-name": f"labeling-job/{model['model-version']}",
            "human-annotated": "no",
            "creation-date": labeler.get("model-creation-date"),
        }
    found["labeler"] = {
        **model,
        "probability": labeler.get("probability"),
        "threshold": labeler.get("threshold"),
        "needs-review": labeler.get("model-needs-review"),
        **facts,
        "width": labeler.get("width"),
        "height": labeler.get("height"),
    }
    return found


# --- reading -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Skipped:
    """What of a file of corrections does not count."""

    rows: int = 0
    """By a model: in a whole manifest that is read for its decisions, most of them."""


def read(path: str, skipped: Skipped | None = None) -> Iterator[merge.Keyed]:
    """Yield (source-ref, line) of what people decided, in the order of the file.

    A file that is not there has none. A last line without its end is being written, and left out.

    Raises `CorrectionsError` naming the file and the line.
    """
    try:
        _check_kind(path)
        with open(path, "rb") as file:
            # Anyone who writes holds the lock until what is written is there to stay.
            jsonl.lock(file, fcntl.LOCK_SH, time.monotonic() + PATIENCE)
            for number, line in enumerate(_lines(file, 0, path), 1):
                if (row := _persons(line, f"{path}: line {number}")) is not None:
                    yield row["source-ref"], line.removeprefix(codecs.BOM_UTF8)
                elif skipped is not None:
                    skipped.rows += not line.isspace()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed(path, error) from error


def _persons(line: bytes, where: str) -> Row | None:
    """Return a row that a person made; None for one by a model. Raises `CorrectionsError`."""
    if line.isspace():
        return None
    try:
        row = manifest_row.parse(line)
    except ManifestError as error:
        raise CorrectionsError(f"{where}: {error}; take the line out") from error
    if manifest_row.withdrawn(row):
        return row
    if not manifest_row.is_human(row):
        return None
    index = row.get(f"{manifest_row.attribute(row)}")
    if type(index) is not int or manifest_row.label(row) is None:
        raise CorrectionsError(
            f"{where}: the row of {row['source-ref']} has no label (an index and a `class-name`); "
            "take the line out"
        )
    return row


@dataclass(frozen=True, slots=True)
class Changes:
    """Rows that were not read before."""

    rows: list[Row]
    """Decisions and withdrawals (`manifest_row.withdrawn`), oldest first."""
    reset: bool
    """Whether the file was replaced: `rows` then stands for all that was read before."""


# --- writing -------------------------------------------------------------------------------------


class Corrections:
    """One corrections file, to be read as it grows and written beside others who write it.

    Each write is locked and on the disk before it is believed, so that any number of pages, people
    and processes write one file, and no one overwrites another's decision. An object of this class
    remembers how far it has read. Not for use by two threads at once.
    """

    def __init__(self, path: str) -> None:
        """`path` need not be there yet."""
        self.path = jsonl.resolved(path)
        self._seen: tuple[int, int, int] | None = None
        self._read_to = 0
        self._last_line = b""

    def add_all(self, rows: Sequence[Row]) -> None:
        """Write decisions or withdrawals: all of them, or on an error none.

        Raises `CorrectionsError`.
        """
        data = b"".join(map(manifest_row.encode, rows))
        with self._locked() as handle:
            end = os.fstat(handle.fileno()).st_size
            try:
                jsonl.write(handle, data)
                jsonl.sync(handle)
            except OSError:
                with suppress(OSError):  # the next writer repairs a truncated line
                    os.ftruncate(handle.fileno(), end)
                raise
            if end == 0:
                jsonl.sync_folder(self.path)

    def read_new(self) -> Changes:
        """Return the rows added since the last call; the first call returns all.

        Raises `CorrectionsError`.
        """
        try:
            _check_kind(self.path)
            with open(self.path, "rb") as file:
                if _state(file) == self._seen:
                    return Changes([], reset=False)
                jsonl.lock(file, fcntl.LOCK_SH, time.monotonic() + PATIENCE)
                return self._read_new(file)
        except FileNotFoundError:
            reset = self._seen is not None
            self.forget()
            return Changes([], reset)
        except OSError as error:
            raise _failed(self.path, error) from error

    def _read_new(self, file: IO[bytes]) -> Changes:
        state = _state(file)
        last = self._last_line
        # Somebody's editor was at work: the last line that was read is not where it was.
        reset = os.pread(file.fileno(), len(last), self._read_to - len(last)) != last or not last
        rows: list[Row] = []
        read_to = self._read_to
        if reset:
            read_to, last = 0, b""
        for line in _lines(file, read_to, self.path):
            read_to += len(line)
            last = line
            if (row := _persons(line, self.path)) is not None:
                rows.append(row)
        self._seen, self._read_to, self._last_line = state, read_to, last
        return Changes(rows, reset)

    def forget(self) -> None:
        """Have `read_new` return all rows again."""
        self._seen, self._read_to, self._last_line = None, 0, b""

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        try:
            _check_kind(self.path)
            with jsonl.open_locked(self.path, patience=PATIENCE) as handle:
                jsonl.repair(handle)
                yield handle
        except ManifestError as error:
            raise CorrectionsError(f"{self.path}: {error} with --corrections") from error
        except OSError as error:
            raise _failed(self.path, error) from error


class BucketCorrections:
    """Decisions about a bucket's table: each step is written as a part, and counts at once.

    What others decide meanwhile is in the table when it is read again.
    """

    def __init__(self, results: str) -> None:
        """`results` is `s3://bucket/labels/`."""
        self.path = results
        self._rows: list[Row] = []
        self._returned = 0

    def add_all(self, rows: Sequence[Row]) -> None:
        """Write decisions or withdrawals, at most one per image. Raises `StorageError`."""
        write_parts(self.path, rows)
        self._rows += rows

    def read_new(self) -> Changes:
        """Return what was added since the last call."""
        rows, self._returned = self._rows[self._returned :], len(self._rows)
        return Changes(rows, reset=False)

    def forget(self) -> None:
        """Have `read_new` return only what is added from now on: the table holds the rest."""
        self._returned = len(self._rows)


def write_parts(results: str, rows: Sequence[Row]) -> None:
    """Write rows, at most one per image, as parts below `results`. Raises `StorageError`."""
    for start in range(0, len(rows), PART_ROWS):
        parts.write(results, rows[start : start + PART_ROWS])


def _check_kind(path: str) -> None:
    # Opening a pipe would wait for its other end for ever.
    if os.path.exists(path) and not os.path.isfile(path):
        raise CorrectionsError(f"{path}: not a regular file; move it away")


def _state(file: IO[bytes]) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def _lines(file: IO[bytes], start: int, path: str) -> Iterator[bytes]:
    """Read whole lines from `start` on."""
    file.seek(start)
    while (line := file.readline(merge.MAX_LINE_BYTES + 1)).endswith(b"\n"):
        yield line
    if len(line) > merge.MAX_LINE_BYTES:
        raise CorrectionsError(f"{path}: a line is longer than {merge.MAX_LINE_BYTES:,} bytes")


def _failed(path: str, error: OSError) -> CorrectionsError:
    if isinstance(error, BlockingIOError):
        return CorrectionsError(f"{path}: another process has kept it locked for {PATIENCE:.0f} s")
    return CorrectionsError(f"{path}: {error.strerror or error}")

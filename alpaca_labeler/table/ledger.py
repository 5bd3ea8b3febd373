"""The manifest on this machine: `manifest.jsonl`, its failures and its corrections.

Rows are appended as they come, in one write each, so that a run that is killed leaves at most one
truncated line, and the next run cuts it off. A finished run leaves both files sorted, one row per
image in the two together, with what people decided in it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from operator import eq
from typing import IO, TYPE_CHECKING, Final, Self

from alpaca_labeler import storage
from alpaca_labeler.errors import LabelerError
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import corrections, jsonl, manifest_row, merge, prune
from alpaca_labeler.table.manifest_row import ManifestError
from alpaca_labeler.table.places import Places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alpaca_labeler.table.manifest_row import Row

_FEW: Final = 100_000
"""Keys that are sorted sooner without NumPy: 100,000 take 44 ms, its import alone 80."""

TRIED_AGAIN: Final = frozenset({"unreadable", "too-many-pixels"})
"""Failures that a user repairs without touching the photo: by chmod, `--max-pixels`."""


class LedgerError(LabelerError):
    """The manifest cannot be used. The message names the file and the remedy."""


@dataclass(slots=True)
class _File:
    path: str
    handle: IO[bytes] | None = None
    before: int = 0
    """Number of settled rows in it before this run."""
    plain: bool = False
    """Whether it holds the lines that `_parsed` yields, byte for byte, and nothing else."""


class Ledger:
    """The files of a manifest, locked for one run. A context manager."""

    def __init__(
        self, manifest_path: str, failures_path: str, corrections_path: str | None = None
    ) -> None:
        """Without `corrections_path` they lie beside the manifest."""
        self._labels, self._failures = (
            _File(jsonl.resolved(path)) for path in (manifest_path, failures_path)
        )
        self._corrections = corrections_path or jsonl.beside(manifest_path, "corrections")
        self.places = Places(self._labels.path)
        self.overruled: list[str] = []
        """Photos with a new version, whose label a person gave to the one before."""
        self._settled = True
        self._ordered = False
        self._old = False
        self._index = self._failed = self._by_people = array("q")
        self._seen = array("q")
        self._photos = 0
        self._gone: set[str] = set()
        self._known_content: dict[str, ImageVersion] = {}
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        """Lock the manifest and repair a truncated end. Raises `LedgerError`."""
        with ExitStack() as stack:
            try:
                for file in (self._labels, self._failures):
                    file.handle = stack.enter_context(_open_locked(file.path))
                    _repair(file.path, file.handle)
            except LedgerError:
                self._remove_empty()
                raise
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock."""
        self._remove_empty()
        self._exit.close()

    def _remove_empty(self) -> None:
        """Remove a file without rows: there is nothing in it to look at."""
        for file in (self._labels, self._failures):
            if file.handle is not None and os.fstat(file.handle.fileno()).st_size == 0:
                with suppress(FileNotFoundError):
                    os.unlink(file.path)

    def load(self, model_version: str | None, decoder: str = "") -> None:
        """Learn which images have a row by `model_version`, or by a person; with None, none.

        What an earlier run or an earlier release left, and what people decided since, is settled
        first. What another decoder than `decoder` could not read counts as new: to be tried once.

        Takes 16 bytes of memory per image. Raises `ManifestError` for a line that is not a
        row, and `CorrectionsError`.
        """

        def settle() -> None:
            self._settled = False
            self.settle()
            self._scan(model_version, decoder)

        self._scan(model_version, decoder)
        if not self._settled or self._has_new_corrections():
            settle()
        # Only now: what people decided names a photo as the manifest did.
        if self._old and self._modernize():
            settle()
        self._ordered = True

    def peek(self, model_version: str | None, decoder: str = "") -> None:
        """Do the same as `load` without a lock, and without writing anything."""
        self._scan(model_version, decoder)

    def _scan(self, model_version: str | None, decoder: str) -> None:
        self._settled, self._old = True, False
        images, known, failed, people = array("q"), array("q"), array("q"), array("q")
        for file in (self._labels, self._failures):
            last = ""
            file.before = size = 0
            file.plain = True
            for row, line in self._parsed(file):
                source_ref: str = row["source-ref"]
                file.before += 1
                size += len(line)
                self._settled &= last < source_ref
                last = source_ref
                images.append(hash(source_ref))
                version, human = manifest_row.version_of(row), manifest_row.is_human(row)
                self._old |= not version.etag and version.last_modified is not None
                if human and version.etag:
                    people.append(hash(version.etag))
                if model_version is not None and (
                    human or manifest_row.model_version(row) == model_version
                ):
                    failure = manifest_row.block(row, "failure")
                    code = str(failure.get("code"))
                    if code in TRIED_AGAIN:
                        failed.append(_key(version))
                    elif not (
                        decoder
                        and code in manifest_row.DECODER_CODES
                        and failure.get("decoder") != decoder
                    ):
                        known.append(_key(version))
            # A blank line, for one, is skipped.
            file.plain &= size == _size(file.path)
        # An image in both files is left by a run that was killed while it settled them.
        seen = _sorted(images)
        twice = sum(map(eq, seen, islice(seen, 1, None)))
        self._settled &= not twice
        self._photos = len(seen) - twice
        self._index, self._failed, self._by_people = map(_sorted, (known, failed, people))

    def named(self, image: ImageVersion) -> ImageVersion:
        """Return a photo that was found under its name in this manifest, and note that it is there.

        The name of a file is relative to the manifest's folder, however the command was called.
        """
        name = image.source_ref
        if not storage.is_s3(name):
            name = storage.to_source_ref(self.places.name(storage.to_path(name)))
        self._seen.append(hash(name))
        return image if name == image.source_ref else replace(image, source_ref=name)

    def has(self, image: ImageVersion) -> bool:
        """Tell whether this very version of the image has its row. Call `load` before.

        A failure of `TRIED_AGAIN` does not count.
        """
        return _contains(self._index, _key(image))

    def had_failed(self, image: ImageVersion) -> bool:
        """Tell whether this version has a failure of `TRIED_AGAIN`, which is not reported again."""
        return _contains(self._failed, _key(image))

    def append(self, row: Row) -> None:
        """Write a row to the file where it belongs."""
        file = self._failures if manifest_row.is_failure(row) else self._labels
        self._settled = False
        version = manifest_row.version_of(row)
        if version.etag and _contains(self._by_people, hash(version.etag)):
            self._known_content[row["source-ref"]] = version
        jsonl.write(_handle(file), manifest_row.encode(row))

    def settle(self) -> None:
        """Merge both files into one sorted row per image. Killed at any point, it loses nothing."""
        self._give_labels_of_the_same_content()
        if self._settled:
            return
        names = [jsonl.new_name(file.path) for file in (self._labels, self._failures)]
        overruled: list[str] = []
        try:
            with open(names[0], "wb") as labels, open(names[1], "wb") as failures:
                rows = [0, 0]
                for line, is_failure, _ in self._merged(overruled):
                    if not self._gone or _name(line) not in self._gone:
                        (failures if is_failure else labels).write(line)
                        rows[is_failure] += 1
                self._labels.before, self._failures.before = rows
                for file, new in ((self._labels, labels), (self._failures, failures)):
                    self._replace(file, new)
                    file.plain = True
        finally:
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(name)
        self.overruled += overruled
        self._settled = True

    def table(self) -> Iterator[tuple[bytes, bool]]:
        """Yield (line, is a failure) of every image, sorted, settled or not, as `settle` writes it.

        Needs no lock, and writes nothing.
        """
        return ((line, is_failure) for line, is_failure, _ in self._merged())

    def rows(self) -> Iterator[Row]:
        """Read the label rows, in their order in the file."""
        for row, _ in self._parsed(self._labels):
            yield row

    # --- photos that are there, and those that are gone ------------------------------------------

    def found(self) -> Iterator[Row]:
        """Yield the rows of the photos that this run has found: see `named`."""
        seen = _sorted(self._seen)
        for line, _ in self.table():
            row = manifest_row.parse(line)
            if _contains(seen, hash(row["source-ref"])):
                yield row

    def gone(self, listed: Iterable[str] = ()) -> list[str]:
        """Return the names of photos that have a row and are no longer there.

        `listed` are `s3://` prefixes of which this run has found all photos.
        """
        seen, prefixes = _sorted(self._seen), tuple(listed)
        found, in_s3 = [], []
        for file in (self._labels, self._failures):
            for source_ref, _ in self._rows(file):
                if _contains(seen, hash(source_ref)):
                    continue
                if storage.is_s3(source_ref):
                    in_s3 += [source_ref] * source_ref.startswith(prefixes)
                elif self.places.is_gone(source_ref):
                    found.append(source_ref)
        # A manifest that has not been settled may name a photo twice.
        return [*dict.fromkeys(found + prune.deleted(in_s3))]

    def prune(self, names: Sequence[str]) -> None:
        """Remove the rows of these photos when the manifest is settled. Call `load` before.

        Raises `LedgerError` if no photo at all would be left: then something else is wrong.
        """
        if names and not self._seen and len(names) == self._photos:
            raise LedgerError(
                f"{self._labels.path}: none of its {len(names):,} photos is there, so no row was "
                "removed. Connect their drive, or put the manifest back beside them; to start "
                "again, delete the manifest"
            )
        self._gone.update(names)
        self._settled &= not self._gone

    # --- the rows --------------------------------------------------------------------------------

    def _has_new_corrections(self) -> bool:
        """Tell whether people decided something that is not in the manifest yet."""
        return os.path.exists(self._corrections) and any(new for *_, new in self._merged())

    def _merged(self, overruled: list[str] | None = None) -> Iterator[tuple[bytes, bool, bool]]:
        """Yield the table as `table` does, and whether a correction changed the row.

        A correction of a photo that has no row waits until it has one.
        """
        lines = merge.merge(*self._streams(), choose=partial(self._choose, overruled))
        said = merge.sort(self._said())
        waiting = next(said, None)
        if waiting is None:
            yield from ((line, is_failure, False) for line, is_failure in lines)
            return
        for line, is_failure in lines:
            row = manifest_row.parse(line)
            source_ref: str = row["source-ref"]
            about = []
            while waiting is not None and waiting[0] <= source_ref:
                if waiting[0] == source_ref:
                    about.append(manifest_row.parse(waiting[1]))
                waiting = next(said, None)
            new = corrections.corrected(row, about)
            if new == row:
                yield line, is_failure, False
            else:
                yield manifest_row.encode(new), manifest_row.is_failure(new), True

    def _streams(self) -> list[Iterator[merge.Keyed]]:
        files = (self._failures, self._labels)
        rows = [self._rows(file) for file in files]
        if self._ordered and self._settled:
            return rows
        if not self._ordered:
            # A finished run leaves sorted files, which need not be sorted again.
            return [
                some if self._is_sorted(file) else merge.sort(some)
                for some, file in zip(rows, files, strict=True)
            ]
        # The place where this run began is known, so no clock is trusted: it may be set back.
        before = [islice(some, file.before) for some, file in zip(rows, files, strict=True)]
        return [merge.sort(chain(*before, *rows))]

    def _is_sorted(self, file: _File) -> bool:
        before = ""
        with suppress(FileNotFoundError), open(file.path, "rb") as lines:
            while line := lines.readline(merge.MAX_LINE_BYTES + 1):
                name = merge.quick_name(line)
                if name is None or name < before or self.places.modern(name) != name:
                    return False
                before = name
        return True

    def _choose(self, overruled: list[str] | None, rows: list[Row]) -> Row:
        chosen = manifest_row.latest(rows) if self._ordered else _latest(rows)
        if overruled is not None and not manifest_row.is_human(chosen):
            others = [row for row in rows if not manifest_row.same_version(row, chosen)]
            if manifest_row.decided(others) is not None:
                overruled.append(chosen["source-ref"])
        return chosen

    def _said(self) -> Iterator[merge.Keyed]:
        for source_ref, line in corrections.read(self._corrections):
            name = self.places.modern(source_ref)
            if name == source_ref:
                yield source_ref, line
            else:
                yield name, _renamed(line, name)

    def _rows(self, file: _File) -> Iterator[merge.Keyed]:
        if not (self._ordered and self._settled and file.plain):
            yield from ((row["source-ref"], line) for row, line in self._parsed(file))
            return
        # `load` has read it: this need not parse it again.
        with suppress(FileNotFoundError), open(file.path, "rb") as lines:
            yield from merge.read_sorted(lines, file.path)

    def _parsed(self, file: _File) -> Iterator[tuple[Row, bytes]]:
        """Yield each row of a file under its present name, and its line."""
        try:
            lines = open(file.path, "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return
        with lines:
            try:
                for row, line in merge.read_rows(lines, file.path):
                    name = self.places.modern(row["source-ref"])
                    if name == row["source-ref"]:
                        yield row, line
                        continue
                    file.plain = False
                    row = {**row, "source-ref": name}  # noqa: PLW2901
                    yield row, manifest_row.encode(row)
            except ManifestError:
                # Who only peeks finds what the next run will repair.
                if file.handle is not None or not _is_truncated_end(lines):
                    raise

    def _give_labels_of_the_same_content(self) -> None:
        """Give a person's label of a photo to the same photo under another name."""
        new, self._known_content = self._known_content, {}
        if not new:
            return
        wanted = {version.etag for version in new.values()}
        said: dict[str | None, Row] = {}
        for line, _ in self.table():
            row = manifest_row.parse(line)
            etag = manifest_row.version_of(row).etag
            if etag in wanted and manifest_row.is_human(row):
                new.pop(row["source-ref"], None)  # it has its own
                said[etag] = max(said.get(etag, row), row, key=manifest_row.created)
        for name, version in new.items():
            if version.etag in said:
                row = {**said[version.etag], "source-ref": name}
                self.append(manifest_row.with_facts(row, version))
        self._known_content = {}

    def _modernize(self) -> bool:
        """Convert rows of an earlier release to the current form; tell whether there were any."""
        changed = False
        for file in (self._labels, self._failures):
            if all(self.places.settled(row) is row for row, _ in self._parsed(file)):
                continue
            changed = True
            new_name = jsonl.new_name(file.path)
            try:
                with open(new_name, "wb") as new:
                    new.writelines(
                        manifest_row.encode(self.places.settled(row))
                        for row, _ in self._parsed(file)
                    )
                    self._replace(file, new)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(new_name)
        return changed

    def _replace(self, file: _File, new: IO[bytes]) -> None:
        jsonl.sync(new)
        old = _handle(file)
        jsonl.keep_mode(old, new.name)
        handle = self._exit.enter_context(open(new.name, "ab", buffering=0))  # noqa: SIM115
        jsonl.lock(handle, fcntl.LOCK_EX, 0.0)  # before it has the name that others open
        os.replace(new.name, file.path)
        file.handle = handle
        old.close()


def _key(image: ImageVersion) -> int:
    # 64 bits: among 10^8 images one changed file in 10^11 is taken for an old one.
    # A file is known before it is read: by its date, and not by its content.
    content = image.etag if storage.is_s3(image.source_ref) else None
    return hash((image.source_ref, content or image.last_modified, image.size))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _name(line: bytes) -> str:
    name: str = manifest_row.parse(line)["source-ref"]
    return name


def _renamed(line: bytes, name: str) -> bytes:
    return manifest_row.encode({**manifest_row.parse(line), "source-ref": name})


def _latest(rows: list[Row]) -> Row:
    # Rows come in the order of writing, failures before labels; between the two files dates decide.
    failures = [row for row in rows if manifest_row.is_failure(row)]
    labels = [row for row in rows if not manifest_row.is_failure(row)]
    if (
        failures
        and labels
        and manifest_row.created(failures[-1]) > manifest_row.created(labels[-1])
    ):
        return manifest_row.latest(labels + failures)
    return manifest_row.latest(failures + labels)


def _sorted(keys: array[int]) -> array[int]:
    """Return the keys sorted; many are sorted in place, so a hundred million have no copy."""
    if len(keys) < _FEW:
        return array("q", sorted(keys))
    import numpy as np  # 80 ms that a small folder need not wait for

    np.frombuffer(keys, dtype=np.int64).sort()
    return keys


def _contains(index: array[int], key: int) -> bool:
    place = bisect_left(index, key)
    return place < len(index) and index[place] == key


def _is_truncated_end(lines: IO[bytes]) -> bool:
    end = lines.tell()
    return end == lines.seek(0, os.SEEK_END) and lines.seek(end - 1) >= 0 and lines.read() != b"\n"


def _handle(file: _File) -> IO[bytes]:
    if file.handle is None:
        raise RuntimeError("a ledger is used inside its `with` block only")
    return file.handle


def _open_locked(path: str) -> IO[bytes]:
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        raise LedgerError(f"{path}: not a regular file; name another manifest")
    try:
        return jsonl.open_locked(path)
    except BlockingIOError as error:
        raise LedgerError(
            f"{path}: another run is writing it; wait for it, or name another manifest"
        ) from error
    except OSError as error:
        raise LedgerError(
            f"{path}: cannot be written ({error.strerror}); name another manifest"
        ) from error


def _repair(path: str, handle: IO[bytes]) -> None:
    """Cut off a truncated last line; its image is labelled again."""
    try:
        jsonl.repair(handle)
    except ManifestError as error:
        raise LedgerError(f"{path}: {error}") from error

"""An export that `load_dataset("imagefolder", data_dir=FOLDER)` of Hugging Face reads in full.

`datasets` reads `metadata.jsonl` in the folder of the photos or in one around it. But as soon as
any folder's name has a word like train or test in it, it reads nothing outside such folders, and
each needs a `metadata.jsonl` of its own.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import IO, Final

from alpaca_labeler import storage
from alpaca_labeler.manifest.out import ExportError, LeftOut, Out
from alpaca_labeler.photos import skip
from alpaca_labeler.table.row import Row

METADATA: Final = "metadata.jsonl"
_METADATA_FILES: Final = {"metadata.jsonl", "metadata.csv", "metadata.parquet"}

# As data_files.py of datasets 5.2 has them.
_SPLITS: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "dev", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_WORD: Final = f"(?P<word>{'|'.join(_SPLITS)})"
_SPLIT_FOLDER: Final = re.compile(rf"(.*[-._ 0-9])?{_WORD}([-._ 0-9].*)?", re.DOTALL)
_SPLIT_FILE: Final = re.compile(rf"(.*[-._ 0-9])?{_WORD}[-._ 0-9].*", re.DOTALL)


def write(rows: Iterable[Row], out: Out) -> None:
    """Write the metadata of labelled rows into the output, or into each folder of a split.

    Raises `ExportError` if `datasets` would read another metadata file too.
    """
    if out.output is not None and os.path.basename(out.output) != METADATA:
        raise ExportError(f"{out.output}: datasets reads no other name than {METADATA}")
    tree = _Tree(out.folder)
    if tree.splits and out.output is None:
        raise ExportError(f"{tree.splits[0]} is a split: give -o FOLDER/{METADATA}")
    files: dict[str, IO[str]] = {}
    for row, (split, name) in out.taken(rows, lambda row: _place(row, out, tree)):
        if split not in files:
            files[split] = out.open(out.output and os.path.join(out.folder, split, METADATA))
        entry = {"file_name": name, "label": row.label, "confidence": row.confidence}
        files[split].write(json.dumps(entry) + "\n")
    ours = {os.path.join(split, METADATA) for split in files}
    for other in tree.metadata:
        if other not in ours and tree.split(other) is not None:
            raise ExportError(f"{other}: datasets would read this file too; remove it")
    out.notes += [f"written to {os.path.join(split, METADATA)}" for split in files if split]
    out.notes += tree.advice(files)


def _place(row: Row, out: Out, tree: _Tree) -> tuple[str, str]:
    """Return a photo's split and its name there, as datasets finds and opens it."""
    if storage.is_s3(row.source_ref):
        raise LeftOut("in S3: an imagefolder is of files, so download them and label them there")
    name = out.below(out.folder, row)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise LeftOut("a name that is not UTF-8 text") from None
    if "\\" in name:
        raise LeftOut("a name with a backslash, which datasets takes for a folder")
    path = storage.to_path(out.place(row.source_ref))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a named pipe would wait for its writer
            raise LeftOut("not a file")
        with open(path, "rb", buffering=0) as file:
            start = file.read(skip.SNIFFED_BYTES)
    except (OSError, ValueError):
        raise LeftOut("no longer there") from None
    if skip.is_heic(start):
        raise LeftOut("HEIC, which datasets does not open: convert it to JPEG")
    split = tree.split(name)
    if split is None:
        raise LeftOut("outside the folders of splits (train, test, ...), where datasets looks")
    return split, os.path.relpath(name, split) if split else name


class _Tree:
    """What datasets would find in a folder besides photos."""

    def __init__(self, folder: str) -> None:
        self.splits: list[str] = []
        """Folders with files that are splits, relative to the folder; none lies in another."""
        self.metadata: list[str] = []
        self.named_like_a_split = ""
        for root, folders, names in os.walk(folder):
            inside = os.path.relpath(root, folder)
            # Hidden ones, and those that begin with two underscores, datasets does not see.
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
            split = _outermost_split(inside)
            if names and split and split not in self.splits:
                self.splits.append(split)
            for name in names:
                path = os.path.normpath(os.path.join(inside, name))
                if name in _METADATA_FILES:
                    self.metadata.append(path)
                elif _SPLIT_FILE.fullmatch(name) and not name.startswith("."):
                    self.named_like_a_split = path

    def split(self, name: str) -> str | None:
        """Return the split that a photo is in: empty without splits, None if it is in none."""
        if not self.splits:
            return ""
        return next((split for split in self.splits if name.startswith(f"{split}/")), None)

    def advice(self, written: Collection[str]) -> list[str]:
        """Say what `load_dataset` must be told to read all that was written, if anything."""
        if not self.splits:
            if not self.named_like_a_split:
                return []
            why = f"{self.named_like_a_split} is named like a split, so datasets reads nothing else"
            files: Mapping[str, Sequence[str]] = {"train": ["**"]}
        else:
            kinds = {split: _kind(split) for split in self.splits}
            labelled = {kinds[split] for split in written}
            empty = [split for split in self.splits if kinds[split] not in labelled]
            if not empty:
                return []
            why = f"{empty[0]} holds no labelled photo, so datasets stops"
            files = {
                kind: [f"{split}/**" for split in written if kinds[split] == kind]
                for kind in sorted(labelled)
            }
        return [f"{why}: give load_dataset data_files={json.dumps(files)}"]


def _kind(split: str) -> str:
    """Return which split datasets takes a folder for: train, validation or test."""
    found = _SPLIT_FOLDER.fullmatch(split.rpartition("/")[2])
    return _SPLITS[found["word"]] if found else ""


def _outermost_split(folder: str) -> str | None:
    parts = folder.split(os.sep)
    for index, part in enumerate(parts):
        if _SPLIT_FOLDER.fullmatch(part):
            return "/".join(parts[: index + 1])
    return None

"""An export that `load_dataset("imagefolder", data_dir=FOLDER)` of Hugging Face reads in full.

`datasets` reads `metadata.jsonl` in the folder of the photos or in one around it. But as soon as
any name has a word like train or test in it, it reads nothing else, unless it is given files.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable
from typing import Final

from alpaca_labeler import storage
from alpaca_labeler.manifest.out import ExportError, LeftOut, Out
from alpaca_labeler.photos import skip
from alpaca_labeler.table.row import Row

METADATA: Final = "metadata.jsonl"
_METADATA_FILES: Final = {"metadata.jsonl", "metadata.csv", "metadata.parquet"}

# As data_files.py of datasets 5.2 has them.
_WORDS: Final = "train|training|validation|valid|dev|val|test|testing|eval|evaluation"
_SPLIT: Final = re.compile(rf"(.*[-._ 0-9])?({_WORDS})([-._ 0-9].*)?", re.DOTALL)


def write(rows: Iterable[Row], out: Out) -> None:
    """Write the metadata of labelled rows into the folder of their photos.

    Raises `ExportError` if `datasets` would read another metadata file too.
    """
    if out.output is not None and os.path.basename(out.output) != METADATA:
        raise ExportError(f"{out.output}: datasets reads no other name than {METADATA}")
    split = _like_a_split(out.folder)
    file = out.open()
    for row, name in out.taken(rows, lambda row: _name(row, out)):
        entry = {"file_name": name, "label": row.label, "confidence": row.confidence}
        file.write(json.dumps(entry) + "\n")
    if split:
        files = json.dumps({"train": ["**"]})
        out.notes.append(
            f"{split} is named like a split, so datasets reads nothing else: give load_dataset "
            f"data_files={files}"
        )


def _name(row: Row, out: Out) -> str:
    """Return a photo's name in the folder, as datasets finds and opens it."""
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
    return name


def _like_a_split(top: str) -> str:
    """Return a file or folder that `datasets` takes for a split; empty if there is none.

    Raises `ExportError` if it would find metadata other than that of this export.
    """
    found = ""
    for root, folders, names in os.walk(top):
        # Hidden ones, and those that begin with two underscores, datasets does not see.
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        for name in (*folders, *names):
            path = os.path.normpath(os.path.join(os.path.relpath(root, top), name))
            if name in _METADATA_FILES and path != METADATA:
                raise ExportError(f"{path}: datasets would read this file too; remove it")
            if _SPLIT.fullmatch(name) and not name.startswith("."):
                found = path
    return found

"""Manifest rows in the forms of other tools. What a form cannot hold is left out and counted."""

from __future__ import annotations

import csv
import json
import os
import re
from typing import IO, TYPE_CHECKING, Any, Final

from alpaca_labeler.handler import manifest_row, storage
from alpaca_labeler.handler.manifest_row import Row

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Mapping

REKOGNITION_ROWS: Final = 250_000
REKOGNITION_FILE_BYTES: Final = 2**30
REKOGNITION_IMAGE_BYTES: Final = 15 * 2**20
REKOGNITION_SIDE: Final = (64, 4096)
"""Pixels. https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/limits.html"""
REKOGNITION_ASPECT: Final = 20
METADATA: Final = frozenset(
    "class-name confidence type job-name human-annotated creation-date".split()
)
"""The documented metadata of a label; anything else a strict reader may refuse."""
REKOGNITION_SUFFIXES: Final = (".jpg", ".jpeg", ".png")

FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet would run as a formula when it stands first in a cell."""

COLUMNS: Final = (
    "source-ref",
    "label",
    "confidence",
    "probability",
    "needs-review",
    "human-annotated",
    "model-version",
    "creation-date",
    "width",
    "height",
    "size",
)


def to_csv(rows: Iterable[Row], out: IO[str], left_out: Counter[str], _folder: str) -> int:
    """Write a table with a header; text that a spreadsheet would run gets an apostrophe."""
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    count = 0
    for row in _labelled(rows, left_out):
        count += 1
        facts, labeler = manifest_row.metadata(row), manifest_row.block(row, "labeler")
        known = {"source-ref": row["source-ref"], "label": facts.get("class-name")}
        writer.writerow(
            _cell(known.get(name, facts.get(name, labeler.get(name)))) for name in COLUMNS
        )
    return count


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def to_json(rows: Iterable[Row], out: IO[str], _left_out: Counter[str], _folder: str) -> int:
    """Write all rows as one JSON array."""
    return _write_array(rows, out)


def to_rekognition(rows: Iterable[Row], out: IO[str], left_out: Counter[str], _folder: str) -> int:
    """Write a strict manifest: documented keys only, one bucket, within the service's limits."""
    bucket = ""
    count = size = 0
    for row in _labelled(rows, left_out):
        source_ref = row["source-ref"]
        reason = _not_for_rekognition(row)
        if reason is None:
            bucket = bucket or storage.split_s3(source_ref)[0]
            if storage.split_s3(source_ref)[0] != bucket:
                reason = f"not in the first row's bucket, {bucket}"
        line = json.dumps(_strict(row)) + "\n"
        if reason is None and (
            count == REKOGNITION_ROWS or size + len(line) > REKOGNITION_FILE_BYTES
        ):
            reason = f"over {REKOGNITION_ROWS:,} rows or 1 GB in one file"
        if reason is not None:
            left_out[reason] += 1
            continue
        out.write(line)
        count, size = count + 1, size + len(line)
    return count


def _strict(row: Row) -> Row:
    name = f"{manifest_row.attribute(row)}"
    facts = manifest_row.metadata(row)
    known = {key: facts[key] for key in facts if key in METADATA}
    return {"source-ref": row["source-ref"], name: row.get(name), f"{name}-metadata": known}


def _not_for_rekognition(row: Row) -> str | None:
    source_ref: str = row["source-ref"]
    if not re.match("s3://[^/]", source_ref):
        return "not in S3"
    if not source_ref.lower().endswith(REKOGNITION_SUFFIXES):
        return "neither JPEG nor PNG"
    labeler = manifest_row.block(row, "labeler")
    size = labeler.get("size")
    sides = [side for side in map(labeler.get, ("width", "height")) if isinstance(side, int)]
    if isinstance(size, int) and size > REKOGNITION_IMAGE_BYTES:
        return "over 15 MB"
    if sides:
        if not REKOGNITION_SIDE[0] <= min(sides) <= max(sides) <= REKOGNITION_SIDE[1]:
            return "a side under 64 or over 4,096 pixels"
        if max(sides) > REKOGNITION_ASPECT * min(sides):
            return "longer than 20 times its width"
    return None


def to_label_studio(rows: Iterable[Row], out: IO[str], left_out: Counter[str], _folder: str) -> int:
    """Write Label Studio tasks with the labels as predictions (`choice` on `image`)."""
    return _write_array(map(_task, _labelled(rows, left_out)), out)


def _task(row: Row) -> dict[str, Any]:
    facts = manifest_row.metadata(row)
    choice = {
        "from_name": "choice",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [facts.get("class-name")]},
    }
    return {
        "data": {"image": row["source-ref"]},
        "predictions": [
            {
                "model_version": manifest_row.model_version(row),
                "score": facts.get("confidence"),
                "result": [choice],
            }
        ],
    }


def to_hugging_face(rows: Iterable[Row], out: IO[str], left_out: Counter[str], folder: str) -> int:
    """Write an imagefolder's `metadata.jsonl`: file names relative to the folder it lies in."""
    count = 0
    for row in _labelled(rows, left_out):
        if storage.is_s3(row["source-ref"]):
            left_out["in S3, and an imagefolder is of files"] += 1
            continue
        try:
            name = os.path.relpath(storage.to_path(row["source-ref"]), folder)
            name.encode()
        except ValueError:
            left_out["a name that is not UTF-8 text"] += 1
            continue
        if name.split(os.sep)[0] == os.pardir:
            left_out["outside the folder of the output file"] += 1
            continue
        facts = manifest_row.metadata(row)
        entry = {"file_name": name, "label": facts.get("class-name")}
        out.write(json.dumps({**entry, "confidence": facts.get("confidence")}) + "\n")
        count += 1
    return count


def _labelled(rows: Iterable[Row], left_out: Counter[str]) -> Iterator[Row]:
    for row in rows:
        if manifest_row.is_failure(row) or not manifest_row.metadata(row):
            left_out["without a label"] += 1
        else:
            yield row


def _write_array(items: Iterable[object], out: IO[str]) -> int:
    count = 0
    for count, item in enumerate(items, 1):
        out.write("[\n" if count == 1 else ",\n")
        json.dump(item, out)
    out.write("\n]\n" if count else "[]\n")
    return count


FORMATS: Final[Mapping[str, Callable[[Iterable[Row], IO[str], Counter[str], str], int]]] = {
    "csv": to_csv,
    "json": to_json,
    "rekognition": to_rekognition,
    "label-studio": to_label_studio,
    "hugging-face": to_hugging_face,
}

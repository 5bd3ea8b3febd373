"""Manifest rows in the formats of other tools. Rows that a format cannot hold are counted."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from alpaca_labeler import storage
from alpaca_labeler.manifest import hugging_face
from alpaca_labeler.manifest.out import LeftOut, Out
from alpaca_labeler.table.facts import Read
from alpaca_labeler.table.row import Row

REKOGNITION_ROWS: Final = 250_000
REKOGNITION_FILE_BYTES: Final = 2**30
REKOGNITION_IMAGE_BYTES: Final = 15 * 2**20
REKOGNITION_SIDE: Final = (64, 4096)
"""Pixels. https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/limits.html"""
REKOGNITION_ASPECT: Final = 20
REKOGNITION_SUFFIXES: Final = (".jpg", ".jpeg", ".png")

_SIGNS: Final = "-=+@\uff1d\uff0b\uff0d\uff20"
FORMULA_STARTS: Final = (*_SIGNS, *"\t\r\n")
"""What a spreadsheet may run as a formula when it stands first in a cell, also if it is wide."""

CELL_STARTS: Final = re.compile(f"([;\t\r\n])(?=[{_SIGNS}])")
"""Where a cell begins in the middle of a text, for programs that take `;` for a separator."""

BYTE_ORDER_MARK: Final = "\ufeff"
"""Excel takes a CSV file without one for Windows-1252. pandas and DuckDB skip it."""

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


def to_csv(rows: Iterable[Row], out: Out) -> None:
    """Write a table with a header; text that a spreadsheet would run gets an apostrophe."""
    file = out.open()
    if out.output is not None:
        file.write(BYTE_ORDER_MARK)
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for _, cells in out.taken(rows, _cells):
        writer.writerow(cells)


def _plain(text: str) -> str:
    text = CELL_STARTS.sub(r"\1'", text)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _cells(row: Row) -> tuple[object, ...]:
    read = row.read or Read()
    return (
        _plain(row.source_ref),
        _plain(row.label or ""),
        row.confidence,
        row.probability,
        "yes" if row.needs_review else "no",
        "yes" if row.decision else "no",
        _plain(row.model),
        (row.decision or read).at.removesuffix("Z"),
        read.width,
        read.height,
        read.size,
    )


def to_rekognition(rows: Iterable[Row], out: Out) -> None:
    """Write a strict manifest: documented keys only, one bucket, within the service's limits."""
    file = out.open()
    bucket: list[str] = []
    size = 0

    def line_of(row: Row) -> str:
        _check_for_rekognition(row)
        found, _ = storage.split_s3(row.source_ref)
        line = json.dumps({"source-ref": row.source_ref, **row.ground_truth()}) + "\n"
        if found != (bucket or [found])[0]:
            raise LeftOut(f"not in the first row's bucket, {bucket[0]}: one export has one bucket")
        if out.written == REKOGNITION_ROWS or size + len(line) > REKOGNITION_FILE_BYTES:
            raise LeftOut(f"over {REKOGNITION_ROWS:,} rows or 1 GB in one file")
        bucket[:] = [found]
        return line

    for _, line in out.taken(rows, line_of):
        file.write(line)
        size += len(line)


def _check_for_rekognition(row: Row) -> None:
    if not re.match("s3://[^/]", row.source_ref):
        raise LeftOut("not in S3: Rekognition reads photos from a bucket, so label them there")
    if not row.source_ref.lower().endswith(REKOGNITION_SUFFIXES):
        raise LeftOut("neither JPEG nor PNG")
    if row.index is None or row.attribute is None:
        raise LeftOut("without a class number")
    read = row.read or Read()
    if (read.size or 0) > REKOGNITION_IMAGE_BYTES:
        raise LeftOut("over 15 MB")
    if sides := [side for side in (read.width, read.height) if side is not None]:
        if not REKOGNITION_SIDE[0] <= min(sides) <= max(sides) <= REKOGNITION_SIDE[1]:
            raise LeftOut("a side under 64 or over 4,096 pixels")
        if max(sides) > REKOGNITION_ASPECT * min(sides):
            raise LeftOut("longer than 20 times its width")


def to_label_studio(rows: Iterable[Row], out: Out) -> None:
    """Write Label Studio tasks with the labels as predictions (`choice` on `image`).

    Beside them, in NAME.xml, goes the labelling config with those names and all labels.
    """
    file = out.open()
    labels: set[str | None] = set()
    separator = "[\n"
    for row, image in out.taken(rows, lambda row: _image(row, out)):
        labels |= {row.label, row.answer.label if row.answer else None}
        file.write(separator)
        json.dump(_task(row, image), file)
        separator = ",\n"
    file.write("\n]\n")
    if out.output is not None:
        config = f"{os.path.splitext(out.output)[0]}.xml"
        choices = "".join(
            f"    <Choice value={quoteattr(name)}/>\n" for name in sorted(filter(None, labels))
        )
        out.open(config).write(LABEL_STUDIO_CONFIG.format(choices=choices))
        out.notes.append(f"labelling config: {config}")


LABEL_STUDIO_CONFIG: Final = """\
<View>
  <Image name="image" value="$image"/>
  <Choices name="choice" toName="image" choice="single">
{choices}  </Choices>
</View>
"""


def _image(row: Row, out: Out) -> str:
    """Return the address at which Label Studio loads a photo."""
    if storage.is_s3(row.source_ref):
        return row.source_ref
    if out.files_root is None:
        raise LeftOut(
            "a local photo: give --local-files-root, the folder that Label Studio has as "
            "LOCAL_FILES_DOCUMENT_ROOT"
        )
    name = out.below(os.path.realpath(out.files_root), row)
    return f"/data/local-files/?d={quote(os.fsencode(name))}"


def _task(row: Row, image: str) -> dict[str, Any]:
    choice = {
        "from_name": "choice",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [row.label]},
    }
    prediction: dict[str, Any] = {"model_version": row.model or None}
    if row.confidence is not None:
        prediction["score"] = row.confidence
    return {"data": {"image": image}, "predictions": [{**prediction, "result": [choice]}]}


FORMATS: Final[Mapping[str, Callable[[Iterable[Row], Out], None]]] = {
    "csv": to_csv,
    "rekognition": to_rekognition,
    "label-studio": to_label_studio,
    "hugging-face": hugging_face.write,
}

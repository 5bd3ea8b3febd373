"""Manifest rows in the formats of other tools. Rows that a format cannot hold are counted."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from alpaca_labeler import storage
from alpaca_labeler.manifest.out import ExportError, LeftOut, Out
from alpaca_labeler.photos import skip
from alpaca_labeler.table.facts import Read
from alpaca_labeler.table.row import Row

REKOGNITION_ROWS: Final = 250_000
REKOGNITION_IMAGE_BYTES: Final = 15 * 2**20
REKOGNITION_SIDE: Final = (64, 4096)
"""Pixels. https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/limits.html"""
REKOGNITION_ASPECT: Final = 20

_SIGNS: Final = "-=+@\uff1d\uff0b\uff0d\uff20"
FORMULA_STARTS: Final = (*_SIGNS, *"\t\r\n")
"""What a spreadsheet may run as a formula when it stands first in a cell, also if it is wide."""

CELL_STARTS: Final = re.compile(f"([;\t\r\n])(?=[{_SIGNS}])")
"""Where a cell begins in the middle of a text, for programs that take `;` for a separator."""

METADATA: Final = "metadata.jsonl"

BYTE_ORDER_MARK: Final = "\ufeff"
"""Excel takes a CSV file without one for Windows-1252. pandas and DuckDB skip it."""

COLUMNS: Final[Mapping[str, Callable[[Row, Read], object]]] = {
    "source-ref": lambda row, _: row.source_ref,
    "label": lambda row, _: row.label,
    "confidence": lambda row, _: row.confidence,
    "probability": lambda row, _: row.probability,
    "needs-review": lambda row, _: "yes" if row.needs_review else "no",
    "human-annotated": lambda row, _: "yes" if row.decision else "no",
    "model-version": lambda row, _: row.model,
    "creation-date": lambda row, read: (row.decision or read).at.removesuffix("Z"),
    "width": lambda _, read: read.width,
    "height": lambda _, read: read.height,
    "size": lambda _, read: read.size,
    "taken": lambda _, read: read.taken,
    "camera": lambda _, read: read.camera,
    "folder": lambda row, _: row.source_ref.rpartition("/")[0],
}


def to_csv(rows: Iterable[Row], out: Out) -> None:
    """Write a table with a header; text that a spreadsheet would run gets an apostrophe."""
    file = out.open()
    if out.output is not None:
        file.write(BYTE_ORDER_MARK)
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for row, read in out.taken(rows, lambda row: row.read or Read()):
        writer.writerow([_plain(cell(row, read)) for cell in COLUMNS.values()])


def _plain(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = CELL_STARTS.sub(r"\1'", value)
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def to_rekognition(rows: Iterable[Row], out: Out) -> None:
    """Write a strict manifest: documented keys only, one bucket, within the service's limits."""
    file = out.open()
    bucket: list[str] = []

    def line_of(row: Row) -> str:
        _check_for_rekognition(row)
        found, _ = storage.split_s3(row.source_ref)
        line = json.dumps({"source-ref": row.source_ref, **row.ground_truth()}) + "\n"
        if found != (bucket or [found])[0]:
            raise LeftOut(f"not in the first row's bucket, {bucket[0]}: one export has one bucket")
        if out.written == REKOGNITION_ROWS:  # which are far below its other limit, 1 GB
            raise LeftOut(f"over {REKOGNITION_ROWS:,} rows in one file")
        bucket[:] = [found]
        return line

    for _, line in out.taken(rows, line_of):
        file.write(line)


def _check_for_rekognition(row: Row) -> None:
    if not re.match("s3://[^/]", row.source_ref):
        raise LeftOut("not in S3: Rekognition reads photos from a bucket, so label them there")
    if not row.source_ref.lower().endswith((".jpg", ".jpeg", ".png")):
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

    Beside them, in NAME.xml, goes the labelling config with those names and all labels. Local
    photos are addressed from the folder of the tasks: it must be LOCAL_FILES_DOCUMENT_ROOT.
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
    return f"/data/local-files/?d={quote(os.fsencode(out.below(row)))}"


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


def to_hugging_face(rows: Iterable[Row], out: Out) -> None:
    """Write `metadata.jsonl`, which `datasets` reads in the photos' folder or in one around it.

    As soon as any name has a word like train or test in it, `datasets` reads nothing else, unless
    it is given files. Raises `ExportError` if it would read another such file too.
    """
    if out.output is not None and os.path.basename(out.output) != METADATA:
        raise ExportError(f"{out.output}: datasets reads no other name than {METADATA}")
    for path in Path(out.folder).rglob(METADATA):
        if path.parent != Path(out.folder):
            raise ExportError(f"{path}: datasets would read this file too; remove it")
    file = out.open()
    for row, name in out.taken(rows, lambda row: _imagefolder_name(row, out)):
        entry = {"file_name": name, "label": row.label, "confidence": row.confidence}
        file.write(json.dumps(entry) + "\n")
    where = f'data_dir={json.dumps(out.folder, ensure_ascii=False)}, data_files={{"train": ["**"]}}'
    out.notes.append(f'read them with load_dataset("imagefolder", {where})')


def _imagefolder_name(row: Row, out: Out) -> str:
    """Return a photo's name in the folder, as datasets finds and opens it."""
    if storage.is_s3(row.source_ref):
        raise LeftOut("in S3: an imagefolder is of files, so download them and label them there")
    name = out.below(row)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise LeftOut("a name that is not UTF-8 text") from None
    if "\\" in name:
        raise LeftOut("a name with a backslash, which datasets takes for a folder")
    path = storage.to_path(out.place(row.source_ref))
    if not os.path.isfile(path):
        raise LeftOut("no longer there")
    try:
        with open(path, "rb", buffering=0) as file:
            start = file.read(skip.SNIFFED_BYTES)
    except OSError:
        raise LeftOut("not readable") from None
    if skip.is_heic(start):
        raise LeftOut("HEIC, which datasets does not open: convert it to JPEG")
    return name


FORMATS: Final[Mapping[str, Callable[[Iterable[Row], Out], None]]] = {
    "csv": to_csv,
    "rekognition": to_rekognition,
    "label-studio": to_label_studio,
    "hugging-face": to_hugging_face,
}

"""Manifest rows in the formats of other tools. Rows that a format cannot hold are counted."""

from __future__ import annotations

import csv
import json
import os
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from alpaca_labeler import storage
from alpaca_labeler.manifest import hugging_face
from alpaca_labeler.manifest.out import LeftOut
from alpaca_labeler.table import manifest_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from alpaca_labeler.manifest.out import Out
    from alpaca_labeler.table.manifest_row import Row

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

FORMULA_STARTS: Final = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")
"""What a spreadsheet may run as a formula when it stands first in a cell, also if it is wide."""

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
    for _, facts in out.taken(rows, _facts):
        writer.writerow(_cell(facts.get(name)) for name in COLUMNS)


def _facts(row: Row) -> dict[str, Any]:
    found = manifest_row.block(row, "labeler") | manifest_row.metadata(row)
    return found | {"source-ref": row["source-ref"], "label": manifest_row.label(row)}


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def to_rekognition(rows: Iterable[Row], out: Out) -> None:
    """Write a strict manifest: documented keys only, one bucket, within the service's limits."""
    file = out.open()
    bucket: list[str] = []
    size = 0

    def line_of(row: Row) -> str:
        _check_for_rekognition(row)
        found, _ = storage.split_s3(row["source-ref"])
        line = json.dumps(_strict(row)) + "\n"
        if found != (bucket or [found])[0]:
            raise LeftOut(f"not in the first row's bucket, {bucket[0]}: one export has one bucket")
        if out.written == REKOGNITION_ROWS or size + len(line) > REKOGNITION_FILE_BYTES:
            raise LeftOut(f"over {REKOGNITION_ROWS:,} rows or 1 GB in one file")
        bucket[:] = [found]
        return line

    for _, line in out.taken(rows, line_of):
        file.write(line)
        size += len(line)


def _strict(row: Row) -> Row:
    name = f"{manifest_row.attribute(row)}"
    facts = manifest_row.metadata(row)
    known = {key: facts[key] for key in facts if key in METADATA}
    return {"source-ref": row["source-ref"], name: row.get(name), f"{name}-metadata": known}


def _check_for_rekognition(row: Row) -> None:
    source_ref: str = row["source-ref"]
    if not re.match("s3://[^/]", source_ref):
        raise LeftOut("not in S3: Rekognition reads photos from a bucket, so label them there")
    if not source_ref.lower().endswith(REKOGNITION_SUFFIXES):
        raise LeftOut("neither JPEG nor PNG")
    if manifest_row.number(row.get(f"{manifest_row.attribute(row)}")) is None:
        raise LeftOut("without a class number")
    labeler = manifest_row.block(row, "labeler")
    size = labeler.get("size")
    sides = [side for side in map(labeler.get, ("width", "height")) if isinstance(side, int)]
    if isinstance(size, int) and size > REKOGNITION_IMAGE_BYTES:
        raise LeftOut("over 15 MB")
    if sides:
        if not REKOGNITION_SIDE[0] <= min(sides) <= max(sides) <= REKOGNITION_SIDE[1]:
            raise LeftOut("a side under 64 or over 4,096 pixels")
        if max(sides) > REKOGNITION_ASPECT * min(sides):
            raise LeftOut("longer than 20 times its width")


def to_label_studio(rows: Iterable[Row], out: Out) -> None:
    """Write Label Studio tasks with the labels as predictions (`choice` on `image`).

    Beside them, in NAME.xml, goes the labelling config with those names and all labels.
    """
    file = out.open()
    labels: set[str] = set()
    separator = "[\n"
    for row, image in out.taken(rows, lambda row: _image(row, out)):
        labels |= {name for name in _names(row) if isinstance(name, str)}
        file.write(separator)
        json.dump(_task(row, image), file)
        separator = ",\n"
    file.write("\n]\n")
    if out.output is not None:
        config = f"{os.path.splitext(out.output)[0]}.xml"
        choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in sorted(labels))
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
    source_ref: str = row["source-ref"]
    if storage.is_s3(source_ref):
        return source_ref
    if out.files_root is None:
        raise LeftOut(
            "a local photo: give --local-files-root, the folder that Label Studio has as "
            "LOCAL_FILES_DOCUMENT_ROOT"
        )
    name = out.below(os.path.realpath(out.files_root), row)
    return f"/data/local-files/?d={quote(os.fsencode(name))}"


def _names(row: Row) -> tuple[object, object]:
    return manifest_row.label(row), manifest_row.block(row, "labeler").get("model-class-name")


def _task(row: Row, image: str) -> dict[str, Any]:
    choice = {
        "from_name": "choice",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [manifest_row.label(row)]},
    }
    prediction: dict[str, Any] = {"model_version": manifest_row.model_version(row)}
    if (score := manifest_row.confidence(row)) is not None:
        prediction["score"] = score
    return {"data": {"image": image}, "predictions": [{**prediction, "result": [choice]}]}


FORMATS: Final[Mapping[str, Callable[[Iterable[Row], Out], None]]] = {
    "csv": to_csv,
    "rekognition": to_rekognition,
    "label-studio": to_label_studio,
    "hugging-face": hugging_face.write,
}

"""Rows as a page shows them: plain text, from rows that may hold anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from alpaca_labeler.console import printable
from alpaca_labeler.handler import manifest_row
from alpaca_labeler.review.index import folder, label_name, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from alpaca_labeler.handler.manifest_row import Row
    from alpaca_labeler.review.index import Names

MAX_CHOICES: Final = 200
"""Folders, models or labels to choose from: those with the most rows; search finds the others."""
MAX_TEXT: Final = 2000
"""Characters that are shown of one text."""
MAX_FACTS: Final = 200


def counted(names: Names, column: npt.NDArray[np.int32]) -> list[dict[str, Any]]:
    """Return what there is to choose from: {value, text, rows}, by name."""
    counts = np.bincount(column[column >= 0], minlength=len(names)).tolist()
    found = sorted(zip(names, counts, strict=True), key=lambda each: -each[1])[:MAX_CHOICES]
    return [
        {"value": name, "text": text(name) or "(none)", "rows": rows}
        for name, rows in sorted(found)
        if rows
    ]


def tile(row: Row) -> dict[str, Any]:
    """Return what a row's tile says."""
    name: str = row["source-ref"]
    where = folder(name)
    facts, labeler = manifest_row.metadata(row), manifest_row.block(row, "labeler")
    failed = manifest_row.is_failure(row)
    reason = manifest_row.block(row, "failure")
    return {
        "name": text(name[len(where) :]) or text(name),
        "folder": text(where),
        "failed": failed,
        "reason": f"{text(reason.get('code'))}: {text(reason.get('message'))}" if failed else "",
        "label": "" if failed else text(label_name(facts)),
        "confidence": None if failed else number(facts.get("confidence")),
        "probability": number(labeler.get("probability")),
        "threshold": number(labeler.get("threshold")),
        "review": not failed and labeler.get("needs-review") is True,
        "human": not failed and manifest_row.is_human(row),
    }


def word(said: Row | None) -> dict[str, Any]:
    """Return what a person said of a photo, and who."""
    if said is None:
        return {"given": "", "by": ""}
    labeler = manifest_row.block(said, "labeler")
    return {
        "given": text(label_name(manifest_row.metadata(said))),
        "by": text(labeler.get("annotator", "")),
    }


def facts(row: Row) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of what a row holds, nested objects one after the other."""
    for count, (path, value) in enumerate(_flat(row, "")):
        if count == MAX_FACTS:
            yield "...", "and more"
            return
        yield text(path), text(value)


def _flat(value: object, path: str, depth: int = 0) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and depth < 4:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key, depth + 1)
    else:
        yield path, value


def text(value: object) -> str:
    """Return a value as text that shows what it is and steers nothing."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    whole = value if isinstance(value, str) else repr(value)
    return printable(whole[:MAX_TEXT]) + ("..." if len(whole) > MAX_TEXT else "")

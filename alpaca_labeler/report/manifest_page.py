"""The content of `alpaca report`: figures, charts and photos, for `pages/manifest.html`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from alpaca_labeler.report import page
from alpaca_labeler.report.page import NBSP, SERIES, percent
from alpaca_labeler.report.thumbnails import Thumbnail
from alpaca_labeler.table.counts import Counts, Group
from alpaca_labeler.table.facts import Read
from alpaca_labeler.table.row import Row

SHOWN: Final = 12
"""Reasons on the page: the most common."""

SHOWN_LABELS: Final = 4
"""Labels that are counted separately in the first line."""

SHOWN_FOLDERS: Final = 20
"""Folders on the page: those with the most photos."""

LEAST_CERTAIN: Final = "The labels nearest to the threshold, the nearest first. Review these first."

Sheet = tuple[Sequence[Row], Sequence[Thumbnail]]
"""Rows and their pictures."""


def render(counts: Counts, name: str, made: datetime, least_certain: Sheet, *samples: Sheet) -> str:
    """Return the report as one self-contained HTML page, for `encoding="utf-8"`.

    `name` says which manifest it is, `made` is when, in UTC. `samples` are of the photos with label
    1 and of the others.
    """
    labels = sorted(counts.labels.items(), key=lambda item: (item[0][0] != 1, -item[1], item[0]))
    of_positive = sum(count for (index, _), count in labels if index == 1)
    of_each = of_positive, counts.labels.total() - of_positive
    positive = next((name for (index, name), _ in labels if index == 1), "label 1")
    others = [name for (index, name), _ in labels if index != 1]
    names = positive, others[0] if len(others) == 1 else "other labels"
    shown = [(name, count) for (_, name), count in labels[:SHOWN_LABELS]]
    if more := sum(count for _, count in labels[SHOWN_LABELS:]):
        shown.append(("more labels", more))
    values = {
        "name": name,
        "command": f"alpaca review {shlex.quote(name)}",
        "made": f"{made:%Y-%m-%d %H:%M} UTC",
        "counts": counts,
        "names": names,
        "labels": shown,
        "bars": _bars(counts.scores, names) if any(map(any, counts.scores)) else [],
        "band": counts.band if counts.band[0] < counts.band[1] else None,
        "threshold": next((value for value, _ in counts.thresholds.most_common(1)), None),
        "folders": _folders(counts.folders),
        "least_certain": ("least", "Least certain", LEAST_CERTAIN, _photos(*least_certain)),
        "samples": [
            (id_, f"Random sample: {kind}", f"{len(sample[0]):,} of {count:,}.", _photos(*sample))
            for id_, sample, kind, count in zip(SERIES, samples, names, of_each, strict=True)
        ],
        "reasons": sorted(counts.reasons.items(), key=lambda item: -item[1].count)[:SHOWN],
    }
    return page.render("manifest.html", values)


def _bars(stacks: Sequence[Sequence[int]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the bars of a histogram; `stacks` are (label 1, others) per bin.

    A bar is as high as the square root of its sum, so that one photo can be seen, and is divided
    in proportion: (style, height) of its parts, in percent of the plot.
    """
    most, width, bars = max(map(sum, stacks)), 100 / len(stacks), []
    for index, stack in enumerate(stacks):
        said = ", ".join(f"{count:,} {name}" for count, name in zip(stack, names, strict=True))
        total = sum(stack)
        unit = 100 * math.sqrt(total / most) / max(total, 1)
        parts = zip(SERIES, (round(unit * count, 3) for count in stack), strict=True)
        place = f"{index * width:g} to {(index + 1) * width:g}{NBSP}%"
        bars.append({"title": f"{place}: {said}", "total": total, "parts": list(parts)})
    return bars


def _folders(folders: dict[str, Group]) -> list[list[tuple[str, str]]]:
    """Return the rows of a table of the largest folders, by name."""
    largest = sorted(folders, key=lambda name: (-sum(folders[name][:3]), name))
    rows = [(name or ".", folders[name]) for name in sorted(largest[:SHOWN_FOLDERS])]
    if others := [folders[name] for name in largest[SHOWN_FOLDERS:]]:
        sums = [sum(each) for each in zip(*others, strict=True)]
        rows.append((f"{len(others):,} more folders", sums))
    return [
        [(name, ""), *((f"{count:,}", "") for count in (sum(group[:3]), *group))]
        for name, group in rows
    ]


def _photos(rows: Sequence[Row], pictures: Sequence[Thumbnail]) -> list[dict[str, Any]]:
    return [
        {
            "name": row.source_ref,
            "alt": f"{row.source_ref}: {row.label}",
            "label": row.label,
            "style": SERIES[row.index != 1],
            "certainty": _certainty(row),
            "about": _about(row.read or Read()),
            "review": row.needs_review,
            "uri": picture.uri,
            "problem": picture.problem,
        }
        for row, picture in zip(rows, pictures, strict=True)
    ]


def _certainty(row: Row) -> str:
    if row.decision:
        return "person"
    return "?" if row.confidence is None else percent(row.confidence)


def _about(read: Read) -> str:
    """Return when and with what a photo was taken, and its size in pixels, as far as known."""
    size = f"{read.width}{NBSP}x{NBSP}{read.height}" if read.width and read.height else ""
    return ", ".join(filter(None, [(read.taken or "")[:10], read.camera, size]))

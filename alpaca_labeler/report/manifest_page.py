"""The content of `alpaca report`: figures, charts and photos, for `pages/manifest.html`."""

from __future__ import annotations

import os.path
import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from alpaca_labeler.report import charts, page
from alpaca_labeler.report.charts import SERIES, percent
from alpaca_labeler.report.thumbnails import Thumbnail
from alpaca_labeler.table.counts import Counts, Group
from alpaca_labeler.table.row import Row

SHOWN: Final = 12
"""Reasons on the page: the most common."""

SHOWN_LABELS: Final = 4
"""Labels with a tile of their own."""

SHOWN_FOLDERS: Final = 100
"""Folders on the page: those with the most photos."""

LEAST_CERTAIN: Final = "The labels nearest to the threshold, the nearest first. Review these first."

Sheet = tuple[Sequence[Row], Sequence[Thumbnail] | None]
"""Rows and their pictures; None if pictures are not wanted."""


def render(counts: Counts, name: str, made: datetime, least_certain: Sheet, *samples: Sheet) -> str:
    """Return the report as one self-contained HTML page, for `encoding="utf-8"`.

    `name` says which manifest it is, `made` is when, in UTC. `samples` are of the photos with label
    1 and of the others.
    """
    labels = sorted(counts.labels.items(), key=lambda item: (item[0][0] != 1, -item[1], item[0]))
    labelled = counts.labels.total()
    of_positive = sum(count for (index, _), count in labels if index == 1)
    positive = next((name for (index, name), _ in labels if index == 1), "label 1")
    others = [name for (index, name), _ in labels if index != 1]
    names = positive, others[0] if len(others) == 1 else "other labels", "failed"
    shown = [(name, count) for (_, name), count in labels[:SHOWN_LABELS]]
    if more := sum(count for _, count in labels[SHOWN_LABELS:]):
        shown.append(("more labels", more))
    above, folders = _folders(counts.folders)
    sheets = [("least", "Least certain", LEAST_CERTAIN, _photos(least_certain))]
    for sample, kind, count in zip(
        samples, names, (of_positive, labelled - of_positive), strict=False
    ):
        lead = f"{len(sample[0]):,} of {count:,}, chosen at random."
        sheets.append((f"sample-{len(sheets)}", f"Random sample: {kind}", lead, _photos(sample)))
    values = {
        "name": name,
        "command": f"alpaca review {shlex.quote(name)}",
        "made": f"{made:%Y-%m-%d %H:%M} UTC",
        "counts": counts,
        "names": names,
        "labels": shown,
        "figures": _figures(counts, shown),
        "scores": _scores(counts, names),
        "parent": above,
        "folders": folders,
        "sheets": sheets,
        "pictures": least_certain[1] is not None,
        "reasons": sorted(counts.reasons.items(), key=lambda item: -item[1].count)[:SHOWN],
    }
    return page.render("manifest.html", values)


def _figures(counts: Counts, labels: Sequence[tuple[str, int]]) -> list[tuple[str, str, str, str]]:
    labelled = counts.labels.total()
    tiles = [
        *((name, count, f"{percent(count / labelled)} of the labels") for name, count in labels),
        ("Needs review", counts.review, "in the review band, not yet seen by a person"),
        ("By people", counts.progress.decided, f"{counts.progress.changed:,} of them changed"),
        ("Failed", counts.failed, "could not be labelled"),
    ]
    if counts.unlabelled:
        tiles.append(("Without a label", counts.unlabelled, "rows with no label and no failure"))
    return [(name, f"{count:,}", "", text) for name, count, text in tiles]


def _scores(counts: Counts, names: Sequence[str]) -> dict[str, object] | None:
    if not any(map(any, counts.scores)):
        return None
    thresholds = [value for value, _ in counts.thresholds.most_common(3)]
    return charts.probabilities(counts.scores, names[:2], thresholds, counts.band)


def _folders(folders: dict[str, Group]) -> tuple[str, list[tuple[str, ...]]]:
    """Return the folder that holds all, and the rows of a table of its sub-folders, by name."""
    largest = sorted(folders, key=lambda name: (-sum(folders[name][:3]), name))
    shown, others = sorted(largest[:SHOWN_FOLDERS]), largest[SHOWN_FOLDERS:]
    # The slashes at the ends make a common beginning a common folder.
    above = os.path.commonprefix([f"{name}/" for name in shown]).rpartition("/")[0]  # noqa: RUF071
    rows = [(name[len(above) :].lstrip("/") or ".", folders[name]) for name in shown]
    if others:
        sums = [sum(each) for each in zip(*(folders[name] for name in others), strict=True)]
        rows.append((f"{len(others):,} more folders", sums))
    return above, [
        (name, f"{sum(group[:3]):,}", *map("{:,}".format, group)) for name, group in rows
    ]


def _photos(sheet: Sheet) -> list[dict[str, Any]]:
    rows, pictures = sheet
    found: Sequence[Thumbnail | None] = pictures or [None] * len(rows)
    return [
        {
            "caption": (row.source_ref, f"{row.label}, {_certainty(row)}"),
            "name": row.source_ref,
            "alt": f"{row.source_ref}: {row.label}",
            "label": row.label,
            "style": SERIES[row.index != 1],
            "certainty": _certainty(row),
            "review": row.needs_review,
            "uri": picture.uri if picture else "",
            "problem": picture.problem if picture else "",
        }
        for row, picture in zip(rows, found, strict=True)
    ]


def _certainty(row: Row) -> str:
    if row.decision:
        return "person"
    return "?" if row.confidence is None else percent(row.confidence)

"""What `alpaca report` shows of a table: figures, charts and photos, for `pages/manifest.html`."""

from __future__ import annotations

import os.path
import shlex
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from alpaca_labeler.handler import manifest_row
from alpaca_labeler.report import charts, page
from alpaca_labeler.report.charts import NBSP, percent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alpaca_labeler.handler.manifest_row import Row
    from alpaca_labeler.report.thumbnails import Thumbnail
    from alpaca_labeler.table.counts import Counts, Group

SHOWN: Final = 12
"""Models and reasons on the page: the commonest."""

SHOWN_LABELS: Final = 4
"""Labels with a tile of their own."""

SHOWN_FOLDERS: Final = 100
"""Where folders are more, their parents are shown."""

BARS: Final = 40
"""Most bars of a chart of days."""

DATES: Final = 3
"""Dates that fit below a chart on a phone."""

JUDGED: Final = 50
"""Photos with a person's label from which on the page measures the model on them."""

SERIES: Final = ("label-1", "label-0", "bad")
"""Styles of label 1, the others, and failures."""

LEAST_CERTAIN: Final = "The labels nearest to the threshold, the nearest first. Look here first."

Sheet = tuple["Sequence[Row]", "Sequence[Thumbnail] | None"]
"""Rows and their pictures; None if pictures are not wanted."""


def render(counts: Counts, name: str, made: datetime, least_certain: Sheet, *samples: Sheet) -> str:
    """Return the report as one self-contained HTML page, for `encoding="utf-8"`.

    `name` says which manifest it is, `made` is when, in UTC. `samples` are of the photos with label
    1 and of the others.
    """
    labels = sorted(counts.labels.items(), key=lambda item: (item[0][0] != 1, -item[1], item[0]))
    labelled = counts.labels.total()
    positive = next((name for (index, name), _ in labels if index == 1), "label 1")
    others = [name for (index, name), _ in labels if index != 1]
    names = positive, others[0] if len(others) == 1 else "other labels", "failed"
    of_class = [
        sum(count for (index, _), count in labels if (index == 1) == positive)
        for positive in (True, False)
    ]
    shown = [(name, count, SERIES[index != 1]) for (index, name), count in labels[:SHOWN_LABELS]]
    more = labelled - sum(count for _, count, _ in shown)
    above, folders = _folders(counts.folders)
    sampled = [
        (
            f"sample-{place}",
            f"Random sample: {names[place]}",
            f"{len(sheet[0]):,} of {count:,}, chosen at random.",
            _sheet(sheet),
        )
        for place, (sheet, count) in enumerate(zip(samples, of_class, strict=True))
    ]
    values = {
        "name": name,
        "command": f"alpaca review {shlex.quote(name)}",
        "made": f"{made:%Y-%m-%d %H:%M} UTC",
        "counts": counts,
        "names": names,
        "labels": shown,
        "more_labels": more,
        "figures": _figures(counts, shown, more),
        "judged": _judged(counts, names),
        "scores": _scores(counts, names),
        "days": _days(counts, names),
        "parent": above,
        "folders": folders,
        "sheets": [("least", "Least certain", LEAST_CERTAIN, _sheet(least_certain)), *sampled],
        "pictures": least_certain[1] is not None,
        "reasons": sorted(counts.reasons.items(), key=lambda item: (-item[1].count, item[0])),
        "models": [
            (version, f"{count:,}", percent(count / labelled))
            for version, count in sorted(
                counts.models.items(), key=lambda item: (-item[1], item[0])
            )
        ],
        "limit": SHOWN,
    }
    return page.render("manifest.html", values)


def _figures(
    counts: Counts, labels: Sequence[tuple[str, int, str]], more: int
) -> list[tuple[str, str, str, str]]:
    labelled = counts.labels.total()
    tiles = [
        (name, count, f"{percent(count / labelled)} of the labels") for name, count, _ in labels
    ]
    if more:
        tiles.append(("Other labels", more, f"{percent(more / labelled)} of the labels"))
    by = "labelled or confirmed by a person"
    if judged := counts.judged.total():
        by = f"{counts.changed():,} of {judged:,} changed"
    tiles += [
        ("Needs review", counts.review, "in the review band, not yet seen by a person"),
        ("By people", counts.people, by),
        ("Failed", counts.failed, "could not be labelled"),
    ]
    if counts.unlabelled:
        tiles.append(("Without a label", counts.unlabelled, "rows with no label and no failure"))
    return [(name, f"{count:,}", "", text) for name, count, text in tiles]


def _judged(counts: Counts, names: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Return tiles that measure the model on people's labels, if they are enough."""
    total = counts.judged.total()
    if total < JUDGED:
        return []
    shares = [("Accuracy", total - counts.changed(), total, "of all are labelled right")]
    for truth, name in ((True, names[0]), (False, names[1])):
        if of_class := counts.judged[truth, True] + counts.judged[truth, False]:
            meaning = f"of those that are “{name}” are found"
            shares.append((f"Recall of {name}", counts.judged[truth, truth], of_class, meaning))
    return [
        (
            name,
            percent(right / all_),
            charts.range_text(*charts.wilson(right, all_)),
            f"{right:,} of {all_:,}: {meaning}",
        )
        for name, right, all_, meaning in shares
    ]


def _scores(counts: Counts, names: Sequence[str]) -> dict[str, Any] | None:
    total = sum(map(sum, counts.scores))
    if not total:
        return None
    y = charts.root_axis(max(map(sum, counts.scores)))
    bins = len(counts.scores)
    titles = [
        f"{100 * place // bins} to {100 * (place + 1) // bins}{NBSP}%: {sum(stack):,}"
        for place, stack in enumerate(counts.scores)
    ]
    low, high = counts.band
    return {
        "x": charts.PROBABILITY,
        "y": y,
        "bars": charts.stacked(counts.scores, SERIES[:2], titles, y),
        "thresholds": [value for value, _ in counts.thresholds.most_common(3)],
        "band": (low, high) if low <= high else None,
        "label": f"Histogram of {total:,} probabilities of {names[0]}",
    }


def _days(counts: Counts, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the chart of days. One day for all tells when they were copied, and not more."""
    if len(counts.days) < 2:
        return None
    days = {date.fromisoformat(day).toordinal(): group for day, group in counts.days.items()}
    first = min(days)
    step = -(-(max(days) - first + 1) // BARS)
    stacks = [[0, 0, 0] for _ in range((max(days) - first) // step + 1)]
    for day, group in days.items():
        stack = stacks[(day - first) // step]
        for series in range(3):
            stack[series] += group[series]
    starts = [str(date.fromordinal(first + place * step)) for place in range(len(stacks))]
    every = -(-len(starts) // DATES)
    most = max(map(sum, stacks))
    y = charts.nice_axis(0, max(most, 4), charts.short_count)
    rows = [
        (start, *map("{:,}".format, stack)) for start, stack in zip(starts, stacks, strict=True)
    ]
    return {
        "step": step,
        "x": charts.Axis(
            0,
            len(stacks),
            tuple(place + 0.5 for place in range(0, len(stacks), every)),
            lambda place: starts[int(place)],
        ),
        "y": y,
        "bars": charts.stacked(
            stacks,
            SERIES,
            [
                f"{row[0]}: {', '.join(map(' '.join, zip(row[1:], names, strict=True)))}"
                for row in rows
            ],
            y,
        ),
        "keys": [
            (style, name)
            for place, (style, name) in enumerate(zip(SERIES, names, strict=True))
            if any(stack[place] for stack in stacks)
        ],
        "undated": counts.rows - counts.unlabelled - sum(sum(group[:3]) for group in days.values()),
        "rows": [row for row, stack in zip(rows, stacks, strict=True) if any(stack)],
        "label": f"Photos by day, {starts[0]} to {starts[-1]}; the highest bar is {most:,}",
    }


def _folders(folders: dict[str, Group]) -> tuple[str, list[tuple[str, ...]]]:
    """Return the folder that holds all, and the rows of a table of its sub-folders, by name.

    If they are more than `SHOWN_FOLDERS`, their parents are shown, or else the largest of them.
    """
    found = folders
    depth = max((name.count("/") for name in folders), default=0)
    while len(found) > SHOWN_FOLDERS and depth:
        found = {}
        for name, group in folders.items():
            _add(found, "/".join(name.split("/")[:depth]), group)
        depth -= 1
    if len(found) == 1:
        found = folders
    largest = sorted(found, key=lambda name: (-sum(found[name][:3]), name))
    rest: dict[str, Group] = {}
    for name in largest[SHOWN_FOLDERS:]:
        _add(rest, f"{len(found) - SHOWN_FOLDERS:,} more folders", found[name])
    shown = sorted(largest[:SHOWN_FOLDERS])
    # The slashes at the ends make a common beginning a common folder.
    above = os.path.commonprefix([f"{name}/" for name in shown]).rpartition("/")[0]  # noqa: RUF071
    rows = [(name[len(above) :].lstrip("/") or ".", found[name]) for name in shown]
    return above, [
        (name, f"{sum(group[:3]):,}", *map("{:,}".format, group))
        for name, group in [*rows, *rest.items()]
    ]


def _add(groups: dict[str, Group], name: str, group: Group) -> None:
    groups[name] = [a + b for a, b in zip(groups.get(name, [0] * 4), group, strict=True)]


def _sheet(sheet: Sheet) -> list[dict[str, Any]]:
    rows, pictures = sheet
    found: Sequence[Thumbnail | None] = pictures or [None] * len(rows)
    return [
        {
            "caption": (row["source-ref"], f"{manifest_row.label(row)}, {_certainty(row)}"),
            "name": (name := row["source-ref"]),
            "alt": f"{name}: {manifest_row.label(row)}",
            "label": str(manifest_row.label(row)),
            "style": SERIES[row.get(manifest_row.attribute(row) or "") != 1],
            "certainty": _certainty(row),
            "review": manifest_row.needs_review(row),
            "uri": picture.uri if picture else "",
            "problem": picture.problem if picture else "",
        }
        for row, picture in zip(rows, found, strict=True)
    ]


def _certainty(row: Row) -> str:
    if manifest_row.is_human(row):
        return "person"
    confidence = manifest_row.confidence(row)
    return "?" if confidence is None else percent(confidence)

"""A report's page: what was counted, as HTML, in the look of the training report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from alpaca_labeler.handler import manifest_row
from alpaca_labeler.report import charts, page
from alpaca_labeler.report.charts import safe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from alpaca_labeler.handler.manifest_row import Row
    from alpaca_labeler.report.counts import Counts
    from alpaca_labeler.report.thumbnails import Thumbnail

SHOWN_LABELS: Final = 4
"""Labels with a tile of their own."""
SHOWN_MODELS: Final = 12
SHOWN_REASONS: Final = 12
TICKS: Final = 4
"""Dates that fit below a drawing on a phone."""

SERIES: Final = ("a", "b", "warm")
"""Colours of the positive label, the others, and failures."""

Sheet = tuple["Sequence[Row]", "Sequence[Thumbnail] | None"]
"""Rows and their pictures; None where pictures are not wanted."""


def render(counts: Counts, name: str, made: datetime, least_certain: Sheet, sample: Sheet) -> str:
    """Return the report as one self-contained HTML page, for `encoding="utf-8"`.

    `name` says which manifest it is, `made` is when, in UTC.
    """
    sections = [
        _figures(counts),
        _scores(counts),
        _times(counts),
        _sheet(
            "least",
            "Least certain",
            "The labels nearest to the threshold, the nearest first. Look here first.",
            least_certain,
        ),
        _sheet("sample", "Random sample", _sampled(counts, sample[0]), sample),
        _reasons(counts),
        _models(counts),
    ]
    title = f"{counts.rows:,} photo{'s' * (counts.rows != 1)}"
    header = (
        f'<header><p class="eyebrow">Label report</p><h1>{title}</h1>'
        f'<p class="lead">{_verdict(counts)}</p><ul class="facts">'
        f"<li>from <b><bdi>{safe(name)}</bdi></b></li>"
        f"<li>made <b>{made:%Y-%m-%d %H:%M} UTC</b></li></ul></header>"
    )
    return page.page(f"{title}: label report", header, sections)


def _verdict(counts: Counts) -> str:
    if not counts.rows:
        return "The manifest is empty."
    said = [f"<b>{count:,}</b> {safe(name)}" for (_, name), count in _labels(counts)[:SHOWN_LABELS]]
    if more := counts.labels.total() + counts.labels.others - _shown(counts):
        said.append(f"<b>{more:,}</b> others")
    text = f"{', '.join(said)}. " if said else ""
    if counts.review:
        text += f"<b>{counts.review:,}</b> want{'s' * (counts.review == 1)} a person's look. "
    if counts.failed:
        text += f"<b>{counts.failed:,}</b> could not be labelled."
    return text


def _labels(counts: Counts) -> list[tuple[tuple[int, str], int]]:
    """Return the labels, the positive class first, then by number."""
    return sorted(counts.labels.items(), key=lambda item: (item[0][0] != 1, -item[1], item[0]))


def _shown(counts: Counts) -> int:
    return sum(count for _, count in _labels(counts)[:SHOWN_LABELS])


# --- the figures ---------------------------------------------------------------------------------


def _figures(counts: Counts) -> str:
    labelled = counts.labels.total() + counts.labels.others
    tiles = [
        (name, count, f"{_percent(count, labelled)} of the labels")
        for (_, name), count in _labels(counts)[:SHOWN_LABELS]
    ]
    if more := labelled - _shown(counts):
        tiles.append(("Other labels", more, f"{_percent(more, labelled)} of the labels"))
    tiles += [
        ("Needs review", counts.review, "in the review band, and seen by nobody yet"),
        ("By people", counts.people, "labelled or confirmed by a person"),
        ("Failed", counts.failed, "could not be labelled"),
    ]
    if counts.unlabelled:
        tiles.append(
            ("Without a label", counts.unlabelled, "rows that are no label and no failure")
        )
    drawn = "".join(
        f'<li class="tile"><h3>{safe(name)}</h3><p class="figure">{count:,}</p><p>{text}</p></li>'
        for name, count, text in tiles
    )
    return page.section(
        "figures", "What came out", "One row a photo.", f'<ul class="tiles">{drawn}</ul>'
    )


def _scores(counts: Counts) -> str:
    most = max(map(sum, counts.scores))
    if not most:
        return ""
    positive = _positive(counts)
    x = charts.Axis(0, 1, (0, 0.25, 0.5, 0.75, 1))
    # Powers of ten, but for those so near to the ground that their text would stand on its.
    steps = [step for step in (10**power for power in range(16)) if most / 64 <= step <= most]
    y = charts.Axis(0, math.sqrt(most) * 1.08, (0, *map(math.sqrt, steps)))
    width = 1 / len(counts.scores)
    low, high = counts.band
    marks = [
        charts.stacked_bars(
            counts.scores,
            SERIES[:2],
            y,
            names=[
                f"{index * width:.2f} to {(index + 1) * width:.2f}: {sum(stack):,}"
                for index, stack in enumerate(counts.scores)
            ],
            height=math.sqrt,
        )
    ]
    keys = [page.key("a", positive), page.key("b", _negative(counts))]
    if low <= high:
        across = round(max(x.at(high) - x.at(low), 0.4), 3)
        band = f'<rect class="band" x="{x.at(low)}%" width="{across}%" y="0" height="100%"/>'
        marks.insert(0, band)
        keys.append(page.key("band", f"needs review, {low:g} to {high:g}"))
    thresholds = [value for value, _ in counts.thresholds.most_common(3)]
    for place, threshold in enumerate(thresholds):
        at = x.at(threshold)
        side, dx = ("end", -6) if at > 50 else ("start", 6)
        marks.append(f'<line class="threshold" x1="{at}%" x2="{at}%" y1="-6" y2="100%"/>')
        if place:  # the text of a second one could stand on the first one's
            continue
        marks.append(
            f'<text class="tick strong" x="{at}%" dx="{dx}" y="-6" text-anchor="{side}">'
            f"threshold {threshold:g}</text>"
        )
    return page.section(
        "scores",
        "How sure the model is",
        f"Far from the threshold is sure, on either side: “{safe(positive)}” lies to its right.",
        page.figure(
            "Probabilities",
            f"{' '.join(keys)} Counts stand on a square-root scale, so that a single photo can be "
            "seen. People's labels are not among them.",
            charts.chart(
                "".join(marks),
                label=f"Histogram of {sum(map(sum, counts.scores)):,} probabilities of {positive}; "
                f"threshold {', '.join(f'{value:g}' for value in thresholds) or 'unknown'}",
                x=x,
                y=y,
                x_title=f"Probability of “{positive}”",
                y_title="Photos",
                x_text=lambda value: f"{100 * value:.0f} %",
                y_text=lambda value: _short(round(value * value)),
            ),
        ),
    )


def _positive(counts: Counts) -> str:
    return next((name for (index, name), _ in _labels(counts) if index == 1), "label 1")


def _negative(counts: Counts) -> str:
    others = [name for (index, name), _ in _labels(counts) if index != 1]
    return others[0] if len(others) == 1 else "other labels"


def _times(counts: Counts) -> str:
    found = counts.times.bars()
    if found is None:
        return ""
    bars, names = found.bars, (_positive(counts), _negative(counts), "failed")
    most = max(sum(bar.counts) for bar in bars)
    every = -(-len(bars) // TICKS)
    x = charts.Axis(0, len(bars), tuple(place + 0.5 for place in range(0, len(bars), every)))
    y = charts.nice_axis(0, max(most, 4))
    starts = [f"{bar.start:{found.form}}" for bar in bars]
    said = [
        f"{start}: {yes:,} {names[0]}, {no:,} {names[1]}, {failed:,} {names[2]}"
        for start, (yes, no, failed) in zip(starts, (bar.counts for bar in bars), strict=True)
    ]
    keys = " ".join(
        page.key(SERIES[place], name)
        for place, name in enumerate(names)
        if any(bar.counts[place] for bar in bars)
    )
    first, last = bars[0].start, bars[-1].start
    stretch = f"{first:%Y-%m-%d}"
    if first.date() != last.date():
        stretch = f"the first bar begins on {first:%Y-%m-%d}, the last on {last:%Y-%m-%d}"
    without = f" {counts.times.undated:,} rows have no date." if counts.times.undated else ""
    table = page.table(
        "Rows by date",
        ("From", *names),
        [
            (start, *(f"{count:,}" for count in bar.counts))
            for start, bar in zip(starts, bars, strict=True)
            if any(bar.counts)
        ],
    )
    return page.section(
        "times",
        "Over time",
        f"When the rows were made, in UTC: {stretch}.{without}",
        page.figure(
            f"By {found.step}" if found.step[0].isalpha() else f"In steps of {found.step}",
            keys,
            charts.chart(
                charts.stacked_bars([bar.counts for bar in bars], SERIES, y, names=said),
                label=f"Rows by date, {len(bars)} bars, the highest {most:,}",
                x=x,
                y=y,
                x_title="",
                y_title="Photos",
                x_text=lambda place: starts[int(place)],
                y_text=lambda value: _short(round(value)),
            ),
        )
        + f'<details class="wrap"><summary>The same as a table</summary>{table}</details>',
    )


# --- sheets of photos ----------------------------------------------------------------------------


def _sampled(counts: Counts, rows: Sequence[Row]) -> str:
    labelled = counts.labels.total() + counts.labels.others
    if len(rows) == labelled:
        return "All labelled photos."
    return f"{len(rows):,} of the {labelled:,} labelled photos, drawn by lot."


def _sheet(key: str, title: str, lead: str, sheet: Sheet) -> str:
    rows, pictures = sheet
    if not rows:
        return ""
    if pictures is None:
        lines = [(f"{_sure(row)} {_label(row)}", _name(row)) for row in rows]
        return page.section(key, title, lead, page.table(title, ("Label", "Photo"), lines))
    tiles = "".join(map(_tile, rows, pictures))
    return page.section(key, title, lead, f'<ul class="mistakes">{tiles}</ul>')


def _tile(row: Row, picture: Thumbnail) -> str:
    name, label = _name(row), _label(row)
    shown = (
        f'<img class="whole" alt="{safe(name)}: {safe(label)}" src="{picture.uri}" width="320" '
        'height="320" decoding="async">'
        if picture.uri
        else f'<p class="gone">{safe(picture.problem)}</p>'
    )
    review = manifest_row.block(row, "labeler").get("needs-review") is True
    flag = ' <span class="flag">review</span>' if review and not manifest_row.is_human(row) else ""
    return (
        f'<li class="mistake">{shown}<p><b>{safe(_sure(row))}</b> {safe(label)}{flag}</p>'
        f'<p class="name few"><bdi>{safe(name)}</bdi></p></li>'
    )


def _name(row: Row) -> str:
    name: str = row["source-ref"]
    return name


def _label(row: Row) -> str:
    return str(manifest_row.metadata(row).get("class-name"))


def _sure(row: Row) -> str:
    if manifest_row.is_human(row):
        return "by a person"
    confidence = manifest_row.metadata(row).get("confidence")
    known = isinstance(confidence, int | float) and not isinstance(confidence, bool)
    return f"{confidence:.4f}" if known else "?"


# --- failures and models -------------------------------------------------------------------------


def _reasons(counts: Counts) -> str:
    if not counts.failed:
        return ""
    reasons = sorted(counts.reasons.items(), key=lambda item: (-item[1].count, item[0]))
    boxes = []
    for code, reason in reasons[:SHOWN_REASONS]:
        examples = "".join(
            f'<p>{safe(message)}</p><p class="name few"><bdi>{safe(name)}</bdi></p>'
            for name, message in reason.examples
        )
        boxes.append(
            f'<li class="tile"><h3>{safe(code)} <span>{reason.count:,}</span></h3>{examples}</li>'
        )
    more = counts.other_reasons + sum(reason.count for _, reason in reasons[SHOWN_REASONS:])
    rest = f" {more:,} failed for other reasons." if more else ""
    return page.section(
        "reasons",
        "What failed, and why",
        f"The commonest reason first, with examples.{rest}",
        f'<ul class="reasons">{"".join(boxes)}</ul>',
    )


def _models(counts: Counts) -> str:
    labelled = counts.labels.total() + counts.labels.others
    if not labelled:
        return ""
    lines = [
        (version, f"{count:,}", _percent(count, labelled))
        for version, count in sorted(counts.models.items(), key=lambda item: (-item[1], item[0]))
    ]
    table = page.table("Models", ("Version", "Labels", "Share"), lines[:SHOWN_MODELS])
    more = len(lines) - SHOWN_MODELS
    rest = f" And {more:,} more." if more > 0 else ""
    return page.section(
        "models",
        "Models",
        f"Which version labelled how many photos.{rest}",
        f'<div class="wrap">{table}</div>',
    )


def _percent(count: int, whole: int) -> str:
    return f"{100 * count / whole:.1f} %" if whole else "-"


def _short(count: int) -> str:
    """Return a count in the room that stands left of a drawing."""
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count}"

"""What training found out, as one HTML page: figures, curves, and the photos it got wrong.

The page loads nothing and runs nothing, so it can be mailed, archived and opened in ten years.
Nothing is computed here that decides a label: this shows what was measured elsewhere.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from alpaca_labeler.handler.classifier import PROBABILITY_DIGITS
from alpaca_labeler.report import charts, page, thumbnails
from alpaca_labeler.report.charts import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from alpaca_labeler.training.report import Epoch, Report

RELIABILITY_BINS: Final = 10
HISTOGRAM_BINS: Final = 20
Z95: Final = 1.96
"""Standard deviations on either side that hold 95 % of a normal distribution."""

_SHARES: Final = {"accuracy", "precision", "recall", "specificity", "balanced_accuracy"}
_PLAIN_NAMES: Final = {"auc": "AUC", "ece": "ECE", "f1": "F1"}


@dataclass(frozen=True, slots=True)
class _Decided:
    """The photos with the card's decision applied. Arrays have shape (n,)."""

    truth: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float64]
    labelled: npt.NDArray[np.bool_]
    threshold: float
    band: tuple[float, float]
    review: npt.NDArray[np.bool_]


def render(report: Report) -> str:
    """Return the report as one self-contained HTML page, for `encoding="utf-8"`."""
    card = report.card
    probabilities: npt.NDArray[np.float64]
    probabilities = np.asarray(report.probabilities, np.float64).round(PROBABILITY_DIGITS)
    threshold = _number(card.get("threshold"), 0.5)
    low, high = card.get("review_band") or (threshold, threshold)
    decided = _Decided(
        truth=np.asarray(report.truth).astype(bool),
        probabilities=probabilities,
        labelled=probabilities >= threshold,
        threshold=threshold,
        band=(float(low), float(high)),
        review=(low <= probabilities) & (probabilities <= high),
    )
    sections = [
        _figures(report),
        _curves(report.history),
        _decisions(report, decided) if len(probabilities) else "",
        _kinds(report, decided),
        _mistakes(report, decided),
        _card(card),
    ]
    return page.page(report.title, _header(report, decided), sections)


def _header(report: Report, decided: _Decided) -> str:
    card = report.card
    facts = [
        f"{name} <b>{safe(card[key])}</b>{unit}"
        for name, key, unit in (
            ("version", "version", ""),
            ("made", "created", ""),
            ("input", "input_size", " px"),
        )
        if card.get(key) is not None
    ]
    return (
        f'<header><p class="eyebrow">Model report</p><h1>{safe(report.title)}</h1>'
        f'<p class="lead">{_verdict(report, decided)}</p>'
        f'<ul class="facts">{"".join(f"<li>{fact}</li>" for fact in facts)}</ul></header>'
    )


def _verdict(report: Report, decided: _Decided) -> str:
    total = len(decided.truth)
    if not total:
        return f"Tells {safe(report.labels[1])} from {safe(report.labels[0])}."
    wrong = decided.labelled != decided.truth
    caught = int(np.sum(wrong & decided.review))
    text = f"<b>{total - int(wrong.sum()):,} of {total:,}</b> photos labelled right. "
    if review := int(decided.review.sum()):
        mistakes = "every mistake" if caught == wrong.sum() else f"{caught:,} of the mistakes"
        text += f"{review:,} would be put before a person"
        text += f", {mistakes} among them." if caught else "."
    return text


# --- the figures ---------------------------------------------------------------------------------


def _figures(report: Report) -> str:
    metrics = report.card.get("metrics")
    tiles = []
    for name, figure in metrics.items() if isinstance(metrics, dict) else ():
        meaning = _meaning(name, report.labels)
        entry = figure if isinstance(figure, dict) else {"value": figure if meaning else None}
        value = _number(entry.get("value"))
        if math.isnan(value):
            continue  # counts, tables and notes stand on the card below
        low, high = _number(entry.get("low")), _number(entry.get("high"))
        ranged = not math.isnan(low + high)
        show = _percent if name in _SHARES else _short
        tiles.append(
            f'<li class="tile"><h3>{safe(_plain(name))}</h3>'
            f'<p class="figure">{show(value)}</p>'
            + (f'<p class="note">{show(low)} to {show(high)}</p>' if ranged else "")
            + f"<p>{meaning}</p></li>"
        )
    if not tiles:
        return ""
    return page.section(
        "figures",
        "Figures",
        "Below each, where there is one, the interval in which it would likely lie on other photos "
        "of the same sort.",
        f'<ul class="tiles">{"".join(tiles)}</ul>',
    )


def _meaning(name: str, labels: tuple[str, str]) -> str:
    positive = f"“{safe(labels[1])}”"
    return {
        "accuracy": "of all photos are labelled right",
        "balanced_accuracy": "are right on average of the two classes, however many each has",
        "precision": f"of those labelled {positive} are that",
        "recall": f"of those that are {positive} are found",
        "specificity": f"of those that are “{safe(labels[0])}” are labelled so",
        "f1": "precision and recall in one, 1 at best",
        "auc": "how well the two are ordered, 1 at best",
        "log_loss": "how far probabilities are from the truth, 0 at best",
        "ece": "calibration error: stated against true share, 0 at best",
    }.get(name, "")


# --- training ------------------------------------------------------------------------------------


def _curves(history: Sequence[Epoch]) -> str:
    if not history:
        return ""
    names = [entry.phase for entry in history]
    x = charts.Axis(0.5, len(history) + 0.5, tuple(_epoch_ticks(len(history))))
    parts = []
    for title, train, validation in (
        ("Loss", [e.loss for e in history], [e.val_loss for e in history]),
        ("Accuracy", [e.accuracy for e in history], [e.val_accuracy for e in history]),
    ):
        lines = [_points(train), _points(validation)]
        values = [value for line in lines for _, value in line]
        if not values:
            continue
        share = title == "Accuracy"
        y = charts.nice_axis(min(values) if share else 0, 1 if share else max(values))
        last = ", ".join(
            f"{who} ends at {line[-1][1]:.3f}"
            for who, line in zip(("training", "validation"), lines, strict=True)
            if line
        )
        body = charts.phases(names, x) + "".join(
            charts.curve(line, x, y, style) for line, style in zip(lines, "ba", strict=True) if line
        )
        drawn = charts.chart(
            body,
            label=f"{title} over {len(history)} epochs; {last}",
            x=x,
            y=y,
            x_title="Epoch",
            y_text=_whole_percent if share else "{:g}".format,
        )
        keys = [
            page.key(style, who)
            for style, who, line in zip("ba", ("training", "validation"), lines, strict=True)
            if line
        ]
        parts.append(page.figure(title, " ".join(keys), drawn))
    rows = [
        (
            f"{number}",
            entry.phase,
            *(
                _short(_number(value))
                for value in (entry.loss, entry.val_loss, entry.accuracy, entry.val_accuracy)
            ),
        )
        for number, entry in enumerate(history, 1)
    ]
    head = ("Epoch", "Phase", "Loss", "Val. loss", "Right", "Val. right")
    table = page.table("Epochs", head, rows)
    return page.section(
        "training",
        "Training",
        f"{_listed(names)}. The weights kept are not always those of the last epoch.",
        f'<div class="pair">{"".join(parts)}</div>'
        f"<details><summary>All epochs as a table</summary>{table}</details>",
    )


def _epoch_ticks(count: int) -> Iterator[float]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 10**6) if count / s <= 8)
    yield from (number for number in range(1, count + 1) if step == 1 or number % step == 0)


def _points(values: Sequence[float | None]) -> list[tuple[float, float]]:
    return [
        (float(number), value)
        for number, value in enumerate(map(_number, values), 1)
        if math.isfinite(value)
    ]


def _listed(names: Sequence[str]) -> str:
    starts = [i for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
    return "; ".join(
        f"{number}. {safe(names[start])}, {end - start} epoch{'s' * (end - start > 1)}"
        for number, (start, end) in enumerate(
            zip(starts, [*starts[1:], len(names)], strict=True), 1
        )
    )


# --- decisions -----------------------------------------------------------------------------------


def _decisions(report: Report, decided: _Decided) -> str:
    return page.section(
        "decisions",
        "Decisions",
        f"Labelled “{safe(report.labels[1])}” from a probability of {decided.threshold:g} up.",
        f'<div class="pair">{_confusion(report, decided)}{_reliability(report, decided)}</div>'
        f"{_histogram(report, decided)}",
    )


def _confusion(report: Report, decided: _Decided) -> str:
    rows = []
    for truth in (1, 0):
        of_truth = decided.truth == truth
        total = int(of_truth.sum())
        cells = []
        for labelled in (1, 0):
            count = int(np.sum(of_truth & (decided.labelled == labelled)))
            share = count / total if total else 0.0
            style = "right" if truth == labelled else "wrong"
            cells.append(
                f'<td class="{style}" style="--share:{share:.3f}"><b>{count:,}</b>'
                f"<span>{_percent(share)}</span></td>"
            )
        rows.append(
            f'<tr><th scope="row">{safe(report.labels[truth])}<span>{total:,}</span></th>'
            f"{''.join(cells)}</tr>"
        )
    columns = "".join(f'<th scope="col">{safe(report.labels[i])}</th>' for i in (1, 0))
    return page.figure(
        "Confusion matrix",
        "Rows: what a photo shows. Columns: what it was labelled.",
        '<table class="confusion"><caption class="unseen">Confusion matrix: photos by true label '
        f"(rows) and given label (columns)</caption><thead><tr><td></td>{columns}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>",
    )


def _reliability(report: Report, decided: _Decided) -> str:
    total = len(decided.truth)
    bins = np.minimum((decided.probabilities * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    axis = charts.Axis(0, 1, (0, 0.25, 0.5, 0.75, 1))
    marks = ['<line class="diagonal" x1="0" x2="100%" y1="100%" y2="0"/>']
    error = 0.0
    for index in range(RELIABILITY_BINS):
        inside = bins == index
        count = int(inside.sum())
        if not count:
            continue
        stated = float(decided.probabilities[inside].mean())
        found = float(decided.truth[inside].mean())
        error += count / total * abs(stated - found)
        low, high = _wilson(found, count)
        left = axis.at(stated)
        marks.append(
            f'<line class="range a" x1="{left}%" x2="{left}%" y1="{100 - axis.at(low)}%" '
            f'y2="{100 - axis.at(high)}%"/>'
            + charts.dot(left, 100 - axis.at(found), 3 + 6 * math.sqrt(count / total), "a")
        )
    stated_error = (report.card.get("metrics") or {}).get("ece")
    if isinstance(stated_error, dict):
        stated_error = stated_error.get("value")
    shown = _short(_number(stated_error, error))
    return page.figure(
        "Reliability",
        f"On the line, a probability means what it says. Expected calibration error {shown}. "
        "The larger the dot, the more photos; bars are 95 % intervals.",
        charts.chart(
            "".join(marks),
            label=f"Reliability diagram; expected calibration error {shown}",
            x=axis,
            y=axis,
            x_title="Probability stated",
            y_title=f"Share that is “{report.labels[1]}”",
            x_text=_whole_percent,
            y_text=_whole_percent,
            square=True,
        ),
    )


def _histogram(report: Report, decided: _Decided) -> str:
    counts = [
        np.histogram(decided.probabilities[decided.truth == truth], HISTOGRAM_BINS, (0, 1))[0]
        for truth in (1, 0)
    ]
    most = max(1, *(int(count.max()) for count in counts))
    reach = math.sqrt(most) * 1.08
    steps = [step for step in (1, 5, 20, 100, 500, 2000, 10**4, 10**5) if step <= most][-3:]
    ticks = [sign * math.sqrt(step) for step in steps for sign in (1, -1)]
    x = charts.Axis(0, 1, (0, 0.25, 0.5, 0.75, 1))
    y = charts.Axis(-reach, reach, (*ticks, 0.0))
    low, high = decided.band
    at = x.at(decided.threshold)
    side, dx = ("end", -6) if at > 50 else ("start", 6)
    body = (
        f'<rect class="band" x="{x.at(low)}%" width="{round(x.at(high) - x.at(low), 3)}%" '
        'y="0" height="100%"/>'
        + charts.mirrored_bars(counts[0].tolist(), counts[1].tolist(), y)
        + f'<line class="threshold" x1="{at}%" x2="{at}%" y1="-6" y2="100%"/>'
        f'<text class="tick strong" x="{at}%" dx="{dx}" y="-6" text-anchor="{side}">'
        f"threshold {decided.threshold:g}</text>"
    )
    positive, negative = report.labels[1], report.labels[0]
    review = f" {page.key('band', f'review, {low:g} to {high:g}')}" if high > low else ""
    return page.figure(
        "Probabilities",
        f"{page.key('a', positive)} {page.key('b', negative)}{review} "
        "Counts stand on a square-root scale, so that a single photo can be seen.",
        charts.chart(
            body,
            label=f"Histogram of probabilities: {positive} upwards, {negative} downwards; "
            f"threshold {decided.threshold:g}",
            x=x,
            y=y,
            x_title=f"Probability of “{positive}”",
            y_title="Photos",
            x_text=_whole_percent,
            y_text=lambda height: f"{round(height * height):,}",
        ),
    )


# --- kinds and mistakes --------------------------------------------------------------------------


def _kinds(report: Report, decided: _Decided) -> str:
    if not any(report.kinds):
        return ""
    kinds = np.asarray(report.kinds, object)
    rates = []
    for kind in sorted(set(report.kinds)):
        for truth in (1, 0):
            inside = (kinds == kind) & (decided.truth == truth)
            if count := int(inside.sum()):
                rates.append(
                    (float(np.mean(decided.labelled[inside] == truth)), kind, truth, count)
                )
    rows = "".join(
        f'<tr><th scope="row"><bdi>{safe(kind or "(none)")}</bdi>'
        f"<span>{safe(report.labels[truth])}</span></th>"
        f"<td>{count:,}</td><td>{round(count * (1 - rate)):,}</td><td>{_percent(rate)}</td>"
        f'<td class="wide">{charts.interval(rate, *_wilson(rate, count), "ba"[truth])}</td></tr>'
        for rate, kind, truth, count in sorted(rates)
    )
    return page.section(
        "kinds",
        "By kind",
        "What the photos show, hardest first. Bars are 95 % intervals from 0 to 100 %: few photos "
        "say little.",
        '<table class="kinds"><caption class="unseen">Share labelled right, by kind</caption>'
        '<thead><tr><th scope="col">Kind</th><th scope="col">Photos</th><th scope="col">Wrong</th>'
        '<th scope="col">Right</th><td class="wide"></td></tr></thead>'
        f"<tbody>{rows}</tbody></table>",
    )


def _mistakes(report: Report, decided: _Decided) -> str:
    if not report.mistakes:
        return ""
    low, high = decided.band
    items = []
    for mistake in report.mistakes:
        truth, other = report.labels[mistake.truth], report.labels[1 - mistake.truth]
        flagged = low <= round(mistake.probability, PROBABILITY_DIGITS) <= high
        items.append(
            f'<li class="mistake"><img alt="{safe(mistake.name)}: {safe(truth)}, taken for '
            f'{safe(other)}" src="{_thumbnail(mistake.pixels)}" width="224" height="224" '
            'loading="lazy">'
            f"<p><b>{mistake.probability:.2f}</b>, but {safe(truth)}"
            + (' <span class="flag">review</span>' if flagged else "")
            + f'</p><p class="name"><bdi>{safe(mistake.name)}</bdi></p></li>'
        )
    return page.section(
        "mistakes",
        "Worst mistakes",
        f"As the model saw them, with the probability of “{safe(report.labels[1])}” that it gave.",
        f'<ul class="mistakes">{"".join(items)}</ul>',
    )


def _thumbnail(pixels: npt.NDArray[np.uint8]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((thumbnails.SIDE, thumbnails.SIDE))
    return thumbnails.data_uri(thumbnails.jpeg(picture))


# --- the card ------------------------------------------------------------------------------------


def _card(card: dict[str, Any]) -> str:
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, value in card.items():
        group = _plain(key) if isinstance(value, dict) else "Bundle"
        prefix = "" if isinstance(value, dict) else key
        groups.setdefault(group, []).extend(_flat(prefix, value))
    tables = "".join(
        f"<details><summary>{safe(group)}</summary>"
        f"{page.table(group, ('Field', 'Value'), rows)}</details>"
        for group, rows in groups.items()
    )
    return page.section("card", "The card", "All that model.json says, to the last digit.", tables)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else key, inner)
    else:
        text = (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        )
        yield name, text


# --- small parts ---------------------------------------------------------------------------------


def _plain(name: str) -> str:
    words = name.replace("_", " ")
    return _PLAIN_NAMES.get(name, words[:1].upper() + words[1:])


def _number(value: Any, otherwise: float = math.nan) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    return float(value)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _whole_percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _short(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _wilson(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share that was found among `count` photos."""
    middle = share + Z95**2 / (2 * count)
    half = Z95 * math.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    scale = 1 + Z95**2 / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)

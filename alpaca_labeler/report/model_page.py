"""The results of training: figures, curves and mistakes, for `pages/model.html`.

Nothing is computed here that decides a label: this shows what was measured elsewhere.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from alpaca_labeler.model.classifier import PROBABILITY_DIGITS
from alpaca_labeler.report import charts, page, thumbnails
from alpaca_labeler.report.charts import percent
from alpaca_labeler.training.metrics import MEANINGS, wilson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from alpaca_labeler.training.report import Epoch, Report

RELIABILITY_BINS: Final = 10
HISTOGRAM_BINS: Final = 20

CLASSES: Final = ("label-0", "label-1")
"""Styles by index of the label."""

_NAMES: Final = {"auc": "AUC", "ece": "ECE"}

_MEANINGS: Final = MEANINGS | {
    "needs_review": "of all photos are flagged for review",
    "errors_in_review": "of the mistakes are among those flagged",
    "right_outside": "of those not flagged are right",
}
"""What the figures on the card mean; `{0}` and `{1}` are the labels."""


@dataclass(frozen=True, slots=True)
class _Decided:
    """The photos with the card's decision applied. Arrays have shape (n,)."""

    truth: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float64]
    labelled: npt.NDArray[np.bool_]
    wrong: npt.NDArray[np.bool_]
    review: npt.NDArray[np.bool_]
    threshold: float
    band: tuple[float, float]


def render(report: Report) -> str:
    """Return the report as one self-contained HTML page, for `encoding="utf-8"`."""
    decided = _decide(report)
    values = {
        "report": report,
        "names": report.labels[::-1],
        "photos": len(decided.truth),
        "wrong": int(decided.wrong.sum()),
        "review": int(decided.review.sum()),
        "caught": int((decided.wrong & decided.review).sum()),
        "figures": list(_figures(report)),
        "phases": _phases(report.history),
        "curves": list(_curves(report.history)),
        "epochs": _epochs(report.history),
        "threshold": decided.threshold,
        "kinds": _kinds(report, decided),
        "mistakes": _mistakes(report, decided),
        "card": _card(report.card),
    }
    if len(decided.truth):
        values |= {
            "confusion": _confusion(report.labels, decided),
            "reliability": _reliability(report.card, decided),
            "scores": _scores(report.labels, decided),
        }
    return page.render("model.html", values)


def _decide(report: Report) -> _Decided:
    probabilities: npt.NDArray[np.float64]
    probabilities = np.asarray(report.probabilities, np.float64).round(PROBABILITY_DIGITS)
    truth = np.asarray(report.truth).astype(bool)
    threshold = _number(report.card.get("threshold"), 0.5)
    low, high = report.card.get("review_band") or (threshold, threshold)
    labelled = probabilities >= threshold
    return _Decided(
        truth=truth,
        probabilities=probabilities,
        labelled=labelled,
        wrong=labelled != truth,
        review=(low <= probabilities) & (probabilities <= high),
        threshold=threshold,
        band=(float(low), float(high)),
    )


def _figures(report: Report) -> Iterator[tuple[str, str, str, str]]:
    metrics = report.card.get("metrics")
    for name, figure in metrics.items() if isinstance(metrics, dict) else ():
        meaning = _MEANINGS.get(name, "").format(*report.labels)
        entry = figure if isinstance(figure, dict) else {"value": figure if meaning else None}
        value, low, high = (_number(entry.get(key)) for key in ("value", "low", "high"))
        if math.isnan(value):
            continue  # counts, tables and notes are on the card below
        show = _short if name in _NAMES else percent
        # A bootstrap of photos that are all right has no width, and says nothing.
        interval = f"{show(low)} to {show(high)}" if show(low) != show(high) else ""
        yield _plain(name), show(value), interval, meaning


# --- training ------------------------------------------------------------------------------------


def _phases(history: Sequence[Epoch]) -> list[tuple[str, int, int]]:
    """Return (name, index of its first epoch, number of epochs) for each phase."""
    phases, start = [], 0
    for name, epochs in groupby(entry.phase for entry in history):
        count = len(list(epochs))
        phases.append((name, start, count))
        start += count
    return phases


def _curves(history: Sequence[Epoch]) -> Iterator[dict[str, Any]]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 10**6) if len(history) / s <= 8)
    x = charts.Axis(0.5, len(history) + 0.5, tuple(range(step, len(history) + 1, step)))
    for title, train, validation in (
        ("Loss", [e.loss for e in history], [e.val_loss for e in history]),
        ("Accuracy", [e.accuracy for e in history], [e.val_accuracy for e in history]),
    ):
        lines = {"training": _points(train), "validation": _points(validation)}
        values = [value for points in lines.values() for _, value in points]
        if not values:
            continue
        if title == "Accuracy":
            y = charts.nice_axis(min(values), 1, lambda value: percent(value, 0))
        else:
            y = charts.nice_axis(0, max(values))
        ends = [f"{who} ends at {points[-1][1]:.3f}" for who, points in lines.items() if points]
        yield {
            "title": title,
            "label": f"{title} over {len(history)} epochs; {', '.join(ends)}",
            "x": x,
            "y": y,
            "lines": [
                (who, [(x.at(number), round(100 - y.at(value), 3)) for number, value in points])
                for who, points in lines.items()
                if points
            ],
        }


def _points(values: Sequence[float | None]) -> list[tuple[int, float]]:
    numbers = enumerate(map(_number, values), 1)
    return [(number, value) for number, value in numbers if math.isfinite(value)]


def _epochs(history: Sequence[Epoch]) -> list[tuple[str, ...]]:
    columns = ("loss", "val_loss", "accuracy", "val_accuracy")
    return [
        (f"{number}", entry.phase, *(_short(_number(getattr(entry, name))) for name in columns))
        for number, entry in enumerate(history, 1)
    ]


# --- decisions -----------------------------------------------------------------------------------


def _confusion(
    labels: tuple[str, str], decided: _Decided
) -> Iterator[tuple[str, int, list[tuple[str, int, float]]]]:
    """Yield (true label, photos, [(style, photos, share) for each given label]) for each label."""
    for truth in (1, 0):
        given = decided.labelled[decided.truth == truth]
        cells = [
            (CLASSES[truth] if label == truth else "bad", count, count / max(len(given), 1))
            for label in (1, 0)
            for count in [int(np.sum(given == label))]
        ]
        yield labels[truth], len(given), cells


def _reliability(card: dict[str, Any], decided: _Decided) -> dict[str, Any]:
    total = len(decided.truth)
    bins = np.minimum((decided.probabilities * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    axis = charts.PROBABILITY
    points = []
    error = 0.0
    for index in np.unique(bins):
        inside = bins == index
        count = int(inside.sum())
        stated = float(decided.probabilities[inside].mean())
        found = float(decided.truth[inside].mean())
        error += count / total * abs(stated - found)
        # Down from the top: the dot, and the ends of its interval.
        down = [round(100 - axis.at(share), 3) for share in (found, *wilson(found, count))]
        points.append((axis.at(stated), *down, round(3 + 6 * math.sqrt(count / total), 1)))
    on_card = (card.get("metrics") or {}).get("ece")
    if isinstance(on_card, dict):
        on_card = on_card.get("value")
    return {"axis": axis, "points": points, "error": _short(_number(on_card, error))}


def _scores(labels: tuple[str, str], decided: _Decided) -> dict[str, object]:
    of_class = (
        np.histogram(decided.probabilities[decided.truth == truth], HISTOGRAM_BINS, (0, 1))[0]
        for truth in (1, 0)
    )
    stacks = np.stack(list(of_class), axis=1).tolist()
    return charts.probabilities(
        stacks, labels[::-1], [decided.threshold], decided.band, mirrored=True
    )


# --- kinds and mistakes --------------------------------------------------------------------------


def _kinds(report: Report, decided: _Decided) -> list[dict[str, Any]]:
    """Return what is shown of each kind, the hardest first."""
    names = np.asarray(report.kinds, object)
    kinds = []
    for name in sorted(set(report.kinds)) if any(report.kinds) else ():
        for truth in (1, 0):
            inside = (names == name) & (decided.truth == truth)
            count, wrong = int(inside.sum()), decided.wrong & inside
            if not count:
                continue
            right = 1 - float(wrong.sum()) / count
            kinds.append(
                {
                    "name": name or "(none)",
                    "label": report.labels[truth],
                    "style": CLASSES[truth],
                    "photos": count,
                    "wrong": int(wrong.sum()),
                    "caught": int((wrong & decided.review).sum()),
                    "review": float(decided.review[inside].mean()),
                    "right": right,
                    "interval": wilson(right, count),
                }
            )
    return sorted(kinds, key=lambda kind: (kind["right"], kind["name"], -kind["photos"]))


def _mistakes(report: Report, decided: _Decided) -> list[dict[str, Any]]:
    low, high = decided.band
    shown = []
    for mistake in report.mistakes:
        truth, given = report.labels[mistake.truth], report.labels[1 - mistake.truth]
        shown.append(
            {
                "name": mistake.name,
                "alt": f"{mistake.name}: {truth}, taken for {given}",
                "label": truth,
                "style": CLASSES[mistake.truth],
                "certainty": percent(mistake.probability),
                "review": low <= round(mistake.probability, PROBABILITY_DIGITS) <= high,
                "uri": _picture(mistake.pixels),
            }
        )
    return shown


def _picture(pixels: npt.NDArray[np.uint8]) -> str:
    return thumbnails.data_uri(thumbnails.jpeg(Image.fromarray(pixels)))


# --- the card ------------------------------------------------------------------------------------


def _card(card: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return the tables of the card's fields, by their headings."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, value in card.items():
        group, prefix = (_plain(key), "") if isinstance(value, dict) else ("Bundle", key)
        groups.setdefault(group, []).extend(_flat(prefix, value))
    return groups


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else key, inner)
    elif isinstance(value, str):
        yield name, value
    else:
        yield name, json.dumps(value, ensure_ascii=False, default=str)


def _plain(name: str) -> str:
    words = name.replace("_", " ")
    return _NAMES.get(name, words[:1].upper() + words[1:])


def _number(value: object, otherwise: float = math.nan) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    return float(value) if abs(value) < math.inf else otherwise


def _short(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"

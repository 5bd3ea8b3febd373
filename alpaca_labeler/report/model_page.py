"""What training found out: figures, curves and mistakes, for `pages/model.html`.

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

from alpaca_labeler.handler import manifest_row
from alpaca_labeler.handler.classifier import PROBABILITY_DIGITS
from alpaca_labeler.report import charts, page, thumbnails
from alpaca_labeler.report.charts import percent, wilson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from alpaca_labeler.training.report import Epoch, Report

RELIABILITY_BINS: Final = 10
HISTOGRAM_BINS: Final = 20

CLASSES: Final = ("label-0", "label-1")
"""Styles by index of the label."""

_SHARES: Final = {"accuracy", "precision", "recall", "specificity", "balanced_accuracy"}
_PLAIN_NAMES: Final = {"auc": "AUC", "ece": "ECE", "f1": "F1"}


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
    card = report.card
    metrics = card.get("metrics")
    values = {
        "title": report.title,
        "names": report.labels[::-1],
        "facts": [
            (name, card[key], unit)
            for name, key, unit in (
                ("version", "version", ""),
                ("made", "created", ""),
                ("input", "input_size", f"{charts.NBSP}px"),
            )
            if card.get(key) is not None
        ],
        "photos": len(decided.truth),
        "wrong": int(decided.wrong.sum()),
        "review": int(decided.review.sum()),
        "caught": int((decided.wrong & decided.review).sum()),
        "figures": list(_figures(metrics if isinstance(metrics, dict) else {}, report.labels)),
        "phases": _phases(report.history),
        "curves": _curves(report.history),
        "epochs": _epochs(report.history),
        "threshold": decided.threshold,
        "kinds": _kinds(report, decided),
        "mistakes": _mistakes(report, decided),
        "card": _card(card),
    }
    if len(decided.truth):
        values |= {
            "confusion": _confusion(report.labels, decided),
            "reliability": _reliability(card, decided),
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


# --- the figures ---------------------------------------------------------------------------------


def _figures(
    metrics: dict[str, Any], labels: tuple[str, str]
) -> Iterator[tuple[str, str, str, str]]:
    for name, figure in metrics.items():
        meaning = _meaning(name, labels)
        entry = figure if isinstance(figure, dict) else {"value": figure if meaning else None}
        value, low, high = (_number(entry.get(key)) for key in ("value", "low", "high"))
        if math.isnan(value):
            continue  # counts, tables and notes are on the card below
        show = percent if name in _SHARES else _short
        # A bootstrap of photos that are all right has no width, and says nothing.
        interval = f"{show(low)} to {show(high)}" if show(low) != show(high) else ""
        yield _plain(name), show(value), interval, meaning


def _meaning(name: str, labels: tuple[str, str]) -> str:
    return {
        "accuracy": "of all photos are labelled right",
        "balanced_accuracy": "are right on average of the two classes, however many each has",
        "precision": f"of those labelled “{labels[1]}” are that",
        "recall": f"of those that are “{labels[1]}” are found",
        "specificity": f"of those that are “{labels[0]}” are labelled so",
        "f1": "precision and recall in one, 1 at best",
        "auc": "how well the two are ordered, 1 at best",
        "log_loss": "how far probabilities are from the truth, 0 at best",
        "ece": "calibration error: stated against true share, 0 at best",
    }.get(name, "")


# --- training ------------------------------------------------------------------------------------


def _phases(history: Sequence[Epoch]) -> list[tuple[str, int, int]]:
    """Return (name, index of its first epoch, number of epochs) for each phase."""
    phases, start = [], 0
    for name, epochs in groupby(entry.phase for entry in history):
        count = len(list(epochs))
        phases.append((name, start, count))
        start += count
    return phases


def _curves(history: Sequence[Epoch]) -> list[dict[str, Any]]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 10**6) if len(history) / s <= 8)
    ticks = tuple(range(step, len(history) + 1, step))
    x = charts.Axis(0.5, len(history) + 0.5, ticks)
    charts_ = []
    for title, train, validation in (
        ("Loss", [e.loss for e in history], [e.val_loss for e in history]),
        ("Accuracy", [e.accuracy for e in history], [e.val_accuracy for e in history]),
    ):
        lines = [
            (who, found)
            for who, values in (
                ("training", train),
                ("validation", validation),
            )
            if (found := _points(values))
        ]
        values = [value for _, points in lines for _, value in points]
        if not values:
            continue
        if title == "Accuracy":
            y = charts.nice_axis(min(values), 1, lambda value: percent(value, 0))
        else:
            y = charts.nice_axis(0, max(values))
        ends = ", ".join(f"{who} ends at {points[-1][1]:.3f}" for who, points in lines)
        charts_.append(
            {
                "title": title,
                "label": f"{title} over {len(history)} epochs; {ends}",
                "x": x,
                "y": y,
                "lines": [
                    (who, [(x.at(a), round(100 - y.at(b), 3)) for a, b in points])
                    for who, points in lines
                ],
            }
        )
    return charts_


def _points(values: Sequence[float | None]) -> list[tuple[float, float]]:
    return [
        (float(number), value)
        for number, value in enumerate(map(_number, values), 1)
        if math.isfinite(value)
    ]


def _epochs(history: Sequence[Epoch]) -> list[tuple[str, ...]]:
    return [
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


# --- decisions -----------------------------------------------------------------------------------


def _confusion(
    labels: tuple[str, str], decided: _Decided
) -> list[tuple[str, int, list[tuple[str, int, float]]]]:
    """Return (true label, photos, [(style, photos, share) for each given label]) for each label."""
    rows = []
    for truth in (1, 0):
        given = decided.labelled[decided.truth == truth]
        counts = [int(np.sum(given == label)) for label in (1, 0)]
        cells = [
            (CLASSES[truth] if label == truth else "bad", count, count / max(len(given), 1))
            for label, count in zip((1, 0), counts, strict=True)
        ]
        rows.append((labels[truth], len(given), cells))
    return rows


def _reliability(card: dict[str, Any], decided: _Decided) -> dict[str, Any]:
    total = len(decided.truth)
    bins = np.minimum((decided.probabilities * RELIABILITY_BINS).astype(int), RELIABILITY_BINS - 1)
    axis = charts.PROBABILITY
    points = []
    error = 0.0
    for index in np.unique(bins):
        inside = bins == index
        count, found = int(inside.sum()), int(decided.truth[inside].sum())
        stated = float(decided.probabilities[inside].mean())
        error += abs(stated * count - found) / total
        low, high = wilson(found, count)
        points.append(
            {
                "left": axis.at(stated),
                "top": round(100 - axis.at(found / count), 3),
                "low": round(100 - axis.at(low), 3),
                "high": round(100 - axis.at(high), 3),
                "radius": round(3 + 6 * math.sqrt(count / total), 1),
            }
        )
    on_card = (card.get("metrics") or {}).get("ece")
    if isinstance(on_card, dict):
        on_card = on_card.get("value")
    return {"axis": axis, "points": points, "error": _short(_number(on_card, error))}


def _scores(labels: tuple[str, str], decided: _Decided) -> dict[str, Any]:
    up, down = (
        np.histogram(decided.probabilities[decided.truth == truth], HISTOGRAM_BINS, (0, 1))[0]
        for truth in (1, 0)
    )
    y = charts.root_axis(max(1, int(up.max()), int(down.max())), mirrored=True)
    low, high = decided.band
    return {
        "x": charts.PROBABILITY,
        "y": y,
        "bars": charts.mirrored(up.tolist(), down.tolist(), labels[::-1], y),
        "thresholds": [decided.threshold],
        "band": decided.band if high > low else None,
        "label": f"Histogram of probabilities: {labels[1]} upwards, {labels[0]} downwards",
    }


# --- kinds and mistakes --------------------------------------------------------------------------


def _kinds(report: Report, decided: _Decided) -> list[dict[str, Any]]:
    """Return what is shown of each kind, the hardest first."""
    if not any(report.kinds):
        return []
    names = np.asarray(report.kinds, object)
    kinds = []
    for name in sorted(set(report.kinds)):
        for truth in (1, 0):
            inside = (names == name) & (decided.truth == truth)
            count, wrong = int(inside.sum()), int(decided.wrong[inside].sum())
            if not count:
                continue
            low, high = wilson(count - wrong, count)
            kinds.append(
                {
                    "name": name or "(none)",
                    "label": report.labels[truth],
                    "style": CLASSES[truth],
                    "photos": count,
                    "wrong": wrong,
                    "caught": int((decided.wrong & decided.review)[inside].sum()),
                    "right": (count - wrong) / count,
                    "low": low,
                    "high": high,
                    "review": float(decided.review[inside].mean()),
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
                "problem": "",
            }
        )
    return shown


def _picture(pixels: npt.NDArray[np.uint8]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((thumbnails.SIDE, thumbnails.SIDE))
    return thumbnails.data_uri(thumbnails.jpeg(picture))


# --- the card ------------------------------------------------------------------------------------


def _card(card: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return the tables of the card's fields, by their headings."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, value in card.items():
        group = _plain(key) if isinstance(value, dict) else "Bundle"
        prefix = "" if isinstance(value, dict) else key
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
    return _PLAIN_NAMES.get(name, words[:1].upper() + words[1:])


def _number(value: object, otherwise: float = math.nan) -> float:
    found = manifest_row.number(value)
    return otherwise if found is None else found


def _short(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"

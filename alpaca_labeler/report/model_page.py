"""The results of training: figures, curves and mistakes, for `pages/model.html`.

Nothing is computed here that decides a label: this shows what was measured elsewhere.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from alpaca_labeler.model.classifier import PROBABILITY_DIGITS
from alpaca_labeler.photos import images
from alpaca_labeler.report import charts, page, thumbnails
from alpaca_labeler.report.charts import percent
from alpaca_labeler.table.progress import wilson
from alpaca_labeler.training.metrics import MEANINGS

if TYPE_CHECKING:
    import numpy.typing as npt

    from alpaca_labeler.training.report import Report

CLASSES: Final = ("label-0", "label-1")
"""Styles by index of the label."""

_NAMES: Final = {"auc": "AUC", "ece": "ECE"}
"""Figures that are no share of photos."""

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
        "phases": [*Counter(epoch.phase for epoch in report.history).items()],
        "drawn": _curve(report),
        "threshold": decided.threshold,
        "confusion": _confusion(report.labels, decided),
        "kinds": _kinds(report, decided),
        "mistakes": _mistakes(report, decided),
        "card": json.dumps(report.card, ensure_ascii=False, indent=2).splitlines(),
    }
    return page.render("model.html", values)


def _decide(report: Report) -> _Decided:
    probabilities = np.asarray(report.probabilities, np.float64).round(PROBABILITY_DIGITS)
    truth = np.asarray(report.truth).astype(bool)
    threshold = report.card.get("threshold", 0.5)
    low, high = report.card.get("review_band") or (threshold, threshold)
    labelled = probabilities >= threshold
    return _Decided(
        truth=truth,
        labelled=labelled,
        wrong=labelled != truth,
        review=(low <= probabilities) & (probabilities <= high),
        threshold=threshold,
        band=(low, high),
    )


def _figures(report: Report) -> Iterator[tuple[str, str, str, str]]:
    metrics = report.card.get("metrics", {})
    for name, meaning in _MEANINGS.items():
        figure = metrics.get(name)
        entry = figure if isinstance(figure, dict) else {"value": figure}
        value, low, high = (_number(entry.get(key)) for key in ("value", "low", "high"))
        if math.isnan(value):
            continue
        show = "{:.3f}".format if name in _NAMES else percent
        # A bootstrap of photos that are all right has no width, and says nothing.
        interval = f"{show(low)} to {show(high)}" if show(low) != show(high) else ""
        title = _NAMES.get(name, name.replace("_", " ").capitalize())
        yield title, show(value), interval, meaning.format(*report.labels)


# --- training ------------------------------------------------------------------------------------


def _curve(report: Report) -> dict[str, Any] | None:
    """Return the curve of the loss; None if nothing was trained."""
    history = report.history
    lines = {
        "training": _points([epoch.loss for epoch in history]),
        "validation": _points([epoch.val_loss for epoch in history]),
    }
    lines = {who: points for who, points in lines.items() if points}
    if not lines:
        return None
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 10**6) if len(history) / s <= 8)
    x = charts.Axis(0.5, len(history) + 0.5, tuple(range(step, len(history) + 1, step)))
    y = charts.nice_axis(0, max(value for points in lines.values() for _, value in points))
    tuned = report.card.get("training", {}).get("fine_tuning_epochs")
    before = sum(epoch.phase == "frozen" for epoch in history)
    ends = [f"{who} ends at {points[-1][1]:.3f}" for who, points in lines.items()]
    return {
        "label": f"Loss over {len(history)} epochs; {', '.join(ends)}",
        "x": x,
        "y": y,
        "kept": None if tuned is None else x.at(max(before + tuned, 0.5)),
        "lines": [
            (who, [(x.at(number), round(100 - y.at(value), 3)) for number, value in points])
            for who, points in lines.items()
        ],
    }


def _points(values: Sequence[float | None]) -> list[tuple[int, float]]:
    numbers = enumerate(map(_number, values), 1)
    return [(number, value) for number, value in numbers if math.isfinite(value)]


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
                    "photos": count,
                    "wrong": int(wrong.sum()),
                    "caught": int((wrong & decided.review).sum()),
                    "review": float(decided.review[inside].mean()),
                    "right": right,
                    "interval": charts.range_text(*wilson(right, count)),
                }
            )
    return sorted(kinds, key=lambda kind: (kind["right"], kind["name"], -kind["photos"]))


def _mistakes(report: Report, decided: _Decided) -> list[dict[str, Any]]:
    low, high = decided.band
    shown = []
    for mistake in report.mistakes:
        truth, given = report.labels[mistake.truth], report.labels[1 - mistake.truth]
        picture = Image.fromarray(mistake.pixels)
        shown.append(
            {
                "name": mistake.name,
                "alt": f"{mistake.name}: {truth}, taken for {given}",
                "label": truth,
                "style": CLASSES[mistake.truth],
                "certainty": percent(mistake.probability),
                "review": low <= round(mistake.probability, PROBABILITY_DIGITS) <= high,
                "uri": thumbnails.data_uri(images.jpeg(picture)),
            }
        )
    return shown


def _number(value: object) -> float:
    """Return a finite number, or nan."""
    is_number = isinstance(value, int | float) and abs(value) < math.inf
    return float(value) if is_number else math.nan  # type: ignore[arg-type]

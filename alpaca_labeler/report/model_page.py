"""The results of training: figures, curves and mistakes, for `pages/model.html`.

Nothing is computed here that decides a label: this shows what was measured elsewhere.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from alpaca_labeler.model.classifier import PROBABILITY_DIGITS
from alpaca_labeler.photos import images
from alpaca_labeler.report import page, thumbnails
from alpaca_labeler.report.page import SERIES, percent, range_text
from alpaca_labeler.table.progress import wilson
from alpaca_labeler.training.metrics import MEANINGS

if TYPE_CHECKING:
    import numpy.typing as npt

    from alpaca_labeler.training.report import Report

    Flags = npt.NDArray[np.bool_]

_NAMES: Final = {"auc": "AUC", "ece": "ECE"}
"""Figures that are no share of photos."""

_MEANINGS: Final = MEANINGS | {
    "needs_review": "of all photos are flagged for review",
    "errors_in_review": "of the mistakes are among those flagged",
    "right_outside": "of those not flagged are right",
}
"""What the figures on the card mean; `{0}` and `{1}` are the labels."""


def render(report: Report) -> str:
    """Return the report as one self-contained HTML page, for `encoding="utf-8"`."""
    probabilities = np.asarray(report.probabilities, np.float64).round(PROBABILITY_DIGITS)
    threshold = report.card.get("threshold", 0.5)
    low, high = report.card.get("review_band") or (threshold, threshold)
    truth = np.asarray(report.truth).astype(bool)
    wrong = (probabilities >= threshold) != truth
    review = (low <= probabilities) & (probabilities <= high)
    values = {
        "report": report,
        "names": report.labels[::-1],
        "decided": len(truth),
        "wrong": int(wrong.sum()),
        "review": int(review.sum()),
        "caught": int((wrong & review).sum()),
        "figures": list(_figures(report)),
        "phases": [*Counter(epoch.phase for epoch in report.history).items()],
        "drawn": _curve(report),
        "threshold": threshold,
        "confusion": _confusion(report.labels, truth, wrong),
        "kinds": _kinds(report, truth, wrong, review),
        "mistakes": [
            {
                "name": mistake.name,
                "alt": f"{mistake.name}: {report.labels[mistake.truth]}, taken for "
                f"{report.labels[1 - mistake.truth]}",
                "label": report.labels[mistake.truth],
                "style": SERIES[1 - mistake.truth],
                "certainty": percent(mistake.probability),
                "about": "",
                "review": low <= round(mistake.probability, PROBABILITY_DIGITS) <= high,
                "uri": thumbnails.data_uri(images.jpeg(Image.fromarray(mistake.pixels))),
            }
            for mistake in report.mistakes
        ],
        "card": json.dumps(report.card, ensure_ascii=False, indent=2).splitlines(),
    }
    return page.render("model.html", values)


def _figures(report: Report) -> Iterator[tuple[str, str, str, str]]:
    """Yield (name, value, interval, meaning) of each figure on the card that is a number."""
    metrics = report.card.get("metrics", {})
    for name, meaning in _MEANINGS.items():
        figure = metrics.get(name)
        entry = figure if isinstance(figure, dict) else {"value": figure}
        value, low, high = (_number(entry.get(key)) for key in ("value", "low", "high"))
        if math.isnan(value):
            continue
        show = "{:.3f}".format if name in _NAMES else percent
        title = _NAMES.get(name, name.replace("_", " ").capitalize())
        yield title, show(value), range_text(low, high, show), meaning.format(*report.labels)


def _curve(report: Report) -> dict[str, Any] | None:
    """Return the lines of the loss, in percent of the plot; None if nothing was trained."""
    history = report.history
    losses = {
        "training": [_number(epoch.loss) for epoch in history],
        "validation": [_number(epoch.val_loss) for epoch in history],
    }
    most = max((loss for each in losses.values() for loss in each if loss > 0), default=0)
    if len(history) < 2 or not most:
        return None
    width = 100 / (len(history) - 1)
    lines = []
    for name, values in losses.items():
        points = [(n, loss) for n, loss in enumerate(values) if not math.isnan(loss)]
        if points:
            drawn = " ".join(f"{width * n:.2f},{100 - 100 * loss / most:.2f}" for n, loss in points)
            lines.append((name, drawn, f"{points[0][1]:.3f}", f"{points[-1][1]:.3f}"))
    tuned = report.card.get("training", {}).get("fine_tuning_epochs")
    before = sum(epoch.phase == "frozen" for epoch in history)
    kept = None if tuned is None else width * max(before + tuned - 1, 0)
    return {"epochs": len(history), "lines": lines, "kept": kept}


def _confusion(
    labels: tuple[str, str], truth: Flags, wrong: Flags
) -> Iterator[tuple[str, int, list[tuple[str, int, float]]]]:
    """Yield (true label, photos, [(style, photos, share) for each given label]) for each label."""
    for index in (1, 0):
        total, mistaken = int((truth == index).sum()), int((wrong & (truth == index)).sum())
        given = [(SERIES[1 - index], total - mistaken), ("bad", mistaken)]
        cells = [(style, count, count / max(total, 1)) for style, count in given]
        yield labels[index], total, cells if index else cells[::-1]


def _kinds(
    report: Report, truth: Flags, wrong: Flags, review: Flags
) -> list[list[tuple[str, str]]]:
    """Return the rows of the table of kinds, as (value, note), the hardest first."""
    names = np.asarray(report.kinds, object)
    rows = []
    for name in sorted(set(report.kinds)) if any(report.kinds) else ():
        for index in (1, 0):
            inside = (names == name) & (truth == index)
            photos, mistaken = int(inside.sum()), int((wrong & inside).sum())
            if not photos:
                continue
            right, caught = 1 - mistaken / photos, int((wrong & review & inside).sum())
            row = [
                (name or "(none)", report.labels[index]),
                (f"{photos:,}", ""),
                (f"{mistaken:,}", f"{caught:,} flagged" if mistaken else ""),
                (percent(float(review[inside].mean())), ""),
                (percent(right), range_text(*wilson(right, photos))),
            ]
            rows.append(((right, name, -photos), row))
    return [row for _, row in sorted(rows)]


def _number(value: object) -> float:
    """Return a finite number, or nan."""
    is_number = isinstance(value, int | float) and abs(value) < math.inf
    return float(value) if is_number else math.nan  # type: ignore[arg-type]

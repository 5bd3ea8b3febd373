"""Rows for tests of the table."""

from __future__ import annotations

from datetime import UTC, datetime

from alpaca_labeler.model.bundle import Card
from alpaca_labeler.model.classifier import decide
from alpaca_labeler.storage.image_version import ImageVersion
from alpaca_labeler.table import manifest_row
from alpaca_labeler.table.manifest_row import Failure

CARD = Card("1-a", "alpaca", ("not", "alpaca"), 0.5, (0.4, 0.6), 8, "test", (1.0, 0.0), "")


def version(name, number=1):
    return ImageVersion(
        f"s3://photos/{name}",
        size=number,
        last_modified=f"2026-01-01T00:{number:02d}:00Z",
        etag=f"etag-{number}",
        sequencer=f"{number:08X}",
    )


def moment(minute):
    return datetime(2026, 1, 2, 0, minute, tzinfo=UTC)


def label(name, number=1, *, minute=0, logit=1.0):
    prediction = decide(CARD, logit)
    return manifest_row.label_row(version(name, number), (64, 48), prediction, CARD, moment(minute))


def failure(name, number=1, *, minute=0, code="corrupt"):
    found = Failure(code, "it cannot be decoded")
    return manifest_row.failure_row(version(name, number), found, CARD.version, moment(minute))


def human(name, number=1, *, minute=5):
    row = label(name, number, minute=minute, logit=-1.0)
    row["alpaca-metadata"] |= {"human-annotated": "yes", "confidence": 1.0}
    return row

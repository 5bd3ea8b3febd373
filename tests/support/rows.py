"""Rows for tests of the table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from alpaca_labeler.table.facts import Answer, Decision, Failure, Read, timestamp
from alpaca_labeler.table.row import Row
from alpaca_labeler.table.table import open_table


def rows_of(table):
    """All rows of a file or a bucket, also those of photos that are gone."""
    return [row for row, _ in open_table(str(table), missing_ok=True).read()]


def moment(minute):
    return timestamp(datetime(2026, 1, 2, 0, minute, tzinfo=UTC))


def read(name, number=1, *, minute=0):
    """A reading of the version `number` of a photo."""
    return Read(moment(minute), f"sha256:{name}{number}", f"etag-{number}", number)


def label(name, number=1, *, minute=0, probability=0.9, model="1-a"):
    index = int(probability >= 0.5)
    answer = Answer(
        model, ("not", "alpaca")[index], index, "alpaca", probability, 0.5, 0.4 < probability < 0.6
    )
    return Row(f"s3://photos/{name}", read(name, number, minute=minute), answer)


def failure(name, number=1, *, minute=0, code="corrupt"):
    answer = Answer("1-a", failure=Failure(code, "it cannot be decoded"))
    return Row(f"s3://photos/{name}", read(name, number, minute=minute), answer)


def human(name, *, was=None, to="not"):
    """A person's label, of a photo that a model had called `was` if that is given."""
    row = label(name, probability=0.9 if was == "alpaca" else 0.2)
    said = Decision(moment(5), "kim", to, int(to == "alpaca"), "alpaca")
    return replace(row, answer=row.answer if was else None, people={row.read.content: said})

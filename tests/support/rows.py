"""Rows for tests of the table."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import strategies as st

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


def reading(name, at, content, label="alpaca", *, model="m1", **seen):
    """What a model says of a content of a photo that it read at a moment."""
    answer = Answer(model, label, int(label == "alpaca"), "alpaca", 0.9, 0.5)
    return Row(name, Read(at, content, **seen), answer)


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


def ground_truth(name, at, label="goat", human="yes", key="animal"):
    """A row as Ground Truth writes it, dated by the text `at`."""
    metadata = {
        "class-name": label,
        "confidence": 0.7,
        "type": "groundtruth/image-classification",
        "human-annotated": human,
        "creation-date": at,
    }
    return {"source-ref": name, key: int(label == "alpaca"), f"{key}-metadata": metadata}


def decide(table, name, said):
    """Say what is in a photo, as `alpaca review` writes it."""
    found = open_table(str(table))
    [row] = [row for row in found.rows() if row.source_ref == name]
    found.append([row.decided(said, "kim", datetime.now(UTC))])


_VALUES = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(0, 1) | st.text(max_size=3)
_BLOCKS = st.recursive(
    _VALUES,
    lambda inner: st.dictionaries(
        st.sampled_from(
            "class-name confidence size width height taken camera code content read answer people "
            "label index probability threshold needs-review failure message sha256:aa at".split()
        ),
        inner,
    ),
    max_leaves=8,
)
STRANGE_LINES = st.builds(
    lambda name, more: json.dumps({"source-ref": name, **more}).encode(),
    st.text(max_size=3) | st.sampled_from(["s3://b/a.jpg", "s3://"]),
    st.dictionaries(st.sampled_from(["labeler", "failure", "a", "a-metadata"]), _BLOCKS),
)
"""Rows as no tool writes them."""

"""A logit becomes a label by the card, and by nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from alpaca_labeler.model import bundle
from alpaca_labeler.model.classifier import Classifier, decide, sigmoid

CARD = bundle.Card(
    "1-a", "alpaca", ("not alpaca", "alpaca"), 0.5, (0.2, 0.8), 256, "", (1.0, 0.0), ""
)


@pytest.mark.parametrize(
    ("threshold", "logit", "label", "probability", "confidence", "review"),
    [
        (0.5, 0.0, "alpaca", 0.5, 0.5, True),
        (0.5, -0.0001, "alpaca", 0.5, 0.5, True),  # the rounded number explains the label
        (0.5, -0.001, "not alpaca", 0.4998, 0.5002, True),
        (0.5, 5.0, "alpaca", 0.9933, 0.9933, False),
        (0.5, -5.0, "not alpaca", 0.0067, 0.9933, False),
        (0.9, 2.0, "not alpaca", 0.8808, 0.1192, False),
        (0.0, -99.0, "alpaca", 0.0, 0.0, False),
        (1.0, 99.0, "alpaca", 1.0, 1.0, False),
    ],
)
def test_decide(  # noqa: PLR0917
    threshold, logit, label, probability, confidence, review
):
    found = decide(structs.replace(CARD, threshold=threshold), logit)
    assert (found.label, found.probability, found.confidence) == (label, probability, confidence)
    assert CARD.labels[found.index] == label
    assert found.needs_review is review


def test_calibration_scales_and_shifts_the_logit():
    assert decide(structs.replace(CARD, calibration=(2.0, -1.0)), 0.5).probability == 0.5


@given(st.floats(allow_nan=False))
def test_sigmoid_never_overflows(x):
    assert 0 <= sigmoid(x) <= 1
    assert math.isclose(sigmoid(x) + sigmoid(-x), 1)


def test_each_photo_is_judged_alone():
    classifier = Classifier(bundle.load())
    size = classifier.card.input_size
    black, white = np.zeros((size, size, 3), np.uint8), np.full((size, size, 3), 255, np.uint8)
    first = classifier.logit(black)
    classifier.logit(white)
    assert classifier.logit(black) == first


@pytest.mark.parametrize("model", [b"", b"no model", bytes(1000)])
def test_bytes_that_are_no_model_are_refused(model):
    with pytest.raises(bundle.BundleError, match="1-a"):
        Classifier(bundle.Bundle(CARD, model, {}))


def test_a_model_of_another_size_is_refused():
    made = bundle.load()
    card = structs.replace(made.card, input_size=made.card.input_size + 32)
    with pytest.raises(bundle.BundleError, match="as its card says"):
        Classifier(bundle.Bundle(card, made.model, {}))

import math

import numpy as np
import pytest

from alpaca_labeler.training import logistic, metrics

TRUTH = np.array([0, 0, 0, 1, 1, 1, 1, 0])
SCORES = np.array([0.1, 0.2, 0.6, 0.7, 0.9, 0.4, 0.8, 0.3])


def judged(truth, probabilities):
    return metrics.Decision((1.0, 0.0), 0.5, (0.5, 0.5)).judge(truth, probabilities)


def test_figures_are_those_computed_by_hand():
    found = metrics.measure(judged(TRUTH, SCORES))
    assert found["accuracy"] == 6 / 8
    assert found["balanced_accuracy"] == 6 / 8  # three of four of either class
    assert found["precision"] == 3 / 4
    assert found["recall"] == 3 / 4
    assert found["auc"] == 15 / 16  # of 16 pairs one, 0.4 below 0.6, is the wrong way round
    gaps = [0.1, 0.2, 0.6, -0.3, -0.1, -0.6, -0.2, 0.3]  # one photo in each of eight bins
    assert found["ece"] == pytest.approx(sum(map(abs, gaps)) / 8)
    card = metrics.measured(judged(TRUTH, SCORES), np.arange(8), [""] * 8, seed=1)["metrics"]
    assert card["confusion"] == [[3, 1], [1, 3]]
    assert card["accuracy"]["value"] == 6 / 8


def test_a_figure_without_meaning_is_nan():
    none = judged(np.zeros(3, int), np.zeros(3))
    without = {name for name, value in metrics.measure(none).items() if math.isnan(value)}
    assert without == {"auc", "precision", "recall", "balanced_accuracy"}
    card = metrics.measured(none, np.arange(3), [""] * 3, seed=1)["metrics"]
    assert {name for name, value in card.items() if value is None} == {*without, "errors_in_review"}


def test_photos_of_one_group_are_drawn_together():
    """Ten copies of a photo say no more than the photo, and their interval must not be narrower."""
    one, many = judged(TRUTH, SCORES), judged(np.repeat(TRUTH, 10), np.repeat(SCORES, 10))
    alone = metrics.figures(one, np.arange(8), seed=3)
    together = metrics.figures(many, np.repeat(np.arange(8), 10), seed=3)
    assert together == alone
    apart = metrics.figures(many, np.arange(80), seed=3)["accuracy"]
    accuracy = alone["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert apart["high"] - apart["low"] < (accuracy["high"] - accuracy["low"]) / 2


@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
def test_calibrated_probabilities_mean_what_they_say_at_any_mix(share):
    random = np.random.default_rng(0)
    truth = (random.random(20_000) < share).astype(int)
    logits = random.normal(truth * 2 - 1, 1) * 3 + 5  # off in scale and place
    decision = metrics.decide(truth, logits)
    p = decision.probabilities(logits)
    assert metrics.calibration_error(truth, p) < 0.02
    assert decision.threshold == 0.5
    assert decision.probabilities(np.array([5.0]))[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("count", [4, 20, 198])
def test_few_photos_make_no_probability_more_certain(count):
    """However well the held-out photos are told apart, and wherever their logits lie."""
    truth = np.arange(count) % 2
    for shift in (0.0, 1.0):
        scale, offset = metrics.calibration(truth, np.where(truth, 1.0, -1.0) + shift)
        assert 0.01 <= scale <= 1
        assert abs(offset) <= shift + 0.2
    large = np.arange(4000) % 2
    assert metrics.calibration(large, np.where(large, 1.0, -1.0))[0] > 1.5


@pytest.mark.parametrize(("apart", "edge"), [(10.0, 0.1), (1.0, 0.2)])
def test_what_needs_review_does_not_follow_the_mistakes(apart, edge):
    truth = np.arange(40) % 2
    logits = np.where(truth, apart, -apart)
    logits[:4] = [0.1, -0.1, 0.2, 9]  # the last is a mistake that the model is sure of
    assert metrics.decide(truth, logits).review_band == (edge, 1 - edge)


def test_calibration_of_one_class_stays_as_it_is_and_of_separable_photos_finite():
    assert metrics.calibration(np.ones(3, int), np.ones(3)) == (1.0, 0.0)
    truth, logits = np.array([0, 0, 1, 1]), np.array([-9.0, -8, 8, 9])
    assert all(map(math.isfinite, metrics.calibration(truth, logits)))


def test_kinds_are_counted_apart_and_review_is_worth_what_it_catches():
    truth, predicted = np.array([0, 0, 0, 1]), np.array([0, 1, 0, 1])
    reviewed = np.array([True, True, False, False])
    said = metrics.Judged(truth, predicted * 1.0, predicted, reviewed)
    kinds = metrics.by_kind(said, ["sheep", "sheep", "goat", "alpaca"])
    assert [(kind, *counts.values()) for kind, counts in kinds.items()] == [
        ("alpaca", 1, 1, 0),
        ("goat", 1, 1, 0),
        ("sheep", 2, 1, 2),
    ]
    worth = {"needs_review": 0.5, "errors_in_review": 1.0, "right_outside": 1.0}
    assert metrics.review(said) == worth


def test_without_a_mistake_the_interval_is_wilsons_and_wide():
    truth = np.array([0, 0, 1, 1, 1])
    found = metrics.figures(judged(truth, truth * 0.8 + 0.1), np.arange(5), seed=1)
    assert [*found["accuracy"].values()] == pytest.approx([1, 0.566, 1], abs=1e-3)
    assert found["recall"]["low"] < found["accuracy"]["low"]
    assert found["precision"]["low"] == found["recall"]["low"]
    assert found["auc"] == {"value": 1.0, "low": None, "high": None}


def test_logistic_regression_ends_where_the_gradient_is_zero():
    random = np.random.default_rng(3)
    x = random.normal(2, 3, (200, 5))
    y = (x[:, 0] + random.normal(0, 1, 200) > 2).astype(float)
    coefficients, intercept = logistic.fit(x, y, np.ones(200), 0.1)
    error = logistic.sigmoid(x @ coefficients + intercept) - y
    spread = x.std(axis=0) + 1e-3
    assert abs(error.mean()) < 1e-6
    gradient = (error @ (x - x.mean(axis=0))) / spread / 200 + 0.1 * coefficients * spread
    assert np.abs(gradient).max() < 1e-6

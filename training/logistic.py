"""Logistic regression by Newton's method: the exact optimum, the same every time."""

from __future__ import annotations

import numpy as np

from .arrays import Floats

_STEPS = 30
"""At most; 5 to 10 are enough as a rule."""
_TOLERANCE = 1e-8
"""A smaller step than this changes no figure that is shown."""


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + e^-x) without overflow."""
    odds = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + odds), odds / (1 + odds))


def fit(
    features: Floats, targets: Floats, weights: Floats, strength: float
) -> tuple[Floats, float]:
    """Return the coefficients, shape (d,), and intercept with the lowest weighted log loss.

    `features` has shape (n, d); `targets` (n,) are probabilities 0..1; `weights` (n,) count the
    rows and are scaled to a mean of 1; `strength` is that of the L2 penalty: `strength` x squared
    coefficients / 2 is added to the mean loss. Features are standardised first, so that the penalty
    means the same for each.
    """
    weights = weights / weights.sum()
    mean = weights @ features
    spread = np.sqrt(weights @ (features - mean) ** 2) + 1e-3
    x = np.column_stack([(features - mean) / spread, np.ones(len(features))])
    penalty = np.full(x.shape[1], strength)
    penalty[-1] = 1e-9  # the intercept is free; a tiny ridge keeps one-class data solvable
    theta = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = sigmoid(x @ theta)
        gradient = x.T @ (weights * (p - targets)) + penalty * theta
        curvature = (x * (weights * p * (1 - p))[:, np.newaxis]).T @ x
        step = np.linalg.solve(curvature + np.diag(penalty), gradient)
        loss = _loss(x, targets, weights, penalty, theta)
        scale = 1.0
        while _loss(x, targets, weights, penalty, theta - scale * step) > loss and scale > 1e-4:
            scale /= 2
        theta = theta - scale * step
        if np.abs(scale * step).max() < _TOLERANCE:
            break
    coefficients = theta[:-1] / spread
    return coefficients, float(theta[-1] - mean @ coefficients)


def _loss(x: Floats, targets: Floats, weights: Floats, penalty: Floats, theta: Floats) -> float:
    logits = x @ theta
    losses = np.logaddexp(0, logits) - targets * logits
    return float(weights @ losses + penalty @ theta**2 / 2)

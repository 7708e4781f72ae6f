"""Which answers are right: a logistic function fitted to answered questions, and how well it tells them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from goldfinch.policies.measured import LEAST_LIKELIHOOD, Calibration

# Below this area under the curve a probability would say next to nothing, and is not given.
LEAST_AUC = 0.6
# Of a ridge that keeps the weights finite where right and wrong answers are parted completely.
RIDGE = 1e-4
STEPS = 50


@dataclass(frozen=True)
class Answered:
    """A question that was answered.

    Attributes:
        group: its document, or the article that this is part of: answers from one are not independent.
        score: of the block that was read; 0 for the whole document.
        likelihood: of the answer.
        right: whether it is right.
    """

    group: str
    score: float
    likelihood: float
    right: bool


def auc(values: Sequence[float], right: Sequence[bool]) -> float:
    """How often a right answer has a higher value than a wrong one, ties counted half; 0.5 without either."""
    x, y = np.asarray(values, float), np.asarray(right, bool)
    wins = x[y][:, None] - x[~y][None]
    return float(((wins > 0) + 0.5 * (wins == 0)).mean()) if wins.size else 0.5


def expected_error(known: Sequence[tuple[float, bool]], bins: int = 10) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015): how far confidence and the share of right answers lie
    apart, by bins of equal width, each weighed by its answers; 0 to 1.

    Args:
        known: confidence and whether the answer was right, at least one.
    """
    p, right = np.array([p for p, _ in known]), np.array([right for _, right in known], float)
    place = np.minimum((p * bins).astype(int), bins - 1)
    return float(sum(abs((p - right)[place == n].sum()) for n in range(bins)) / len(p))


def calibrated(answered: Sequence[Answered]) -> Calibration:
    """A calibration fitted to all questions, its AUC that of fits which had not seen the question's group.

    Args:
        answered: of two groups or more.
    """
    area = auc(left_out(answered), [row.right for row in answered])
    if area < LEAST_AUC:
        reason = f"right answers could not be told from wrong ones (AUC {area:.2f} over {len(answered)} questions)"
        return Calibration(area, reason=reason)
    return Calibration(area, *_fit(answered))


def left_out(answered: Sequence[Answered]) -> list[float]:
    """The probability of each answer, from a fit to all groups but its own."""
    fits = {}
    for group in {row.group for row in answered}:
        others = [row for row in answered if row.group != group]
        fits[group] = Calibration(0.5, *_fit(others))
    found = [fits[row.group].probability(row.score, row.likelihood) for row in answered]
    return [0.5 if p is None else p for p in found]


def _fit(answered: Sequence[Answered]) -> tuple[float, float, float]:
    """Intercept, score_weight and likelihood_weight of the highest likelihood (Newton's method), with a ridge."""
    x = np.array([[row.score, math.log(max(row.likelihood, LEAST_LIKELIHOOD))] for row in answered])
    y = np.array([row.right for row in answered], float)
    mean, spread = x.mean(0), x.std(0)
    used = spread > 0
    scale = np.where(used, spread, 1.0)
    z = np.column_stack([np.ones(len(x)), (x - mean) / scale * used])
    weights, ridge = np.zeros(3), np.diag([1e-9, RIDGE, RIDGE]) * len(x)
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-z @ weights))
        slope = z.T @ (p - y) + ridge @ weights
        curve = (z * (p * (1 - p))[:, None]).T @ z + ridge
        step = np.linalg.solve(curve, slope)
        weights = weights - np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    score, likelihood = weights[1:] / scale * used
    return float(weights[0] - (weights[1:] / scale * used) @ mean), float(score), float(likelihood)

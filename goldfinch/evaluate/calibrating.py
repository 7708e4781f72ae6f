"""Which answers are right, and which of several blocks answers: logistic functions fitted to questions, and how well
they tell them apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from goldfinch.policies.measured import LEAST_LIKELIHOOD, Calibration, Choice, Evidence

# Below this area under the curve a probability would say next to nothing, and is not given.
LEAST_AUC = 0.6
# Of a ridge that keeps the weights finite where right and wrong answers are parted completely.
RIDGE = 1e-4
STEPS = 50
# Of the evidence for a block, what is weighed; the ridge of these weights; and the margins that are tried.
WEIGHED = ("score", "silence", "match", "copied")
CHOICE_RIDGE = 0.01
MARGINS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
# An answer begins as "Not stated." does where this is likelier than not.
SILENT = math.log(0.5)


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


@dataclass(frozen=True)
class Watched:
    """A question and the best few blocks for it, the best found first.

    Attributes:
        evidence: what the model says of each.
        holds: whether each holds the answer.
        absent: the document does not answer it.
    """

    evidence: tuple[Evidence, ...]
    holds: tuple[bool, ...]
    absent: bool = False


@dataclass(frozen=True)
class Margin:
    """What a choice with a margin finds.

    Attributes:
        margin: the margin.
        holds: questions whose chosen block holds the answer.
        silent: unanswered questions whose answer most likely begins as "Not stated." does.
    """

    margin: float
    holds: int
    silent: int


def fitted_choice(watched: Sequence[Watched]) -> Choice:
    """The weights under which the blocks that hold the answer are the likeliest: a conditional logit (McFadden, 1974)
    with a ridge, without a margin.

    Args:
        watched: questions; those of which all blocks hold the answer, or none, say nothing.
    """
    told = [row for row in watched if any(row.holds) and not all(row.holds)]
    values = [[[getattr(one, name) for name in WEIGHED] for one in row.evidence] for row in told]
    if not told:
        return Choice()
    spread = torch.tensor([one for row in values for one in row], dtype=torch.float64).std(0)
    spread = torch.where(spread > 0, spread, torch.full_like(spread, torch.inf))  # what says nothing weighs nothing
    weights = torch.zeros(len(WEIGHED), dtype=torch.float64, requires_grad=True)
    cases = [
        (torch.tensor(x, dtype=torch.float64) / spread, torch.tensor(row.holds))
        for x, row in zip(values, told, strict=True)
    ]
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        fits = [(x @ weights, holds) for x, holds in cases]
        lost = torch.stack([fit.logsumexp(0) - fit[holds].logsumexp(0) for fit, holds in fits]).mean()
        lost = lost + CHOICE_RIDGE * weights.square().sum()
        lost.backward()  # type: ignore[no-untyped-call]
        return lost

    optimizer.step(loss)  # type: ignore[no-untyped-call,arg-type]
    return Choice(*(weights.detach() / spread).tolist())


def with_margin(choice: Choice, watched: Sequence[Watched]) -> tuple[Choice, list[Margin]]:
    """The choice with the margin that finds most answers, a lost "Not stated." counted as a lost answer; of equals the
    largest margin, under which the fewest blocks are chosen instead of the first.

    Returns:
        it, and what each margin finds.
    """
    found = []
    for margin in MARGINS:
        best = [(row, replace(choice, margin=margin).best(row.evidence)) for row in watched]
        holds = sum(row.holds[n] for row, n in best)
        found.append(Margin(margin, holds, sum(row.absent and row.evidence[n].silence > SILENT for row, n in best)))
    chosen = max(found, key=lambda one: (one.holds + one.silent, one.margin))
    return replace(choice, margin=chosen.margin), found

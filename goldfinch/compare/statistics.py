"""Means with intervals, differences to the full cache, and what nothing else beats.

Intervals are bootstrap percentiles (Efron, 1979) over documents, not questions: answers from one cache are not
independent. A difference is paired: the same questions, with the method and with the full cache of the same model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES, LEVEL = 2000, 0.95
# Fewer, and resamples of them say too little: of two that agree, the interval would have no width.
LEAST_DOCUMENTS = 5


@dataclass(frozen=True)
class Mean:
    """A mean over questions.

    Attributes:
        value: of them.
        low, high: ends of its interval; None of fewer than LEAST_DOCUMENTS.
        questions, documents: how many.
    """

    value: float
    low: float | None
    high: float | None
    questions: int
    documents: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside of the interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_of(documents: Sequence[Sequence[float]]) -> Mean | None:
    """The mean over the questions of some documents; None of none.

    Args:
        documents: the scores of each.
    """
    kept = [np.asarray(scores, float) for scores in documents if len(scores)]
    if not kept:
        return None
    sums, counts = np.array([one.sum() for one in kept]), np.array([len(one) for one in kept])
    value, low, high = float(sums.sum() / counts.sum()), None, None
    if len(kept) >= LEAST_DOCUMENTS:
        drawn = np.random.default_rng(0).integers(0, len(kept), (RESAMPLES, len(kept)))
        means = sums[drawn].sum(1) / counts[drawn].sum(1)
        low, high = (float(x) for x in np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)))
    return Mean(value, low, high, int(counts.sum()), len(kept))


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other one beats: fewer bytes and no less quality, or more quality and no more bytes.

    Args:
        points: (bytes, quality).

    Returns:
        their numbers, by bytes.
    """
    order = sorted(range(len(points)), key=lambda n: (points[n][0], -points[n][1]))
    kept: list[int] = []
    best = -np.inf
    for n in order:
        if points[n][1] > best:
            kept.append(n)
            best = points[n][1]
    return kept

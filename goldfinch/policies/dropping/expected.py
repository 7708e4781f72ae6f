"""Expected Attention (arXiv 2510.00636, section 3): rows that queries like the document's own will attend to.

Queries are taken as normal, with the mean mu and the covariance S of the document's queries, per head. Of one of them
exp(q k / sqrt D) has the expectation exp(mu k / sqrt D + k S k / 2 D). Over all keys these are normalised, averaged
over the query heads of a key-value head, and multiplied by the length of the value, for that is what attention moves.
The first SINKS rows stay.

The paper averages the rotation over the positions to come; keys of models without rotary positions need none, and
models with them are refused. It needs the query of every token: time grows with the square of the length.
"""

from __future__ import annotations

import math

from torch import Tensor

from .base import Observer, at_ends, top

SINKS = 4


class _Moments:
    """Mean and covariance of the queries, those of the sinks left out."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._products: Tensor | float = 0.0

    def see(self, q: Tensor, k: Tensor, start: int) -> None:
        q = q[:, max(SINKS - start, 0) :].double()
        self._count += q.shape[1]
        self._sum = self._sum + q.sum(1)
        self._products = self._products + q.transpose(1, 2) @ q

    def scores(self, k: Tensor, v: Tensor) -> Tensor:
        k, v = k.double(), v.double()
        if not self._count:
            return v.norm(dim=-1)
        assert isinstance(self._sum, Tensor)
        mean = self._sum / self._count  # (H, D)
        covariance = self._products / self._count - mean[:, :, None] * mean[:, None]  # (H, D, D)
        (heads, width), (groups, tokens, _) = mean.shape, k.shape
        keys = k.repeat_interleave(heads // groups, dim=0)  # (H, T, D)
        expected = (keys @ mean[..., None])[..., 0] / math.sqrt(width)
        expected = expected + ((keys @ covariance) * keys).sum(-1) / (2 * width)
        weights = expected.softmax(-1).view(groups, heads // groups, tokens).mean(1)
        return weights * v.norm(dim=-1)


class ExpectedAttention:
    """Keeps rows of the highest expected attention, and the first ones."""

    def queries(self, tokens: int) -> int:
        return tokens

    def observer(self, tokens: int) -> Observer:
        return _Moments()

    def kept(self, scores: Tensor | None, tokens: int, count: int) -> Tensor:
        assert scores is not None
        return top(scores, count, at_ends(tokens, min(SINKS, count), 0, scores.device))

"""H2O (arXiv 2306.14048, sections 4.1 and 4.2): rows that got most attention, heavy hitters, and the last ones.

score(j) = sum over queries i of softmax(q_i K / sqrt D)_j, per head. Half of what is kept are the last rows, the other
half those of the highest scores among the rest. The paper evicts while it decodes; its simulation of a prompt adds up
the columns of the whole prompt, as here, and drops at the end, so that nothing dropped has to return. Early rows are
seen by more queries and win by age; the paper does not correct that.

It needs the query of every token: the upper layers run over the document, block by block, with running sums, never a
T x T matrix. Their time grows with the square of the length.
"""

from __future__ import annotations

from torch import Tensor

from .base import ColumnSums, Observer, at_ends, top


class _Sums(ColumnSums):
    def scores(self, k: Tensor, v: Tensor) -> Tensor:
        assert self.sums is not None
        return self.sums


class HeavyHitters:
    """Keeps heavy hitters and the last rows, half and half."""

    def queries(self, tokens: int) -> int:
        return tokens

    def observer(self, tokens: int) -> Observer:
        return _Sums(tokens)

    def kept(self, scores: Tensor | None, tokens: int, count: int) -> Tensor:
        assert scores is not None
        return top(scores, count, at_ends(tokens, 0, count // 2, scores.device))

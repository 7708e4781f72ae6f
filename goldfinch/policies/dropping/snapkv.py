"""SnapKV (arXiv 2404.14469, section 4): rows that the last queries attend to, and their neighbours.

With a window of the last w tokens: score(j) = sum over the w queries of softmax(q K / sqrt D)_j, smoothed along j by an
average over KERNEL rows; the window itself always stays. The paper compresses a prompt whose last tokens are the
question. A document's cache is made before there is any: its window is the document's own end, which is not what the
paper measured.

It needs the queries of the window alone: one more pass through the lower layers, and the upper layers over their last
rows. That is linear in the length.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .base import ColumnSums, Observer, at_ends, top

WINDOW, KERNEL = 32, 5


class _Window(ColumnSums):
    def scores(self, k: Tensor, v: Tensor) -> Tensor:
        assert self.sums is not None
        before = max(self._tokens - WINDOW, 0)
        found = self.sums.clone()
        if before:
            found[:, :before] = F.avg_pool1d(self.sums[:, None, :before], KERNEL, 1, KERNEL // 2)[:, 0]
        return found


class SnapKV:
    """Keeps what a window of the last tokens attends to, and the window."""

    def queries(self, tokens: int) -> int:
        return min(WINDOW, tokens)

    def observer(self, tokens: int) -> Observer:
        return _Window(tokens)

    def kept(self, scores: Tensor | None, tokens: int, count: int) -> Tensor:
        assert scores is not None
        return top(scores, count, at_ends(tokens, 0, min(WINDOW, count), scores.device))

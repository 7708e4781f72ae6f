"""Which rows of a document a cache of ours keeps: a policy's choice for all heads of all GOLD layers together, as runs,
or for each head of each other attention layer.

Notation: T document tokens, L attention layers, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from goldfinch.models.language_model import LanguageModel
from goldfinch.models.state import HeadRows, Ranges

from .base import Policy
from .expected import ExpectedAttention
from .h2o import HeavyHitters
from .named import EXPECTED, H2O, RANDOM, SNAPKV, STREAMING, Dropping
from .snapkv import SnapKV
from .streaming import Streaming
from .uniform import Uniform
from .watching import Progress, watched_scores

POLICIES: dict[str, type[Policy]] = {
    STREAMING: Streaming,
    H2O: HeavyHitters,
    SNAPKV: SnapKV,
    EXPECTED: ExpectedAttention,
    RANDOM: Uniform,
}


class Chooser:
    """Chooses rows of one document; what a policy sees of it is computed once.

    Args:
        model: with GOLD or other attention layers.
        token_ids: (1, T) int64.
        policy: a name in POLICIES.
    """

    def __init__(
        self, model: LanguageModel, token_ids: Tensor, policy: str, *, progress: Progress | None = None
    ) -> None:
        self.policy = policy
        self._chooses, self._tokens, self._tail = POLICIES[policy](), token_ids.shape[1], model.config.tail_length
        self._layers, self._heads = model.config.n_attention, model.config.d_model // model.config.head_dim
        self._scores: Tensor | None = None
        if self._chooses.queries(self._tokens):
            ids = token_ids.to(model.device)
            self._scores = watched_scores(model, ids, self._chooses, progress=progress)

    def kept(self, keep: float) -> Ranges:
        """The (start, end) of the rows to keep, ascending and apart.

        Args:
            keep: share of them. The last ones, which pass the GOLD layers again with each question, are always there.
        """
        tail = min(self._tail, self._tokens)
        count = Dropping(self.policy, keep).count(self._tokens, tail)
        # A row serves all heads of all layers: their scores are added.
        scores = None if self._scores is None else self._scores.sum((0, 1))
        rows = self._chooses.kept(scores, self._tokens, count)
        rows[self._tokens - tail :] = True
        return runs_of(rows)

    def kept_in_layers(self, keep: float) -> tuple[HeadRows, ...]:
        """The rows that the heads of each attention layer keep, as many each.

        Args:
            keep: share of them.
        """
        dropping = Dropping(self.policy, keep)
        rows = self._chooses.kept(self._scores, self._tokens, dropping.count(self._tokens, 1))
        return head_rows(rows.expand(self._layers, self._heads, -1), dropping)


def head_rows(rows: Tensor, dropping: Dropping) -> tuple[HeadRows, ...]:
    """(L, H, T) bool, as many true in each head, as what the heads of each layer keep."""
    L, H, T = rows.shape
    positions = rows.nonzero()[:, 2].view(L, H, -1).cpu().numpy()
    return tuple(HeadRows(one, T, dropping.by_slot) for one in positions)


def runs_of(rows: Tensor) -> Ranges:
    """(T,) bool as the (start, end) of what is true, ascending and apart."""
    edge = torch.zeros(1, dtype=torch.int8)
    steps = torch.diff(rows.to(torch.int8), prepend=edge, append=edge)
    starts, ends = (steps == 1).nonzero()[:, 0].tolist(), (steps == -1).nonzero()[:, 0].tolist()
    return tuple(zip(starts, ends, strict=True))

"""Which rows of a document a cache of ours keeps, as runs: a policy's choice for all heads of all GOLD layers together,
or for all heads of each other attention layer.

Notation: T document tokens, L attention layers, G key-value heads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from goldfinch.models.language_model import LanguageModel
from goldfinch.models.state import Ranges

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


# Of an attention layer: more than a policy keeps anyway, so that the last row is always among them.
LEAST_ROWS = 8


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
        self._layers = model.config.n_attention
        self._scores: Tensor | None = None
        if self._chooses.queries(self._tokens):
            ids = token_ids.to(model.device)
            self._scores = watched_scores(model, ids, self._chooses, progress=progress).sum(1)

    def kept(self, keep: float) -> Ranges:
        """The (start, end) of the rows to keep, ascending and apart.

        Args:
            keep: share of them. The last ones, which pass the GOLD layers again with each question, are always there.
        """
        tail = min(self._tail, self._tokens)
        count = Dropping(self.policy, keep).count(self._tokens, tail)
        # A row serves all heads of all layers: their scores are added.
        scores = None if self._scores is None else self._scores.sum(0)
        rows = self._chooses.kept(scores, self._tokens, count)
        rows[self._tokens - tail :] = True
        return runs_of(rows)

    def kept_in_layers(self, keep: float) -> tuple[Ranges, ...]:
        """The (start, end) of the rows that each attention layer keeps, as many each, the last one among them.

        Args:
            keep: share of them.
        """
        count = Dropping(self.policy, keep).count(self._tokens, min(LEAST_ROWS, self._tokens))
        scores = None if self._scores is None else self._scores.clone()
        if scores is not None:
            scores[:, -1] = torch.inf
        rows = self._chooses.kept(scores, self._tokens, count)
        rows[..., -1] = True
        return tuple(runs_of(one) for one in rows.expand(self._layers, -1))


def runs_of(rows: Tensor) -> Ranges:
    """(T,) bool as the (start, end) of what is true, ascending and apart."""
    edge = torch.zeros(1, dtype=torch.int8)
    steps = torch.diff(rows.to(torch.int8), prepend=edge, append=edge)
    starts, ends = (steps == 1).nonzero()[:, 0].tolist(), (steps == -1).nonzero()[:, 0].tolist()
    return tuple(zip(starts, ends, strict=True))

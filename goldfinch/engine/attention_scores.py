"""What a question and its answer read: the weights that a model's attention gives to the tokens of a document, and what
of an answer a model with a pointer copied from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from goldfinch.models.attention import watched
from goldfinch.models.layers import split_heads
from goldfinch.models.memory import GoldMemory
from goldfinch.models.state import ModelState

from .session import Session


@torch.no_grad()
def attention_to_document(
    session: Session, state: ModelState, question_ids: Sequence[int], answer_ids: Sequence[int]
) -> Tensor:
    """Attention weights (T,) that the rows which predicted the answer gave to the document, over heads and layers.

    Args:
        state: behind the document, its memory or its attention layers holding what was read.
    """
    model = session.model
    if not model.config.n_gold:
        return _of_layers(session, state, [*question_ids, *answer_ids[:-1]], len(answer_ids))
    ids = torch.tensor([[*question_ids, *answer_ids[:-1]]], dtype=torch.int64, device=model.device)
    x = session.cache.tail_hidden[:, :0]
    if ids.shape[1]:  # else one token behind the bare document, which the tail predicts
        x, state = model.run_prefill_layers(ids, state)
        state = model.remember(state, ids, model.compress_keys(x))
    assert isinstance(state.memory, GoldMemory)
    recorder = _Recorder(state.memory, len(answer_ids))
    model.run_gold_layers(torch.cat([session.cache.tail_hidden, x], dim=1), replace(state, memory=recorder))
    return recorder.weights


@torch.no_grad()
def copied_from(session: Session, state: ModelState, question_ids: Sequence[int], answer_ids: Sequence[int]) -> Tensor:
    """How much of the probability of an answer's tokens comes from copying each token of the document, (T,), added up.

    Args:
        state: behind the document, its memory holding what was read.
        question_ids: may be empty.
        answer_ids: one or more.

    Returns:
        zeros for a model that copies nothing; else a sum of at most the number of the answer's tokens.
    """
    model = session.model
    weights = torch.zeros(session.cache.length, device=model.device)
    if not model.config.pointer_width:
        return weights  # before anything runs: the attention is what is asked next
    before, state = session.behind_layers(list(question_ids), state)
    pointing, memory = state.pointing, state.memory
    if pointing is None or not isinstance(memory, GoldMemory) or memory.document is None:
        return weights
    positions = memory.document.positions()
    ids = torch.tensor([list(answer_ids)], dtype=torch.int64, device=model.device)
    if len(answer_ids) > 1:
        rest, state = model.hidden(ids[:, :-1], state)
        before = torch.cat([before, rest], dim=1)
    shares = model.copied(before, ids, pointing)[0].sum(0)  # (n,)
    weights[positions] = shares.to(weights.dtype)
    return weights


def _of_layers(session: Session, state: ModelState, token_ids: Sequence[int], rows: int) -> Tensor:
    """The weights (T,) of layers that keep keys and values, of the last `rows` tokens; none before the first token."""
    model = session.model
    weights = torch.zeros(session.cache.length, device=model.device)
    if not token_ids:
        return weights
    with watched(model) as seen:
        model.run_prefill_layers(torch.tensor([list(token_ids)], dtype=torch.int64, device=model.device), state)
    keeping = [layer for layer in state.layers if layer.keys.length]
    for (_, q, k), layer in zip(seen, keeping, strict=True):
        held = layer.held_positions()  # (n,), or (H, n)
        q = q[0, :, -rows:].float()
        scores = q @ k[0].float().transpose(-1, -2) / math.sqrt(q.shape[-1])  # (H, N, held rows + own rows)
        later = torch.ones(scores.shape[1:], dtype=torch.bool, device=k.device).triu(k.shape[2] - q.shape[1] + 1)
        by_head = scores.masked_fill(later, -torch.inf).softmax(-1)[..., : held.shape[-1]].sum(1)  # (H, n)
        weights.index_add_(0, held.expand_as(by_head).flatten(), by_head.flatten())
    return weights


class _Recorder:
    """A GOLD memory that notes the attention weights of its last rows.

    Args:
        memory: the memory.
        rows: N.
    """

    def __init__(self, memory: GoldMemory, rows: int) -> None:
        assert memory.document is not None
        self._memory, self._rows = memory, rows
        self.weights = torch.zeros(memory.document.length, device=memory.document.token_ids.device)

    @property
    def length(self) -> int:
        return self._memory.length

    def attend(self, index: int, q: Tensor) -> Tensor:
        document = self._memory.document
        assert document is not None
        document_scores, own_scores = self._scores(index, q[0, :, -self._rows :].float())
        both = torch.cat([document_scores, own_scores], dim=-1).softmax(-1)  # (H, N, held rows + own rows)
        self.weights[document.positions()] += both[..., : document_scores.shape[-1]].sum((0, 1))
        return self._memory.attend(index, q)

    def _scores(self, index: int, q: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (H, N, T) against the document and (H, N, n) against the rows after it, -inf where not yet there."""

        def scores(k: Tensor) -> Tensor:
            return q @ split_heads(k, q.shape[-1]).transpose(1, 2)[0].float().transpose(-1, -2)

        memory, document = self._memory, self._memory.document
        assert document is not None
        scale = 1 / math.sqrt(q.shape[-1])
        if document.expanded is not None:
            blocks: list[Any] = [document.expanded[index][0]]
        else:
            blocks = [k for _, (k, _) in memory.executor.rebuilt(document, index)]
        parts = [scores(k) for k in blocks]
        own = q.new_zeros(*q.shape[:-1], 0)  # a single token behind the bare document
        if memory.expanded:
            own = scores(memory.expanded[index][0].rows)
        n = own.shape[-1]
        later = torch.ones(self._rows, n, dtype=torch.bool, device=q.device).triu(n - self._rows + 1)
        return torch.cat(parts, dim=-1) * scale, (own * scale).masked_fill(later, -torch.inf)

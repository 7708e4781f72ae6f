"""A document through the attention layers, block by block, with observers beside them: what dropping policies see.

Notation: T document tokens, L attention layers, H query heads, G key-value heads, D head dim, C = H D.

A pre-fill runs no GOLD layer, so a policy that looks at queries reads the document once more: the lower layers as in a
pre-fill, and the upper ones over the rows whose queries are wanted, with keys and values of all rows held in memory.
Scores are added up; what is alive of the attention at a time is a few queries by all keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from goldfinch.models.attention import watched
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.layers import split_heads
from goldfinch.models.memory import GoldMemory
from goldfinch.models.state import ModelState

from .base import Observer, Policy

# Called with (tokens done, T).
Progress = Callable[[int, int], None]


@torch.no_grad()
def watched_scores(
    model: LanguageModel,
    token_ids: Tensor,
    policy: Policy,
    *,
    block_tokens: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """What a policy makes of each row, (L, G, T) float64 on the CPU.

    Args:
        model: with attention layers.
        token_ids: (1, T) int64, on its device.
        policy: one that looks at queries.
        block_tokens: tokens at a time, those of the executor by default; the result is the same up to rounding.
    """
    tokens, config = token_ids.shape[1], model.config
    observers = [policy.observer(tokens) for _ in range(config.n_gold or config.n_attention)]
    run = _gold if config.n_gold else _layers
    pairs = run(model, token_ids, policy, observers, block_tokens or model.executor.block_tokens, progress)
    found = [observer.scores(k, v) for observer, (k, v) in zip(observers, pairs, strict=True)]
    return torch.stack(found).cpu()


def _gold(
    model: LanguageModel,
    token_ids: Tensor,
    policy: Policy,
    observers: Sequence[Observer],
    block_tokens: int,
    progress: Progress | None,
) -> list[tuple[Tensor, Tensor]]:
    """Run a document through a model with GOLD layers; keys and values (H, T, D) of each of these."""
    tokens, tail = token_ids.shape[1], model.config.tail_length
    wanted = tokens - policy.queries(tokens)  # the first query
    first = max(wanted - tail, 0)  # of the rows before it, token shifts reach so many
    state, rows = model.empty_state(), list[Tensor]()
    for start in range(0, tokens, block_tokens):
        ids = token_ids[:, start : start + block_tokens]
        end = start + ids.shape[1]
        x, state = model.run_prefill_layers(ids, state)
        state = model.remember(state, ids, model.compress_keys(x))
        if first == 0:  # all of them: nothing waits for the end
            state = _observed(model, x, state, observers, wanted)
        elif end > first:
            rows.append(x[:, max(first - start, 0) :])
        if progress is not None:
            progress(end, tokens)
    if rows:
        state = _observed(model, torch.cat(rows, dim=1), state, observers, wanted)
    assert isinstance(state.memory, GoldMemory)
    return [(_heads(model, k.rows), _heads(model, v.rows)) for k, v in state.memory.expanded]


def _observed(
    model: LanguageModel, x: Tensor, state: ModelState, observers: Sequence[Observer], wanted: int
) -> ModelState:
    """The GOLD layers over the last rows of a memory, the queries from `wanted` on shown to the observers."""
    memory = state.memory
    assert isinstance(memory, GoldMemory)
    _, after = model.run_gold_layers(x, replace(state, memory=_Watching(model, memory, observers, wanted)))
    return replace(after, memory=memory)


class _Watching:
    """A GOLD memory beside which observers stand."""

    def __init__(self, model: LanguageModel, memory: GoldMemory, observers: Sequence[Observer], wanted: int) -> None:
        self._model, self._memory, self._observers, self._wanted = model, memory, observers, wanted

    @property
    def length(self) -> int:
        return self._memory.length

    def attend(self, index: int, q: Tensor) -> Tensor:
        """Attend as the memory does."""
        start = self.length - q.shape[2]
        passed = max(self._wanted - start, 0)
        if passed < q.shape[2]:
            keys = _heads(self._model, self._memory.expanded[index][0].rows)
            self._observers[index].see(q[0, :, passed:], keys, start + passed)
        return self._memory.attend(index, q)


def _heads(model: LanguageModel, rows: Tensor) -> Tensor:
    """(1, T, C) -> (H, T, D), a view."""
    return split_heads(rows, model.config.head_dim)[0].transpose(0, 1)


def _layers(
    model: LanguageModel,
    token_ids: Tensor,
    policy: Policy,
    observers: Sequence[Observer],
    block_tokens: int,
    progress: Progress | None,
) -> list[tuple[Tensor, Tensor]]:
    """The same of a model whose attention layers keep keys and values (GPTAlpha, Llama); keys rotated."""
    tokens = token_ids.shape[1]
    wanted, state, keys = tokens - policy.queries(tokens), model.empty_state(), list[Tensor]()
    for start in range(0, tokens, block_tokens):
        ids = token_ids[:, start : start + block_tokens]
        with watched(model) as seen:
            _, state = model.run_prefill_layers(ids, state)
        passed = max(wanted - start, 0)
        for observer, (_, q, k) in zip(observers, seen, strict=True):
            if passed < q.shape[2]:
                observer.see(q[0, :, passed:], k[0], start + passed)
        keys = [k[0] for _, _, k in seen]
        if progress is not None:
            progress(start + ids.shape[1], tokens)
    values = [_heads(model, layer.values.rows) for layer in state.layers if layer.keys.length]
    return list(zip(keys, values, strict=True))

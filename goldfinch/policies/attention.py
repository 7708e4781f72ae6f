"""Blocks that the question's own queries fit: InfLLM (arXiv 2402.04617, section 3), as arXiv 2407.01527 tests it.

Notation: T document tokens, N = ceil(T / BLOCK) blocks, G GOLD or other attention layers, H heads, D head dim, C = H D.

A document is cut into blocks of BLOCK tokens. Of each block, REPRESENTATIVES tokens stand for it, chosen by layer:

    token(g, t) = query(g) . key(g, t) / sqrt(D)     heads side by side, so (C,) each
    score(block) = sum over g of the mean of the REPRESENTATIVES highest token(g, t) in it

The query is that of the question's last token, which predicts the first of the answer, with the question behind the
document's first token and its last ones, which InfLLM holds at all times too. Where InfLLM chooses for each layer, and
anew for each token of the answer, one choice is made here: what is read is the same for every layer and all the answer.

InfLLM takes as representatives the tokens that those behind them attended to most while the document was read. No GOLD
layer runs while a GoldFinch document is read, so there are no such queries, and the caches of other models keep keys,
not queries. But every key can be had when the question is there, so the question itself says which tokens of a block
stand for it. It costs the keys of the whole document, once per question: linear in its length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from goldfinch.models.attention import watched
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.memory import GoldMemory
from goldfinch.models.state import GoldDocument, ModelState
from goldfinch.text.prompt import question_token_ids

from .blocks import TokenMap, map_tokens
from .places import Found

BLOCK = 128
REPRESENTATIVES = 4
# Question tokens per pass through the Finch layers.
QUESTION_BLOCK = 512


class TokenScores(Protocol):
    """How well the rows of one cache fit a question, by the model's own attention."""

    def __call__(self, token_ids: Sequence[int]) -> Tensor:
        """What the query of the question's last token gives to each row, (G, rows) float32 on the CPU.

        Args:
            token_ids: of the question, one or more.
        """


class AttentionFinder:
    """Scores blocks of one document by the queries of questions.

    Args:
        model: that is asked; it has a tokenizer.
        token_scores: of its cache's rows.
        own_token_ids: of the document.
        document_range: (start, end) of the rows that are the document's own.
    """

    def __init__(
        self,
        model: LanguageModel,
        token_scores: TokenScores,
        own_token_ids: np.ndarray,
        document_range: tuple[int, int],
    ) -> None:
        self._model, self.token_scores, self._ids = model, token_scores, own_token_ids
        self._start, self._end = document_range
        self._last: tuple[Sequence[int], np.ndarray] | None = None

    @cached_property
    def _tokens(self) -> TokenMap:
        return map_tokens(self._model.tokenizer, self._ids.tolist())

    def best(self, question: str, most: int) -> list[Found]:
        """The best blocks for a question, best first; ties go to the earlier block.

        Args:
            most: how many at most.
        """
        scores = self.scores(question_token_ids(self._model, question))
        order = np.argsort(-scores, kind="stable")[:most]
        return [self._found(int(n), float(scores[n])) for n in order]

    def _found(self, block: int, score: float) -> Found:
        first, last = self.blocks[block]
        starts, line = self._tokens.starts, self._tokens.line
        return Found(block, score, line(starts[first]), line(starts[last - 1]), ((first, last),))

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(first, past the last) token of each block, counted in the document's own tokens."""
        length = self._end - self._start
        return [(at, min(at + BLOCK, length)) for at in range(0, length, BLOCK)]

    def scores(self, token_ids: Sequence[int]) -> np.ndarray:
        """How well each block fits a question, (N,) float64.

        Args:
            token_ids: of the question, one or more.
        """
        if self._last is None or self._last[0] != token_ids:
            tokens = self.token_scores(token_ids)[:, self._start : self._end]
            self._last = (list(token_ids), block_scores(tokens))
        return self._last[1]


class GoldScores:
    """The `TokenScores` of a model with GOLD layers.

    Args:
        model: that is asked.
        document: token ids and compressed keys.
        state: behind the document, its layers alone.
        tail_hidden: (1, K, C), which pass the GOLD layers again with the question.
    """

    def __init__(self, model: LanguageModel, document: GoldDocument, state: ModelState, tail_hidden: Tensor) -> None:
        self._model, self._document, self._state, self._tail = model, document, state, tail_hidden

    @torch.no_grad()
    def __call__(self, token_ids: Sequence[int]) -> Tensor:
        scores = []
        for index, query in enumerate(self._queries(token_ids)):
            parts = [k[0].float() @ query for _, (k, _) in self._model.executor.rebuilt(self._document, index)]
            scores.append(torch.cat(parts).cpu() / math.sqrt(self._model.config.head_dim))
        return torch.stack(scores)

    def _queries(self, token_ids: Sequence[int]) -> list[Tensor]:
        """The query of a question's last token in each GOLD layer, (C,) float32."""
        model, length = self._model, self._document.length
        tail = max(length - model.config.tail_length, 0)
        near = ((0, length),) if tail <= 1 else ((0, 1), (tail, length))
        memory = GoldMemory(model.executor, model.executor.expand(self._document, near))
        state, rows = replace(self._state, memory=memory), [self._tail]
        ids = torch.tensor([list(token_ids)], dtype=torch.int64, device=model.device)
        for start in range(0, ids.shape[1], QUESTION_BLOCK):
            block = ids[:, start : start + QUESTION_BLOCK]
            x, state = model.run_prefill_layers(block, state)
            state = model.remember(state, block, model.compress_keys(x))
            rows.append(x)
        assert isinstance(state.memory, GoldMemory)
        recorder = _Recorder(state.memory)
        last = torch.cat(rows, dim=1)[:, -model.config.tail_length :]
        model.run_gold_layers(last, replace(state, memory=recorder))
        return recorder.queries


def block_scores(token_scores: Tensor) -> np.ndarray:
    """The scores of blocks, (N,) float64, from those of their tokens, (G, T)."""
    parts = token_scores.double().split(BLOCK, dim=-1)
    best = [part.topk(min(REPRESENTATIVES, part.shape[-1]), dim=-1).values.mean(-1).sum() for part in parts]
    return torch.stack(best).numpy()


class LayerScores:
    """The `TokenScores` of a model whose layers keep keys and values (GPTAlpha, Llama), rotated to where they stand.

    Args:
        model: that is asked.
        state: behind the document.
    """

    def __init__(self, model: LanguageModel, state: ModelState) -> None:
        self._model, self._state = model, state

    @torch.no_grad()
    def __call__(self, token_ids: Sequence[int]) -> Tensor:
        model, length = self._model, self._state.position
        near = ((0, length),) if length <= 2 else ((0, 1), (length - 1, length))
        state = self._state.holding(near)
        for ids in torch.tensor([list(token_ids)], dtype=torch.int64, device=model.device).split(QUESTION_BLOCK, dim=1):
            with watched(model) as seen:
                _, state = model.run_prefill_layers(ids, state)
        scores, keeping = [], [layer for layer in self._state.layers if layer.keys.length]
        for (core, q, _), layer in zip(seen, keeping, strict=True):
            query, keys = q[0, :, -1:].float(), core.keys(layer)[0].float()  # (H, 1, D), (H, rows, D)
            scores.append((query @ keys.transpose(-1, -2)).sum((0, 1)).cpu() / math.sqrt(model.config.head_dim))
        return torch.stack(scores)


class _Recorder:
    """A GOLD memory that notes the last query of each layer."""

    def __init__(self, memory: GoldMemory) -> None:
        self._memory = memory
        self.queries: list[Tensor] = []

    @property
    def length(self) -> int:
        return self._memory.length

    def attend(self, index: int, q: Tensor) -> Tensor:
        """Attend as the memory does."""
        self.queries.append(q[0, :, -1].float().flatten())
        return self._memory.attend(index, q)

"""The readable executor: every layer as its module says, in plain torch; the base class of the faster ones.

Notation: B batch, T tokens, C d_model, R = C / compression_ratio, H heads, D head dim, N documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from gfkernels import attend_block, attend_expanded, causal_attention, merge_partials
from torch import Tensor

from .executor import REBUILD_BLOCK, Decoder, KeysValues, Partial, block_tokens_of, blocks_of
from .layers import rms_scale, split_heads, token_shift
from .memory import GoldMemory
from .stack import Stack
from .state import GoldDocument, LayerState, Memory, ModelState, Ranges


class TorchExecutor:
    """Runs the layers of a model in plain torch; contract of each method in `executor.Executor`.

    Args:
        model: whose layers it runs.
        name: for the numerics of caches.
    """

    fewest_batch_rows = 2

    def __init__(self, model: Stack, name: str = "torch") -> None:
        self.model, self.name = model, name

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies lay out weights of their own."""
        return type(self), (self.model, self.name)

    @property
    def block_tokens(self) -> int:
        return block_tokens_of(self.name, self.model.device.type)

    @property
    def packing_obstacle(self) -> str | None:
        return f"the {self.name} backend on {self.model.device.type} takes one document at a time"

    def lower_layers(
        self, token_ids: Tensor, states: Sequence[LayerState], lengths: Sequence[int] | None = None
    ) -> tuple[Tensor, list[LayerState]]:
        if lengths is not None:
            return self._one_by_one(token_ids, states, lengths)
        states = list(states)
        x = self.model.embed(token_ids)
        for i in range(self.model.config.n_prefill):
            x, states[i] = self.model.blocks[i](x, states[i])
        return x, states

    def _one_by_one(
        self, token_ids: Tensor, states: Sequence[LayerState], lengths: Sequence[int]
    ) -> tuple[Tensor, list[LayerState]]:
        rows, ends = [], []
        for n, ids in enumerate(token_ids.split(list(lengths), dim=1)):
            x, after = self.lower_layers(ids, [state.select(slice(n, n + 1)) for state in states])
            rows.append(x)
            ends.append(after)
        return torch.cat(rows, dim=1), [LayerState.stack(layer) for layer in zip(*ends, strict=True)]

    def upper_layers(self, x: Tensor, states: Sequence[LayerState], memory: Memory) -> tuple[Tensor, list[LayerState]]:
        states, first = list(states), self.model.config.n_prefill
        for i in range(first, self.model.config.n_layer):
            x, states[i] = self.model.blocks[i](x, states[i], memory, i - first)
        return x, states

    def rebuild(
        self,
        token_ids: Tensor,
        compressed_k: Tensor,
        previous: tuple[Tensor, Tensor] | None,
        start: int | Tensor,
        only: int | None = None,
    ) -> list[KeysValues]:
        token_ids, compressed_k = with_previous(token_ids, compressed_k, previous)
        layers = self.model.gold_layers if only is None else [self.model.gold_layers[only]]
        e = self.model.embed(token_ids)
        e_bar, kappa = rms_scale(e), self.model.k_cache_rows(e, compressed_k)
        e_shift, kappa_shift = token_shift(e_bar, None), token_shift(kappa, None)
        if previous is not None:
            e_bar, e_shift, kappa, kappa_shift = (x[:, 1:] for x in (e_bar, e_shift, kappa, kappa_shift))
        return [layer.keys_values(e_bar, e_shift, kappa, kappa_shift, start) for layer in layers]

    def rebuilt(self, document: GoldDocument, index: int) -> Iterator[tuple[int, KeysValues]]:
        for start, end, _ in blocks_of(document.ranges, REBUILD_BLOCK):
            yield start, self._block(document, start, end, index)[0]

    def _block(self, document: GoldDocument, start: int, end: int, only: int | None = None) -> list[KeysValues]:
        ids, c = document.token_ids[:, start:end], document.compressed_k[:, start:end]
        return self.rebuild(ids, c, document.row_before(start), document.turned_to(start), only)

    def expand(self, document: GoldDocument, rows: Ranges | None = None) -> GoldDocument:
        ranges = ((0, document.length),) if rows is None else rows
        count = sum(end - start for start, end in ranges)
        shape = (document.token_ids.shape[0], count, self.model.config.d_model)
        empty = partial(torch.empty, shape, dtype=document.compressed_k.dtype, device=document.compressed_k.device)
        pairs = tuple((empty(), empty()) for _ in self.model.gold_layers)
        self._fill(document, ranges, pairs)
        return replace(document, expanded=pairs, rows=rows)

    def _fill(self, document: GoldDocument, ranges: Ranges, pairs: Sequence[KeysValues]) -> None:
        """Put keys and values of the rows of `ranges` into `pairs`, per GOLD layer (K, V), (1, n, C) each."""
        for start, end, at in blocks_of(ranges, REBUILD_BLOCK):
            for (all_k, all_v), (k, v) in zip(pairs, self._block(document, start, end), strict=True):
                all_k[:, at : at + end - start] = k
                all_v[:, at : at + end - start] = v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, q_start: int, k_start: int) -> Iterator[Partial]:
        yield from attend_expanded(q, _heads(q, k), _heads(q, v), q_start, k_start)

    def attend_document(self, index: int, q: Tensor, q_start: int, document: GoldDocument) -> Iterator[Partial]:
        if q.shape[0] > 1 and q.shape[2] == 1 and q_start >= document.length - 1:
            # One query of each of B sequences, all behind the document: as B queries of one, in one product.
            for out, lse in self.attend_document(index, q.permute(2, 1, 0, 3), q_start, document):
                yield out.permute(2, 1, 0, 3), lse.permute(2, 1, 0)
        elif document.expanded is not None:
            k, v = document.expanded[index]
            for rows, k_start in document.pieces(q_start):
                yield from self.attend(q, k[:, rows], v[:, rows], q_start, k_start)
        else:
            for start, (k, v) in self.rebuilt(document, index):
                yield attend_block(q, _heads(q, k), _heads(q, v), q_start, start)

    def attend_memory(self, index: int, q: Tensor, memory: GoldMemory) -> Tensor:
        if memory.document is None and q.shape[2] == memory.token_ids.length:
            k, v = (_heads(q, x.rows) for x in memory.expanded[index])
            return causal_attention(q, k, v)
        return merge_partials(self._partials(index, q, memory, memory.length - q.shape[2]))[0].to(q.dtype)

    def _partials(self, index: int, q: Tensor, memory: GoldMemory, q_start: int) -> Iterator[Partial]:
        if memory.document is not None:
            yield from self.attend_document(index, q, q_start, memory.document)
        if memory.token_ids.length:
            k, v = (x.rows for x in memory.expanded[index])
            yield from self.attend(q, k, v, q_start, memory.document_length)

    def decoder(self, state: ModelState, capacity: int) -> Decoder | None:
        return None


def _heads(q: Tensor, rows: Tensor) -> Tensor:
    """Rows (B, n, C) in heads as q has them: (B, H, n, D), a view."""
    return split_heads(rows, q.shape[-1]).transpose(1, 2)


def with_previous(
    token_ids: Tensor, compressed_k: Tensor, previous: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Rows with the one before them in front, where there is one."""
    if previous is None:
        return token_ids, compressed_k
    return (
        torch.cat([previous[0].expand(token_ids.shape[0], 1), token_ids], dim=1),
        torch.cat([previous[1].expand(compressed_k.shape[0], 1, -1), compressed_k], dim=1),
    )

"""GOLD attention (GoldFinch sections 3.2 to 3.4): attention whose keys and values are rebuilt from token ids
and a 16 times narrower compressed key that all GOLD layers share.

Notation: B batch, T tokens, C d_model, R = C / compression_ratio, H heads, D head dim.
e = LN(emb[token]); e_bar = rms(e); c = compressed_k; kappa = k_cache row (TokenCat output, paper eq. 15).

Keys and values of a token never depend on a GOLD layer's output. That is what makes prefill skip these
layers, and what lets a cache hold nothing but (token id, c) per token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from gfkernels import attend_block, attend_expanded, causal_attention, merge_partials
from torch import Tensor, nn

from goldfinch.backends.native import decode as decode_native
from goldfinch.backends.native import gold as gold_native
from goldfinch.backends.triton import gold as gold_triton

from .config import ModelConfig
from .layers import (
    SHIFT_LORA_RANK,
    Linear,
    Rope,
    channel_ramp,
    lora_pair,
    mix_vector,
    rms_scale,
    split_heads,
    token_shift,
)
from .state import GrowingBuffer, LayerState

if TYPE_CHECKING:
    from .language_model import LanguageModel

# Tokens rebuilt at a time; the transient keys and values of one block, whatever the context, stay this small.
REBUILD_BLOCK = 2048


class GoldTimeMix(nn.Module):
    """One GOLD attention layer: queries from the stream, keys and values from the shared cache."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        C, rank = config.d_model, max(config.d_model // 16, 64)
        self.config = config
        ramp = channel_ramp(config, layer, 1.0)
        self.time_maa_x = mix_vector(ramp)
        self.time_maa_q = mix_vector(channel_ramp(config, layer, 0.5))
        self.time_maa_k = mix_vector(ramp)
        self.time_maa_v = mix_vector(ramp)
        self.time_maa_v_cache = mix_vector(ramp)
        self.time_maa_q_w1, self.time_maa_q_w2 = lora_pair(C, SHIFT_LORA_RANK, C)
        self.time_maa_kv_w1 = nn.Parameter(torch.zeros(C, 2 * SHIFT_LORA_RANK))
        self.time_maa_kv_w2 = nn.Parameter(torch.empty(2, SHIFT_LORA_RANK, C).uniform_(-0.01, 0.01))
        self.time_key_w1, self.time_key_w2 = lora_pair(C, rank, C)
        self.time_value_w1, self.time_value_w2 = lora_pair(C, rank, C)
        self.query = Linear(C, C)
        self.output = Linear(C, C)
        nn.init.orthogonal_(self.query.weight)
        nn.init.zeros_(self.output.weight)
        self.ln_q, self.ln_k, self.ln_v, self.ln_x = (nn.LayerNorm(C) for _ in range(4))
        self.rope = Rope(config.rope, config.head_dim) if config.rope else None

    def keys_values(
        self, e_bar: Tensor, e_shift: Tensor, kappa: Tensor, kappa_shift: Tensor, start: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of this layer (paper eq. 18-20), keys already rotated.

        Args:
            e_bar, e_shift, kappa, kappa_shift: (B, T, C) and their token shifts.
            start: absolute position of the first row, (1,) where a graph is to read it.

        Returns:
            K and V, (B, T, C).
        """
        z = torch.tanh(torch.addcmul(e_bar, e_shift, self.time_maa_v_cache) @ self.time_maa_kv_w1)
        z_k, z_v = z.split(SHIFT_LORA_RANK, dim=-1)
        a = torch.addcmul(kappa, kappa_shift, self.time_maa_k + z_k @ self.time_maa_kv_w2[0])
        b = torch.addcmul(e_bar, e_shift, self.time_maa_v + z_v @ self.time_maa_kv_w2[1])
        k = self.ln_k(a + torch.tanh(a @ self.time_key_w1) @ self.time_key_w2)
        v = self.ln_v(b + torch.tanh(b @ self.time_value_w1) @ self.time_value_w2)
        if self.rope is not None:
            k = self.rope(self.heads(k), start).transpose(1, 2).flatten(-2)
        return k, v

    def heads(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, H, T, D), a view."""
        return split_heads(x, self.config.head_dim).transpose(1, 2)

    def forward(self, h: Tensor, state: LayerState, memory: GoldMemory, index: int) -> tuple[Tensor, LayerState]:
        """Attend from the last rows of the sequence to all of it.

        Args:
            h: normed input of the last T positions that `memory` holds, (B, T, C).
            state: shift states before those rows.
            memory: keys and values of the whole sequence, these rows included.
            index: 0-based number of this layer among the GOLD layers.

        Returns:
            out (B, T, C) and the layer's state after it.
        """
        shift = token_shift(h, state.time_shift_state)
        low_rank = torch.tanh(torch.addcmul(h, shift, self.time_maa_x) @ self.time_maa_q_w1) @ self.time_maa_q_w2
        q = self.ln_q(self.query(torch.addcmul(h, shift, self.time_maa_q + low_rank)))
        q_start = memory.length - h.shape[1]
        q = self.heads(q)
        if self.rope is not None:
            q = self.rope(q, q_start)
        y = memory.attend(self, index, q, q_start)
        out = self.output(self.ln_x(y.transpose(1, 2).flatten(-2)))
        return out, replace(state, time_shift_state=h[:, -1])


@dataclass(frozen=True)
class GoldDocument:
    """The part of a GOLD memory that came from a cache file: shared, never changed.

    Attributes:
        token_ids: (1, T) int64.
        compressed_k: (1, T, R) in the compute dtype.
        expanded: per GOLD layer (K, V), each (1, T, C), or None: then both are rebuilt block by block at
            every use and nothing is kept.
    """

    token_ids: Tensor
    compressed_k: Tensor
    expanded: tuple[tuple[Tensor, Tensor], ...] | None = None

    @property
    def length(self) -> int:
        return self.token_ids.shape[1]


@dataclass(frozen=True)
class GoldMemory:
    """What all GOLD layers of one sequence share: a document from a cache, and the rows since.

    Attributes:
        model: owner of the weights that rebuild keys and values.
        document: rows that came from a cache file, or None.
        token_ids: (B, n) rows after the document.
        compressed_k: (B, n, R).
        expanded: per GOLD layer buffers of K and V (B, n, C) of the rows after the document.
    """

    model: LanguageModel
    document: GoldDocument | None = None
    token_ids: GrowingBuffer = field(default_factory=GrowingBuffer)
    compressed_k: GrowingBuffer = field(default_factory=GrowingBuffer)
    expanded: tuple[tuple[GrowingBuffer, GrowingBuffer], ...] = ()

    @property
    def document_length(self) -> int:
        return 0 if self.document is None else self.document.length

    @property
    def length(self) -> int:
        return self.document_length + self.token_ids.length

    @property
    def is_expanded(self) -> bool:
        """Whether keys and values of every row are held."""
        return self.document is None or self.document.expanded is not None

    def previous_row(self) -> tuple[Tensor, Tensor] | None:
        """(token id (B, 1), compressed_k (B, 1, R)) of the last row, None when empty."""
        if self.token_ids.length:
            return self.token_ids.rows[:, -1:], self.compressed_k.rows[:, -1:]
        if self.document is not None and self.document.length:
            return self.document.token_ids[:, -1:], self.document.compressed_k[:, -1:]
        return None

    def append(self, token_ids: Tensor, compressed_k: Tensor) -> GoldMemory:
        """The memory with new rows: token_ids (B, n) and compressed_k (B, n, R)."""
        pairs = rebuild_keys_values(self.model, token_ids, compressed_k, self.previous_row(), self.length)
        old = self.expanded or tuple((GrowingBuffer(), GrowingBuffer()) for _ in pairs)
        expanded = tuple((k.append(new_k), v.append(new_v)) for (k, v), (new_k, new_v) in zip(old, pairs, strict=True))
        return replace(
            self,
            token_ids=self.token_ids.append(token_ids),
            compressed_k=self.compressed_k.append(compressed_k),
            expanded=expanded,
        )

    def attend(self, layer: GoldTimeMix, index: int, q: Tensor, q_start: int) -> Tensor:
        """Attention of q (B, H, Tq, D), the first at position q_start, over the whole memory."""
        if self.document is None and q.shape[2] == self.token_ids.length:
            k, v = (layer.heads(x.rows) for x in self.expanded[index])
            return causal_attention(q, k, v)
        return merge_partials(self._partials(layer, index, q, q_start))[0].to(q.dtype)

    def _partials(self, layer: GoldTimeMix, index: int, q: Tensor, q_start: int) -> Iterator[tuple[Tensor, Tensor]]:
        document = self.document
        if not torch.is_grad_enabled() and self.model.layer_backend() == "triton":
            yield from self._partials_triton(layer, index, q, q_start)
            return
        if document is not None:
            if document.expanded is not None:
                k, v = (layer.heads(x) for x in document.expanded[index])
                yield from attend_expanded(q, k, v, q_start)
            else:
                for start, (k, v) in rebuilt_blocks(self.model, document, index):
                    yield attend_block(q, layer.heads(k), layer.heads(v), q_start, start)
        if self.token_ids.length:
            k, v = (layer.heads(x.rows) for x in self.expanded[index])
            yield from attend_expanded(q, k, v, q_start, self.document_length)

    def _partials_triton(
        self, layer: GoldTimeMix, index: int, q: Tensor, q_start: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        document = self.document
        if document is not None and document.expanded is not None:
            k, v = (layer.heads(x) for x in document.expanded[index])
            yield gold_triton.attend(q, k, v, q_start, 0)
        elif document is not None:
            yield from gold_triton.attend_rebuilt(self.model, document, index, q, q_start)
        if self.token_ids.length:
            k, v = (layer.heads(x.rows) for x in self.expanded[index])
            yield gold_triton.attend(q, k, v, q_start, self.document_length)


def k_cache_rows(model: LanguageModel, e: Tensor, compressed_k: Tensor) -> Tensor:
    """TokenCat (paper eq. 15): kappa = rms([e, c] W_KU), (B, T, C)."""
    return rms_scale(model.w_kv_cache_b(torch.cat([e, compressed_k], dim=-1)))


def rebuild_keys_values(
    model: LanguageModel,
    token_ids: Tensor,
    compressed_k: Tensor,
    previous: tuple[Tensor, Tensor] | None,
    start: int | Tensor,
    only: int | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of the GOLD layers for consecutive rows.

    Args:
        token_ids: (B, T); compressed_k: (B, T, R).
        previous: the row before them, as `GoldMemory.previous_row` gives it.
        start: absolute position of the first row; a tensor (1,) where a captured graph is to read it.
        only: 0-based GOLD layer to rebuild, or None for all.

    Returns:
        (K, V), each (B, T, C), per layer.
    """
    if previous is not None:
        token_ids = torch.cat([previous[0].expand(token_ids.shape[0], 1), token_ids], dim=1)
        compressed_k = torch.cat([previous[1].expand(compressed_k.shape[0], 1, -1), compressed_k], dim=1)
    layers = model.gold_layers if only is None else [model.gold_layers[only]]
    if not isinstance(start, Tensor) and model.fused_backend(token_ids) == "native":
        if only is None and token_ids.shape[1] - (previous is not None) == 1:
            return decode_native.rebuild_row(model, token_ids, compressed_k, start)
        return gold_native.keys_values(model, layers, token_ids, compressed_k, previous is not None, start)
    e = model.embed(token_ids)
    e_bar, kappa = rms_scale(e), k_cache_rows(model, e, compressed_k)
    e_shift, kappa_shift = token_shift(e_bar, None), token_shift(kappa, None)
    if previous is not None:
        e_bar, e_shift, kappa, kappa_shift = (x[:, 1:] for x in (e_bar, e_shift, kappa, kappa_shift))
    return [layer.keys_values(e_bar, e_shift, kappa, kappa_shift, start) for layer in layers]


def rebuilt_blocks(
    model: LanguageModel, document: GoldDocument, only: int | None
) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """(start, (K, V)) of one GOLD layer, block by block over the document."""
    for start, pairs in _rebuilt(model, document, only):
        yield start, pairs[0]


def _rebuilt(
    model: LanguageModel, document: GoldDocument, only: int | None
) -> Iterator[tuple[int, list[tuple[Tensor, Tensor]]]]:
    ids, c = document.token_ids, document.compressed_k
    for start, end, has_previous in _blocks(document):
        previous = (ids[:, start - 1 : start], c[:, start - 1 : start]) if has_previous else None
        yield start, rebuild_keys_values(model, ids[:, start:end], c[:, start:end], previous, start, only)


def _blocks(document: GoldDocument) -> Iterator[tuple[int, int, int]]:
    """(start, end, rows before it that the token shift needs: 0 or 1) of the blocks of a document."""
    for start in range(0, document.length, REBUILD_BLOCK):
        yield start, min(start + REBUILD_BLOCK, document.length), min(start, 1)


def expand_document(model: LanguageModel, document: GoldDocument) -> GoldDocument:
    """The same document with keys and values of every GOLD layer held in memory."""
    C = model.config.d_model
    shape = (document.token_ids.shape[0], document.length, C)
    pairs = tuple(
        (document.compressed_k.new_empty(shape), document.compressed_k.new_empty(shape)) for _ in model.gold_layers
    )
    fused = model.fused_backend(document.token_ids)
    if fused == "native":
        distinct = gold_native.DistinctPairs.of(document.token_ids[0])
        if distinct.pay_off:
            gold_native.expand_by_pairs(model, distinct, document.compressed_k, pairs, REBUILD_BLOCK)
            return replace(document, expanded=pairs)
        for start, end, previous in _blocks(document):
            ids, c = document.token_ids[:, start - previous : end], document.compressed_k[:, start - previous : end]
            out = [(k[:, start:end], v[:, start:end]) for k, v in pairs]
            gold_native.keys_values(model, model.gold_layers, ids, c, bool(previous), start, out)
        return replace(document, expanded=pairs)
    if fused == "triton" and shape[0] == 1:
        gold_triton.expand(model, document, pairs)
        return replace(document, expanded=pairs)
    for start, rebuilt in _rebuilt(model, document, None):
        for (all_k, all_v), (k, v) in zip(pairs, rebuilt, strict=True):
            all_k[:, start : start + k.shape[1]] = k
            all_v[:, start : start + v.shape[1]] = v
    return replace(document, expanded=pairs)


def expanded_bytes(config: ModelConfig, tokens: int, element_bytes: int) -> int:
    """Bytes that the expanded keys and values of `tokens` document tokens take."""
    return 2 * config.n_gold * tokens * config.d_model * element_bytes

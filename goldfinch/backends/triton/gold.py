"""GOLD attention over a cached document on a GPU; twins: gold.GoldTimeMix.keys_values and gfkernels.attend_block.

Notation: T tokens, C d_model, R = C / compression_ratio, U token ids that occur in the document, H heads, D head dim.

Keys and values are rebuilt block by block from tables with a row per occurring id (gfkernels/rebuild/triton.py) and
compressed_k: into memory once, or thrown away after each use, so that beyond the tables no memory grows with T.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from goldfinch.backends.vectors import f32
from goldfinch.models.executor import KeysValues, blocks_of
from goldfinch.models.gold import GoldTimeMix
from goldfinch.models.layers import rms_scale
from goldfinch.models.stack import Stack
from goldfinch.models.state import GoldDocument, Ranges

# Tokens rebuilt at a time: long products, and few enough rows to stay near the processor.
REBUILD_BLOCK = 8192
# Ids of one step while the tables are made in float32.
TABLE_BLOCK = 8192


@dataclass
class Tables:
    """What depends on token ids alone."""

    rows: Tensor  # (T,) row of every token
    e_bar: Tensor  # (U, C)
    k_cache: Tensor  # (U, C), x0 W_KU without the part of compressed_k
    mixes: list[tuple[Tensor, Tensor]]  # per GOLD layer (now, before), (U, 64) float32


def fill(model: Stack, tables: Tables, document: GoldDocument, ranges: Ranges, pairs: Sequence[KeysValues]) -> None:
    """Fill pairs of (K, V), each (1, n, C), one pair per GOLD layer, with the rows of some ranges."""
    for start, end, at in blocks_of(ranges, REBUILD_BLOCK):
        block = _block(model, document, tables, start, end)
        for index, (layer, (k, v)) in enumerate(zip(model.gold_layers, pairs, strict=True)):
            rows = slice(at, at + end - start)
            _keys_values(layer, tables, index, block, document.turned_to(start), (k[0, rows], v[0, rows]))


def attend_rebuilt(
    model: Stack, tables: Tables, document: GoldDocument, index: int, q: Tensor, q_start: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Partial results of q (B, H, Tq, D) over a document whose keys and values are not kept, block by block.

    Yields:
        out (B, H, Tq, D) and lse (B, H, Tq), as `gfkernels.attend_block` gives them.
    """
    layer = model.gold_layers[index]
    for start, end, _ in blocks_of(document.ranges, REBUILD_BLOCK):
        block = _block(model, document, tables, start, end)
        k, v = _keys_values(layer, tables, index, block, document.turned_to(start), (None, None))
        yield attend(q, layer.heads(k[None]), layer.heads(v[None]), q_start, start)


def attend(
    q: Tensor, k: Tensor, v: Tensor, q_start: int, k_start: int, length: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`gfkernels.attend_block` on the GPU; with a length (1,), over the first keys of a buffer."""
    from gfkernels.attention import triton as attention_triton

    return attention_triton.attend_split(q, k, v, q_start, k_start, length)


def _kernels() -> Any:
    from gfkernels.rebuild import triton as rebuild_triton

    return rebuild_triton


def tables_of(model: Stack, document: GoldDocument) -> Tables:
    """The tables of a document."""
    ids, rows = torch.unique(document.token_ids[0], return_inverse=True)
    e = model.embed(ids[None])[0]
    e_bar = rms_scale(e)
    C = e.shape[-1]
    mixes = []
    for layer in model.gold_layers:
        m, down = layer.time_maa_v_cache.float().view(-1, 1), layer.time_maa_kv_w1.float()
        both = torch.cat([(1 - m) * down, m * down], dim=1)  # (C, 128)
        parts = [e_bar[at : at + TABLE_BLOCK].float() @ both for at in range(0, len(ids), TABLE_BLOCK)]
        now, before = torch.cat(parts).chunk(2, dim=1)
        mixes.append((now.contiguous(), before.contiguous()))
    k_cache = F.linear(e, model.w_kv_cache_b.weight[:, :C])
    return Tables(rows.contiguous(), e_bar.contiguous(), k_cache.contiguous(), mixes)


@dataclass
class _Block:
    """Rows of a document and what all layers share of them; with a row in front when they have a predecessor."""

    ids: Tensor  # (first + n,)
    kappa: Tensor  # (first + n, C), to be scaled
    scales: Tensor  # (first + n,)
    first: int


def _block(model: Stack, document: GoldDocument, tables: Tables, start: int, end: int) -> _Block:
    first = min(start, 1)
    ids = tables.rows[start - first : end]
    c = document.compressed_k[0, start - first : end].contiguous()
    weight = model.w_kv_cache_b.weight[:, tables.e_bar.shape[1] :]
    kappa, scales = _kernels().k_cache_rows(ids, c, tables.k_cache, weight)
    return _Block(ids, kappa, scales, first)


def _keys_values(
    layer: GoldTimeMix, tables: Tables, index: int, block: _Block, start: int, out: tuple[Tensor | None, Tensor | None]
) -> tuple[Tensor, Tensor]:
    """K (rotated) and V, each (n, C), of a block that begins at position `start`."""
    from gfkernels.layer import triton as layer_triton

    ops, made = _kernels(), []
    for group, (source, scales, mix, down, up, norm) in enumerate(
        (
            (block.kappa, block.scales, layer.time_maa_k, layer.time_key_w1, layer.time_key_w2, layer.ln_k),
            (tables.e_bar, None, layer.time_maa_v, layer.time_value_w1, layer.time_value_w2, layer.ln_v),
        )
    ):
        w2 = layer.time_maa_kv_w2[group]
        mixed = ops.mixed_rows(source, scales, block.ids, tables.mixes[index], group, w2, f32(mix), block.first)
        low_rank = ops.tanh(mixed @ down) @ up
        made.append(
            layer_triton.add_norm(
                mixed, low_rank, f32(norm.weight), f32(norm.bias), norm.eps, store_sum=False, out=out[group]
            )
        )
    k, v = made
    if layer.rope is not None:
        rotated = layer.rope(layer.heads(k[None]), start).transpose(1, 2).flatten(-2)[0]
        k = rotated if out[0] is None else k.copy_(rotated)
    return k, v

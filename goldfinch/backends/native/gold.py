"""Keys and values of GOLD layers on the CPU with fused C kernels; gold.GoldTimeMix.keys_values is the twin.

Notation: T tokens, C d_model, R = C / compression_ratio, U distinct tokens, P distinct pairs of neighbours. Batch is 1.
Rows and weights are torch's or numpy's (`gfkernels.arrays`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from gfkernels import arrays
from gfkernels.layer import native
from gfkernels.layer.product import added_times, times
from gfkernels.layer.product import product as linear

from goldfinch.backends.vectors import f32
from goldfinch.models.config import SHIFT_LORA_RANK
from goldfinch.models.executor import REBUILD_BLOCK, blocks_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from goldfinch.models.gold import GoldTimeMix
    from goldfinch.models.stack import Stack
    from goldfinch.models.state import GoldDocument, Ranges

# With fewer pairs than this share of the tokens each is computed once and copied; above it copying costs what it saves.
PAIRS_SHARE = 0.6


@dataclass
class _Rows:
    """Rows (T, C) whose neighbour is the row above, or `previous` (T, C) where they do not follow each other."""

    now: Tensor
    before: Tensor | None = None  # (C,): the row before the first
    previous: Tensor | None = None

    def lerp(self, mix: Tensor) -> Tensor:
        return native.shift_lerp(self.now, self.before, mix, self.previous)

    def ddlerp(self, mix: Tensor, dynamic: Tensor) -> Tensor:
        return native.shift_ddlerp(self.now, self.before, mix[None], dynamic[None], self.previous)[0]


def keys_values(
    model: Stack,
    layers: Sequence[GoldTimeMix],
    token_ids: Tensor,
    compressed_k: Tensor,
    has_previous: bool,
    start: int,
    out: Sequence[tuple[Tensor, Tensor]] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of consecutive rows, as `TorchExecutor.rebuild` gives them.

    Args:
        token_ids: (1, T) or, with a previous row in front, (1, T + 1); compressed_k likewise (1, ., R).
        start: absolute position of the first of the T rows.
        out: per layer where to put K and V, contiguous (1, T, C) each; new tensors by default.

    Returns:
        (K, V), each (1, T, C), per layer.
    """
    kappa, e_bar = (_rows(x, has_previous) for x in _kappa_and_e_bar(model, token_ids, compressed_k))
    places: Sequence[tuple[Tensor | None, Tensor | None]] = out or [(None, None)] * len(layers)
    pairs = []
    for layer, place in zip(layers, places, strict=True):
        z = _mix_codes(layer, e_bar)
        pairs.append((_keys(layer, kappa, z, start, place[0]), _values(layer, e_bar, z, place[1])))
    return pairs


def keys_values_of_ranges(
    model: Stack, document: GoldDocument, ranges: Ranges, out: Sequence[tuple[Tensor, Tensor]]
) -> None:
    """Keys and values of rows that are apart, in one pass over all of them; for models that rotate no keys.

    Args:
        ranges: (start, end) of the rows, ascending and apart.
        out: per GOLD layer where to put K and V of all of them, contiguous (1, n, C) each.
    """
    # Each range with the row before it, and before the document's first a row of zeros: so each row follows its own.
    with_before = [(max(start - 1, 0), end) for start, end in ranges]
    ids = arrays.joined([document.token_ids[:, first:end] for first, end in with_before], 1)
    c = arrays.joined([document.compressed_k[:, first:end] for first, end in with_before], 1)
    counts = [end - first for first, end in with_before]
    ends = [sum(counts[: n + 1]) for n in range(len(counts))]
    places = np.concatenate([np.arange(z - (b - a), z) + 1 for z, (a, b) in zip(ends, ranges, strict=True)])
    now = arrays.indices(places, c)

    def apart(x: Tensor) -> _Rows:
        x = arrays.joined([arrays.zeros(x[:1].shape, x), x])
        return _Rows(x[now], previous=x[now - 1])

    kappa, e_bar = (apart(x) for x in _kappa_and_e_bar(model, ids, c))
    for layer, (k, v) in zip(model.gold_layers, out, strict=True):
        z = _mix_codes(layer, e_bar)
        _keys(layer, kappa, z, 0, k)
        _values(layer, e_bar, z, v)


def _kappa_and_e_bar(model: Stack, token_ids: Tensor, compressed_k: Tensor) -> tuple[Tensor, Tensor]:
    """What keys and values are made from (paper eq. 15, 19), (T, C) each."""
    e = model.embed(token_ids)[0]
    wide, narrow = _token_cat(model)
    kappa = native.rms_scale(added_times(linear(e, wide), compressed_k[0], narrow.T))
    return kappa, native.rms_scale(arrays.contiguous(e))


def _rows(x: Tensor, has_previous: bool) -> _Rows:
    return _Rows(x[1:], x[0]) if has_previous else _Rows(x)


def _token_cat(model: Stack) -> tuple[Tensor, Tensor]:
    """W_KU as the parts for e (C, C) and for c (C, R): [e, c] W_KU in two products, nothing copied together."""
    weight = model.w_kv_cache_b.weight
    return weight[:, : weight.shape[0]], weight[:, weight.shape[0] :]


def _mix_codes(layer: GoldTimeMix, e_bar: _Rows) -> Tensor:
    """tanh of the low-rank code of both dynamic mixes, (T, 2 * 32): depends on a token and the one before it alone."""
    return native.tanh(times(e_bar.lerp(f32(layer.time_maa_v_cache)), layer.time_maa_kv_w1))


def _keys(layer: GoldTimeMix, kappa: _Rows, z: Tensor, start: int, out: Tensor | None) -> Tensor:
    mixed = kappa.ddlerp(f32(layer.time_maa_k), times(z[:, :SHIFT_LORA_RANK], layer.time_maa_kv_w2[0]))
    low_rank = times(native.tanh(times(mixed, layer.time_key_w1)), layer.time_key_w2)
    k = _normed(mixed, low_rank, layer.ln_k, out)
    if layer.rope is None:
        return k
    rotated = layer.rope(layer.heads(k), start).transpose(1, 2).flatten(-2)
    return rotated if out is None else k.copy_(rotated)


def _values(layer: GoldTimeMix, e_bar: _Rows, z: Tensor, out: Tensor | None) -> Tensor:
    mixed = e_bar.ddlerp(f32(layer.time_maa_v), times(z[:, SHIFT_LORA_RANK:], layer.time_maa_kv_w2[1]))
    low_rank = times(native.tanh(times(mixed, layer.time_value_w1)), layer.time_value_w2)
    return _normed(mixed, low_rank, layer.ln_v, out)


def _normed(mixed: Tensor, low_rank: Tensor, norm: torch.nn.LayerNorm, out: Tensor | None) -> Tensor:
    place = None if out is None else out[0]
    return native.add_norm(mixed, low_rank, f32(norm.weight), f32(norm.bias), norm.eps, place)[None]


@dataclass
class DistinctPairs:
    """The distinct tokens of a document and its distinct pairs (token before, token).

    Attributes:
        tokens: (U,) ids; token_of (T,) which of them a row has.
        now, before: (P,) of each pair, places in `tokens`; before is U where nothing stands before.
        pair_of: (T,) which pair a row has.
    """

    tokens: Tensor
    token_of: Tensor
    now: Tensor
    before: Tensor
    pair_of: Tensor

    @classmethod
    def of(cls, token_ids: Tensor) -> DistinctPairs:
        """token_ids (T,)."""
        tokens, token_of = np.unique(np.asarray(token_ids), return_inverse=True)
        U = len(tokens)
        before = np.concatenate([[U], token_of[:-1]])
        pairs, pair_of = np.unique(token_of * (U + 1) + before, return_inverse=True)
        parts = (tokens, token_of, pairs // (U + 1), pairs % (U + 1), pair_of)
        return cls(*(arrays.indices(part, token_ids) for part in parts))

    @property
    def pay_off(self) -> bool:
        return len(self.now) <= PAIRS_SHARE * len(self.pair_of)


def expand_by_pairs(
    model: Stack,
    pairs: DistinctPairs,
    compressed_k: Tensor,
    out: Sequence[tuple[Tensor, Tensor]],
    block: int,
) -> None:
    """Keys and values of a whole document, each distinct pair of tokens computed once.

    `W_KU [e, c]` is a row per distinct token plus a narrow product; values, and the codes of the keys' mixes, depend on
    a token and the one before it alone.

    Args:
        pairs: those of the document.
        compressed_k: (1, T, R).
        out: per GOLD layer K and V, contiguous (1, T, C) each.
        block: tokens at a time.
    """
    e = model.embed(pairs.tokens[None])[0]
    wide, narrow = _token_cat(model)
    from_tokens = linear(e, wide)  # (U, C)
    e_bar = native.rms_scale(arrays.contiguous(e))
    padded = arrays.joined([e_bar, arrays.zeros(e_bar[:1].shape, e_bar)])
    codes = []
    for layer, (_, v) in zip(model.gold_layers, out, strict=True):
        code: list[Tensor] = []
        values: list[Tensor] = []
        for at in range(0, len(pairs.now), block):
            now, before = (padded[rows[at : at + block]] for rows in (pairs.now, pairs.before))
            rows = _Rows(now, previous=before)
            code.append(_mix_codes(layer, rows))
            values.append(_values(layer, rows, code[-1], None)[0])
        codes.append(arrays.joined(code)[:, :SHIFT_LORA_RANK])
        arrays.pick(arrays.joined(values), pairs.pair_of, v[0])
    for start in range(0, compressed_k.shape[1], block):
        first = max(start - 1, 0)  # the token shift needs the row before
        wide_part = from_tokens[pairs.token_of[first : start + block]]
        c = compressed_k[0, first : start + block]
        kappa = _rows(native.rms_scale(added_times(wide_part, c, narrow.T)), start > 0)
        for layer, z, (k, _) in zip(model.gold_layers, codes, out, strict=True):
            _keys(layer, kappa, z[pairs.pair_of[start : start + block]], start, k[:, start : start + block])


def fill(model: Stack, document: GoldDocument, ranges: Ranges, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Put keys and values of the rows of `ranges` into `pairs`, per GOLD layer (K, V), (1, n, C) each."""
    if ranges == ((0, document.length),):
        distinct = DistinctPairs.of(document.token_ids[0])
        if distinct.pay_off:
            expand_by_pairs(model, distinct, document.compressed_k[:, :], pairs, REBUILD_BLOCK)
            return
    if len(ranges) > 1 and model.config.rope is None:
        for together, at, end in _together(ranges):
            keys_values_of_ranges(model, document, together, [(k[:, at:end], v[:, at:end]) for k, v in pairs])
        return
    for start, end, at in blocks_of(ranges, REBUILD_BLOCK):
        first = max(start - 1, 0)  # the token shift needs the row before
        ids, c = document.token_ids[:, first:end], document.compressed_k[:, first:end]
        out = [(k[:, at : at + end - start], v[:, at : at + end - start]) for k, v in pairs]
        keys_values(model, model.gold_layers, ids, c, start > 0, document.turned_to(start), out)


def _together(ranges: Ranges) -> Iterator[tuple[Ranges, int, int]]:
    """(ranges, rows before them, rows with them) of as many rows as one pass takes."""
    group: list[tuple[int, int]] = []
    at = rows = 0
    for start, end, _ in blocks_of(ranges, REBUILD_BLOCK):
        if rows + end - start > REBUILD_BLOCK:
            yield tuple(group), at, at + rows
            group, at, rows = [], at + rows, 0
        group.append((start, end))
        rows += end - start
    yield tuple(group), at, at + rows

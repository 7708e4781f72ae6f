"""Decoding on the CPU: one token through all layers in one C call (decode.c).

Notation: C d_model, H heads, D head dim, F d_ffn, R width of compressed_k, N keys. Batch is 1.

The structures mirror those of decode.c field by field; they hold addresses, so whoever fills them keeps the
tensors alive. Weights and rows are float32 or bfloat16 and contiguous, vectors and wkv_state float32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gfkernels import arrays
from gfkernels.native.call import call

if TYPE_CHECKING:
    from torch import Tensor


def _pointers(*names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_void_p) for name in names]


class Norm(ctypes.Structure):
    """weight, bias (C,) float32 and eps of a norm."""

    _fields_ = [*_pointers("weight", "bias"), ("eps", ctypes.c_float)]


class ChannelMix(ctypes.Structure):
    """mix_k, mix_r (C,) float32; key (F, C), receptance (C, C), value (C, F)."""

    _fields_ = _pointers("mix_k", "mix_r", "key", "receptance", "value")


class FinchLayer(ctypes.Structure):
    """A Finch or Finch-C2 layer; absent parts are None. Low-rank matrices as decode.c states them."""

    _fields_ = [
        *((name, Norm) for name in ("ln1", "ln2", "ln_x")),
        *_pointers("mix_x", "mixes", "mix_down", "mix_up", "receptance", "key", "value", "gate", "output"),
        *_pointers("decay_down", "decay_up", "value2_down", "value2_up", "decay", "bonus"),
        ("ffn", ChannelMix),
        ("times_one_minus_w", ctypes.c_int32),
        ("second_value", ctypes.c_int32),
    ]


class GoldLayer(ctypes.Structure):
    """A GOLD layer. Low-rank matrices as decode.c states them."""

    _fields_ = [
        *((name, Norm) for name in ("ln1", "ln2", "ln_q", "ln_k", "ln_v", "ln_x")),
        *_pointers("mix_x", "mix_q", "mix_k", "mix_v", "mix_v_cache"),
        *_pointers("q_down", "q_up", "kv_down", "kv_up", "key_down", "key_up", "value_down", "value_up"),
        *_pointers("query", "output"),
        ("ffn", ChannelMix),
    ]


class State(ctypes.Structure):
    """Memory of a layer before (None: the beginning) and after a token."""

    _fields_ = _pointers("wkv", "time_shift", "channel_shift", "wkv_after", "time_shift_after", "channel_shift_after")


class GoldRows(ctypes.Structure):
    """Keys and values (N, C) of a GOLD layer: those of the document and those since."""

    _fields_ = [
        *_pointers("document_k", "document_v", "recent_k", "recent_v"),
        ("document_rows", ctypes.c_int64),
        ("recent_rows", ctypes.c_int64),
    ]


class Dims(ctypes.Structure):
    """Sizes that all layers of a call share."""

    _fields_ = [
        (name, ctypes.c_int32)
        for name in ("layers", "C", "D", "F", "R", "mix_rank", "decay_rank", "value2_rank", "rank")
    ]


def finch_step(dims: Dims, layers: ctypes.Array, states: Sequence[State], x: Tensor) -> Tensor:
    """One token through Finch layers: x (C,) -> (C,); the states after it are written where `states` say.

    Args:
        dims: sizes; layers: an array of FinchLayer of that length.
        states: one per layer.
    """
    out = arrays.empty(x.shape, x)
    _call("finch_step", x.dtype, ctypes.byref(dims), layers, (State * len(states))(*states), x, out)
    return out


def gold_row(
    dims: Dims,
    layers: ctypes.Array,
    token_cat: Tensor,
    row: tuple[Tensor, Tensor],
    before: tuple[Tensor, Tensor] | None,
    rotation: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Keys and values of one new row for all GOLD layers (GoldFinch eq. 15, 18-20).

    Args:
        token_cat: W_KU, (C, C + R).
        row: normed embedding (C,) and compressed key (R,); before: those of the previous row, None at the beginning.
        rotation: cosine and sine (D / 2,) float32 of the row's position, None without rotary positions.

    Returns:
        (layers, 2, C): K and V.
    """
    out = arrays.empty((dims.layers, 2, dims.C), row[0])
    pairs = [x for pair in (row, before, rotation) for x in (pair or (None, None))]
    _call("gold_row", out.dtype, ctypes.byref(dims), layers, token_cat, *pairs, out)
    return out


def gold_step(
    dims: Dims,
    layers: ctypes.Array,
    states: Sequence[State],
    rows: Sequence[GoldRows],
    rotation: tuple[Tensor, Tensor] | None,
    x: Tensor,
) -> Tensor:
    """One token through GOLD layers: x (C,) -> (C,). `rows` hold the token's own keys and values already."""
    out = arrays.empty(x.shape, x)
    lists = (State * len(states))(*states), (GoldRows * len(rows))(*rows)
    _call("gold_step", x.dtype, ctypes.byref(dims), layers, *lists, *(rotation or (None, None)), x, out)
    return out


def _call(name: str, dtype: object, *arguments: object) -> None:
    if call(name, dtype, *arguments):
        raise MemoryError(f"no memory for the scratch space of {name}")

"""One token through the model on the CPU in three C calls: Finch layers, the new row's keys and values, GOLD layers.

Notation: C d_model, H heads, D head dim, R width of compressed_k. Batch is 1. finch.py, layers.py and gold.py are the
twins. Between the weights everything is float32 here; only what is kept (states, keys, values) is rounded to the dtype.
Rows and weights are torch's or numpy's (`gfkernels.arrays`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from gfkernels import arrays
from gfkernels.arrays import address
from gfkernels.decode import native as native_decode
from gfkernels.decode.native import ChannelMix, Dims, FinchLayer, GoldLayer, GoldRows, Norm, State
from gfkernels.errors import KernelInputError

from goldfinch.backends.vectors import f32, is_finch_c2, mix_order
from goldfinch.models.config import DECAY_LORA_RANK, SHIFT_LORA_RANK, VALUE2_LORA_RANK
from goldfinch.models.state import LayerState

if TYPE_CHECKING:
    from torch import Tensor, nn

    from goldfinch.models.memory import GoldMemory
    from goldfinch.models.stack import Block, Stack
    from goldfinch.models.state import GoldDocument


@dataclass
class Plan:
    """Where the weights of a model lie."""

    finch_dims: Dims
    finch: ctypes.Array[FinchLayer]
    gold_dims: Dims
    gold: ctypes.Array[GoldLayer]
    tensors: list[Tensor]  # what the addresses point to


def plan(model: Stack) -> Plan:
    """The weights of a model as the C calls read them."""
    tensors: list[Tensor] = []
    finch = [_finch_layer(block, tensors) for block in _blocks(model)[: model.config.n_finch]]
    gold = [_gold_layer(block, tensors) for block in _blocks(model)[model.config.n_prefill :]]
    return Plan(
        finch_dims=_dims(model, len(finch)),
        finch=(FinchLayer * len(finch))(*finch),
        gold_dims=_dims(model, len(gold)),
        gold=(GoldLayer * len(gold))(*gold),
        tensors=tensors,
    )


def _blocks(model: Stack) -> list[Block]:
    return cast("list[Block]", list(model.blocks))


def _dims(model: Stack, layers: int) -> Dims:
    config = model.config
    return Dims(
        layers=layers,
        C=config.d_model,
        D=config.head_dim,
        F=config.d_ffn,
        R=config.d_compressed if config.n_gold else 0,
        mix_rank=SHIFT_LORA_RANK,
        decay_rank=DECAY_LORA_RANK,
        value2_rank=VALUE2_LORA_RANK,
        rank=config.gold_lora_rank,
    )


class _Addresses:
    """Hands out addresses of tensors and keeps those tensors."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self._tensors = tensors

    def of(self, tensor: Tensor) -> int | None:
        """A matrix as it is stored."""
        kept = arrays.contiguous(arrays.detached(tensor))
        self._tensors.append(kept)
        return address(kept)

    def turned(self, matrix: Tensor) -> int | None:
        """A matrix transposed."""
        return self.of(matrix.T)

    def vector(self, parameter: Tensor) -> int | None:
        """A parameter vector in float32."""
        return self.of(f32(parameter))

    def norm(self, norm: nn.LayerNorm | nn.GroupNorm) -> Norm:
        return Norm(self.vector(norm.weight), self.vector(norm.bias), norm.eps)

    def channel_mix(self, mix: Any) -> ChannelMix:
        weights = (self.of(linear.weight) for linear in (mix.key, mix.receptance, mix.value))
        return ChannelMix(self.vector(mix.time_maa_k), self.vector(mix.time_maa_r), *weights)


def _finch_layer(block: Block, tensors: list[Tensor]) -> FinchLayer:
    mix: Any = block.att
    at = _Addresses(tensors)
    order = mix_order(mix)
    places = [mix.groups.index(group) for group in order]
    C = mix.time_maa_w1.shape[0]
    layer = FinchLayer(
        ln1=at.norm(block.ln1),
        ln2=at.norm(block.ln2),
        ln_x=at.norm(mix.ln_x),
        mix_x=at.vector(mix.time_maa_x),
        mixes=at.vector(arrays.joined([f32(getattr(mix, f"time_maa_{group}")) for group in order])),
        mix_down=at.turned(mix.time_maa_w1.reshape(C, len(order), -1)[:, places].reshape(C, -1)),
        mix_up=at.of(mix.time_maa_w2[places]),
        receptance=at.of(mix.receptance.weight),
        key=at.of(mix.key.weight),
        value=at.of(mix.value.weight),
        output=at.of(mix.output.weight),
        decay_down=at.turned(mix.time_decay_w1),
        decay_up=at.of(mix.time_decay_w2),
        decay=at.vector(mix.time_decay),
        ffn=at.channel_mix(block.ffn),
    )
    if not is_finch_c2(mix):
        layer.gate = at.of(mix.gate.weight)
        layer.bonus = at.vector(mix.time_faaaa)
        return layer
    layer.times_one_minus_w = mix.config.one_minus_w
    if mix.config.second_value:
        layer.second_value = 1
        layer.value2_down, layer.value2_up = at.turned(mix.time_value2_w1), at.of(mix.time_value2_w2)
    else:
        layer.bonus = at.vector(mix.time_faaaa)
    return layer


def _gold_layer(block: Block, tensors: list[Tensor]) -> GoldLayer:
    mix: Any = block.att
    at = _Addresses(tensors)
    return GoldLayer(
        ln1=at.norm(block.ln1),
        ln2=at.norm(block.ln2),
        ln_q=at.norm(mix.ln_q),
        ln_k=at.norm(mix.ln_k),
        ln_v=at.norm(mix.ln_v),
        ln_x=at.norm(mix.ln_x),
        mix_x=at.vector(mix.time_maa_x),
        mix_q=at.vector(mix.time_maa_q),
        mix_k=at.vector(mix.time_maa_k),
        mix_v=at.vector(mix.time_maa_v),
        mix_v_cache=at.vector(mix.time_maa_v_cache),
        q_down=at.turned(mix.time_maa_q_w1),
        q_up=at.of(mix.time_maa_q_w2),
        kv_down=at.turned(mix.time_maa_kv_w1),
        kv_up=at.of(mix.time_maa_kv_w2),
        key_down=at.turned(mix.time_key_w1),
        key_up=at.of(mix.time_key_w2),
        value_down=at.turned(mix.time_value_w1),
        value_up=at.of(mix.time_value_w2),
        query=at.of(mix.query.weight),
        output=at.of(mix.output.weight),
        ffn=at.channel_mix(block.ffn),
    )


def run_finch_layers(
    model: Stack, plan: Plan, token_ids: Tensor, states: Sequence[LayerState]
) -> tuple[Tensor, list[LayerState]]:
    """One token, token_ids (1, 1), through the lower layers; as `layers.run_layers`."""
    config, before = model.config, states[: model.config.n_finch]
    row = arrays.contiguous(model.embed(token_ids)[0, 0])
    wkv = arrays.empty((config.n_finch, 1, config.n_head, config.head_dim, config.head_dim), row, f32=True)
    after = _shift_states(before, row, wkv)
    x = native_decode.finch_step(plan.finch_dims, plan.finch, after.structures, after.x)
    new = [
        replace(state, wkv_state=wkv[i], time_shift_state=after.time[i], channel_shift_state=after.channel[i])
        for i, state in enumerate(before)
    ]
    return x[None, None], [*new, *states[config.n_finch :]]


def rebuild_row(
    model: Stack, plan: Plan, token_ids: Tensor, compressed_k: Tensor, start: int
) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of one new row; as `gold.keys_values`.

    Args:
        token_ids: (1, 2), the row before and the row; (1, 1) at the beginning. compressed_k likewise (1, ., R).
        start: absolute position of the row.

    Returns:
        (K, V), each (1, 1, C), per GOLD layer.
    """
    e = arrays.contiguous(model.embed(token_ids)[0])
    rows = [(e[i], arrays.contiguous(compressed_k[0, i])) for i in range(e.shape[0])]
    before = rows[0] if len(rows) == 2 else None
    weight = arrays.detached(model.w_kv_cache_b.weight)
    both = native_decode.gold_row(plan.gold_dims, plan.gold, weight, rows[-1], before, _rotation(model, start))
    return [(k[None, None], v[None, None]) for k, v in both]


def run_gold_layers(
    model: Stack, plan: Plan, x: Tensor, states: Sequence[LayerState], memory: GoldMemory, behind: int = 0
) -> tuple[Tensor, list[LayerState]]:
    """One row x (1, 1, C) through the GOLD layers; `memory` holds its keys and values and, expanded, the document's.

    Args:
        states: of the GOLD layers.
        behind: positions of the memory that come after the row, which it does not see.

    Returns:
        x (1, 1, C) and the states after it.
    """
    document = memory.document
    after = _shift_states(states, arrays.contiguous(x[0, 0]), None)
    recent_rows, hidden = max(memory.token_ids.length - behind, 0), max(behind - memory.token_ids.length, 0)
    rows = []
    for i, (recent_k, recent_v) in enumerate(memory.expanded or ((None, None),) * len(states)):
        structure = GoldRows(recent_rows=recent_rows)
        if recent_k is not None and recent_v is not None:
            structure.recent_k, structure.recent_v = address(recent_k.rows), address(recent_v.rows)
        if document is not None:
            assert document.expanded is not None
            structure.document_k, structure.document_v = (address(part) for part in document.expanded[i])
            structure.document_rows = _seen(document, hidden)
        rows.append(structure)
    rotation = _rotation(model, memory.length - 1 - behind)
    x = native_decode.gold_step(plan.gold_dims, plan.gold, after.structures, rows, rotation, after.x)
    new = [
        replace(state, time_shift_state=after.time[i], channel_shift_state=after.channel[i])
        for i, state in enumerate(states)
    ]
    return x[None, None], new


def _seen(document: GoldDocument, hidden: int) -> int:
    """How many of the rows of a document that are held come before its last `hidden` positions."""
    end = document.length - hidden
    return sum(max(min(last, end) - first, 0) for first, last in document.ranges)


@dataclass
class _Shifts:
    """The row x (C,), the states after it that a call writes, (layers, 1, C) each, and where everything lies."""

    x: Tensor
    time: Tensor
    channel: Tensor
    structures: list[State]
    kept: list[Tensor | None]


def _shift_states(states: Sequence[LayerState], x: Tensor, wkv: Tensor | None) -> _Shifts:
    """`wkv` (layers, 1, H, D, D) takes the recurrent states of layers that have one."""
    shape = (len(states), 1, len(x))
    shifts = _Shifts(x, arrays.empty(shape, x), arrays.empty(shape, x), [], [])
    for i, state in enumerate(states):
        given = [_like(shift, x, shape[1:]) for shift in (state.time_shift_state, state.channel_shift_state)]
        recurrent = None if wkv is None else _like(state.wkv_state, wkv, wkv.shape[1:])
        shifts.kept += [*given, recurrent]
        shifts.structures.append(
            State(
                address(recurrent),
                *(address(tensor) for tensor in given),
                None if wkv is None else address(wkv[i]),
                address(shifts.time[i]),
                address(shifts.channel[i]),
            )
        )
    return shifts


def _like(tensor: Tensor | None, rows: Tensor, shape: Sequence[int]) -> Tensor | None:
    """A state as the kernel reads it, of the dtype of `rows`; it goes as an address, so its shape is checked here."""
    if tensor is None:
        return None
    if tuple(tensor.shape) != tuple(shape):
        raise KernelInputError("decode", f"a state of shape {tuple(tensor.shape)}", f"{tuple(shape)}")
    return arrays.as_rows(tensor, rows)


def _rotation(model: Stack, position: int) -> tuple[Tensor, Tensor] | None:
    """Cosine and sine (D / 2,) float32 of a position, None without rotary positions."""
    rope = model.gold_layers[0].rope
    if rope is None:
        return None
    cosine, sine = rope.rotation(position, 1, model.device)
    return arrays.as_f32(cosine[0]), arrays.as_f32(sine[0])

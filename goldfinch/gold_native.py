"""Keys and values of GOLD layers on the CPU with fused C kernels; gold.GoldTimeMix.keys_values is the twin.

Notation: T tokens, C d_model, R = C / compression_ratio. Batch is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from gfkernels import native
from torch import Tensor

from .layers import SHIFT_LORA_RANK

if TYPE_CHECKING:
    from .gold import GoldTimeMix
    from .model import LanguageModel


def keys_values(
    model: LanguageModel,
    layers: Sequence[GoldTimeMix],
    token_ids: Tensor,
    compressed_k: Tensor,
    has_previous: bool,
    start: int,
    out: Sequence[tuple[Tensor, Tensor]] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of consecutive rows, as `gold.rebuild_keys_values` gives them.

    Args:
        token_ids: (1, T) or, with a previous row in front, (1, T + 1); compressed_k likewise (1, ., R).
        start: absolute position of the first of the T rows.
        out: per layer where to put K and V, contiguous (1, T, C) each; new tensors by default.

    Returns:
        (K, V), each (1, T, C), per layer.
    """
    e = model.embed(token_ids)[0]
    e_bar = native.rms_scale(e.contiguous())
    C = e.shape[-1]
    weight = model.w_kv_cache_b.weight  # [x0, c] W_KU in two products: nothing is copied together
    kappa = torch.addmm(F.linear(e, weight[:, :C]), compressed_k[0], weight[:, C:].t())
    kappa = native.rms_scale(kappa.contiguous())
    before = (e_bar[0], kappa[0]) if has_previous else (None, None)
    if has_previous:
        e_bar, kappa = e_bar[1:], kappa[1:]
    e_before, kappa_before = before
    places: Sequence[tuple[Tensor | None, Tensor | None]] = out or [(None, None)] * len(layers)
    return [
        _of_layer(layer, e_bar, kappa, e_before, kappa_before, start, place)
        for layer, place in zip(layers, places, strict=True)
    ]


def _of_layer(
    layer: GoldTimeMix,
    e_bar: Tensor,
    kappa: Tensor,
    e_before: Tensor | None,
    kappa_before: Tensor | None,
    start: int,
    out: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor]:
    z = native.tanh(native.shift_lerp(e_bar, e_before, _f32(layer.time_maa_v_cache)) @ layer.time_maa_kv_w1)
    rows = []
    for i, (source, before, mix, down, up, norm) in enumerate(
        (
            (kappa, kappa_before, layer.time_maa_k, layer.time_key_w1, layer.time_key_w2, layer.ln_k),
            (e_bar, e_before, layer.time_maa_v, layer.time_value_w1, layer.time_value_w2, layer.ln_v),
        )
    ):
        dynamic = z[:, i * SHIFT_LORA_RANK : (i + 1) * SHIFT_LORA_RANK] @ layer.time_maa_kv_w2[i]
        mixed = native.shift_ddlerp(source, before, _f32(mix)[None], dynamic[None])[0]
        low_rank = native.tanh(mixed @ down) @ up
        place = out[i]
        where = None if place is None else place[0]
        rows.append(native.add_norm(mixed, low_rank, _f32(norm.weight), _f32(norm.bias), norm.eps, where)[None])
    k, v = rows
    if layer.rope is not None:
        rotated = layer.rope(layer.heads(k), start).transpose(1, 2).flatten(-2)
        k = rotated if out[0] is None else k.copy_(rotated)
    return k, v


def _f32(parameter: Tensor) -> Tensor:
    return parameter.detach().to(torch.float32).reshape(-1)

"""WKV6, one token after the other: the judge of every faster form (arXiv 2404.05892, section 4).

Notation: B batch, T tokens, H heads, K key channels, V value channels of one head.

    y_t[i]  = sum_j r_t[j] * (u[j] * k_t[j] * v_t[i] + S_t[i, j])
    S_t+1   = S_t * exp(log_w_t)[None, :] + v_t[:, None] * k_t[None, :]        log_w = -exp(w_raw)
"""

from __future__ import annotations

import torch
from torch import Tensor

from gfkernels.precision import accumulation_dtype

from .inputs import check_wkv6_inputs


def wkv6_recurrent(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None = None,
    wkv_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the WKV6 recurrence sequentially.

    Args:
        r: receptance, (B, T, H, K), any floating dtype.
        k: key, (B, T, H, K).
        v: value, (B, T, H, V).
        w_raw: raw decay, (B, T, H, K), any finite value; the decay of a step is exp(-exp(w_raw)).
        u: bonus of the current token, (H, K), or None for zero.
        wkv_state: state before the first token, (B, H, V, K), or None for zero.

    Returns:
        y (B, T, H, V) in the dtype of r, and the state after the last token (B, H, V, K) in float32
        (float64 for float64 input).

    Raises:
        KernelInputError: shapes that do not belong together.
    """
    check_wkv6_inputs("wkv6_recurrent", r, k, v, w_raw, u, wkv_state)
    B, T, H, K = r.shape
    V = v.shape[-1]
    acc = accumulation_dtype(r.dtype)
    state = r.new_zeros(B, H, V, K, dtype=acc) if wkv_state is None else wkv_state.to(acc)
    y = r.new_zeros(B, T, H, V, dtype=acc)
    for t in range(T):
        r_t, k_t, v_t = r[:, t].to(acc), k[:, t].to(acc), v[:, t].to(acc)
        kv = v_t[..., :, None] * k_t[..., None, :]  # (B, H, V, K)
        seen = state if u is None else state + u.to(acc)[None, :, None, :] * kv
        y[:, t] = (seen * r_t[..., None, :]).sum(-1)
        decay = torch.exp(-torch.exp(w_raw[:, t].to(acc)))  # (B, H, K)
        state = state * decay[..., None, :] + kv
    return y.to(r.dtype), state

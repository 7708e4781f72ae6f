"""WKV6 in chunks made of matrix products, exact for every decay (arXiv 2404.05892).

Notation: B batch, T tokens, H heads, K key channels, V value channels, N chunks of c tokens.

Inside a chunk, with S_0 the state before it and D(i, t) = sum of log_w over the tokens strictly between i and t,

    y_t = r_t (exp(D(start, t)) S_0) + sum_{i<t} <r_t, k_i>_{exp(D(i, t))} v_i + <r_t, u k_t> v_t

A matrix product needs the pair weight exp(D(i, t)) split into a factor of t and a factor of i. The usual reference
point in the middle of the chunk gives factors exp(+x) and exp(-x), which overflow for strong decays. Here the chunk is
halved again and again instead: a pair (i, t) is treated at the one level where i lies in the first and t in the second
half of a block, with the boundary between the halves as reference point. Both factors are then at most 1, whatever
the decay: nothing can overflow, and a factor that underflows belongs to a weight that is zero.

    level h:   fwd_t = D(start of half, t),  rev_i = D(i, end of half),  exp(D(i, t)) = exp(rev_i) exp(fwd_t)

The sums are built bottom-up by additions of numbers that are never positive, so there is no cancellation either.

The levels cost more than one product over the whole chunk, so inference looks at max|log_w| first and starts the
halving from the largest blocks for which the reference point in the middle is safe: all of the chunk for ordinary
decays, single tokens for extreme ones. Training always halves (its masked products would have to stay finite for
the gradient, and a choice made from data would stop the compiler).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gfkernels.precision import accumulation_dtype

from .inputs import check_wkv6_inputs

CHUNK = 32
LONG_CHUNK = 64  # where the whole chunk is one safe product
# Largest |exponent| of a factor at a reference point in the middle. exp(60) = 1e26 leaves float32 eleven decades on
# either side for r and k themselves: neither overflow nor a denormal receptance can eat the answer.
MAX_EXPONENT = 60.0


def safe_block(max_abs_log_w: float, longest: int = LONG_CHUNK) -> int:
    """The longest block, a power of two, whose middle is a safe reference point; 1 if none is."""
    block = longest
    while block > 1 and block / 2 * max_abs_log_w > MAX_EXPONENT:
        block //= 2
    return block


def wkv6_chunked(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None = None,
    wkv_state: Tensor | None = None,
    *,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """WKV6 over a sequence of any length; same contract as `wkv6_recurrent`. Differentiable.

    Args:
        r, k, v, w_raw, u, wkv_state: as in `wkv6_recurrent`.
        chunk: tokens per chunk, a power of two; by default chosen from the decays.

    Returns:
        y (B, T, H, V) in the dtype of r; final state (B, H, V, K) in float32 (float64 for float64).

    Raises:
        KernelInputError: shapes that do not belong together.
    """
    check_wkv6_inputs("wkv6_chunked", r, k, v, w_raw, u, wkv_state)
    B, T, H, K = r.shape
    acc = accumulation_dtype(r.dtype)
    state = r.new_zeros(B, H, v.shape[-1], K, dtype=acc) if wkv_state is None else wkv_state.to(acc)
    if T == 0:
        return r.new_zeros(B, 0, H, v.shape[-1]), state
    # Mixed-precision training must not round the decayed products: their factors span many decades.
    with torch.autocast(r.device.type, enabled=False):
        return _wkv6_chunked(r, k, v, w_raw, u, state, chunk)


def _wkv6_chunked(
    r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, state: Tensor, chunk: int | None
) -> tuple[Tensor, Tensor]:
    B, T, H, _ = r.shape
    V, acc = v.shape[-1], state.dtype
    log_w = -torch.exp(w_raw.to(acc))
    needs_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (r, k, v, w_raw))
    block = 1 if needs_grad else safe_block(-float(log_w.amin()))
    c = min(chunk or max(block, CHUNK), 1 << (T - 1).bit_length())
    block = min(block, c)
    pad = -T % c
    parts = [x.to(acc).transpose(1, 2) for x in (r, k, v)] + [log_w.transpose(1, 2)]
    if pad:  # zero keys and log_w = 0 leave the state untouched
        parts = [F.pad(x, (0, 0, 0, pad)) for x in parts]
    N = (T + pad) // c
    r_c, k_c, v_c, log_w = (x.reshape(B, H, N, c, -1) for x in parts)  # (B, H, N, c, .)

    y, fwd, rev, total = _inside_chunks(r_c, k_c, v_c, log_w, block)
    if u is not None:
        y = y + (r_c * u.to(acc)[None, :, None, None, :] * k_c).sum(-1, keepdim=True) * v_c

    added = v_c.transpose(-1, -2) @ (k_c * torch.exp(rev))  # (B, H, N, V, K)
    kept = torch.exp(total)[..., None, :]  # (B, H, N, 1, K)
    states = []
    for n in range(N):
        states.append(state)
        state = state * kept[:, :, n] + added[:, :, n]
    y = y + (r_c * torch.exp(fwd)) @ torch.stack(states, dim=2).transpose(-1, -2)
    y = y.reshape(B, H, N * c, V)[:, :, :T].transpose(1, 2)
    return y.to(r.dtype), state


def _inside_chunks(
    r_c: Tensor, k_c: Tensor, v_c: Tensor, log_w: Tensor, block: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Contributions of earlier tokens of the same chunk, and the decay sums of whole chunks.

    Args:
        r_c, k_c, log_w: (B, H, N, c, K); v_c: (B, H, N, c, V).
        block: tokens of the blocks that one product with a reference point in the middle treats; 1 for none.

    Returns:
        y (B, H, N, c, V); fwd and rev (B, H, N, c, K), the sums of log_w before and after each token within its
        chunk; total (B, H, N, K).
    """
    lead, c = r_c.shape[:3], r_c.shape[3]
    if block == 1:
        fwd = rev = torch.zeros_like(log_w).unsqueeze(-2)  # (B, H, N, blocks, tokens of a block, K)
        total, y = log_w, torch.zeros_like(v_c)  # total: (B, H, N, blocks, K)
    else:
        r_b, k_b, v_b, log_w_b = (x.unflatten(3, (c // block, block)) for x in (r_c, k_c, v_c, log_w))
        y, fwd, rev, total = _around_the_middle(r_b, k_b, v_b, log_w_b)
        y = y.flatten(3, 4)
    half = block
    while half < c:
        pairs = c // (2 * half)
        r_2 = r_c.view(*lead, pairs, 2, half, -1)[:, :, :, :, 1]  # second halves, (B, H, N, pairs, half, K)
        k_1 = k_c.view(*lead, pairs, 2, half, -1)[:, :, :, :, 0]
        v_1 = v_c.view(*lead, pairs, 2, half, -1)[:, :, :, :, 0]
        fwd_p, rev_p = (x.unflatten(3, (pairs, 2)) for x in (fwd, rev))
        total_p = total.unflatten(3, (pairs, 2))[..., None, :]  # (B, H, N, pairs, 2, 1, K)
        if half == 1:  # neighbours: nothing lies between them
            part = (r_2 * k_1).sum(-1, keepdim=True) * v_1
        else:
            weights = (r_2 * torch.exp(fwd_p[:, :, :, :, 1])) @ (k_1 * torch.exp(rev_p[:, :, :, :, 0])).transpose(
                -1, -2
            )
            part = weights @ v_1
        y = y + torch.stack([torch.zeros_like(part), part], dim=4).reshape(y.shape)
        first, second = total_p[:, :, :, :, 0], total_p[:, :, :, :, 1]
        fwd = torch.cat([fwd_p[:, :, :, :, 0], fwd_p[:, :, :, :, 1] + first], dim=-2)
        rev = torch.cat([rev_p[:, :, :, :, 0] + second, rev_p[:, :, :, :, 1]], dim=-2)
        total = (first + second).squeeze(-2)
        half *= 2
    return y, fwd.flatten(3, 4), rev.flatten(3, 4), total.squeeze(3)


def _around_the_middle(r_b: Tensor, k_b: Tensor, v_b: Tensor, log_w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One masked product per block, with the sum at its middle as reference point.

    Args:
        r_b, k_b, log_w: (B, H, N, blocks, b, K); v_b: (B, H, N, blocks, b, V).

    Returns:
        y (B, H, N, blocks, b, V), fwd and rev (B, H, N, blocks, b, K), total (B, H, N, blocks, K).
    """
    b = log_w.shape[-2]
    after = log_w.cumsum(-2)
    fwd = after - log_w
    total = after[..., -1, :]
    middle = after[..., b // 2 - 1, None, :]
    weights = (r_b * torch.exp(fwd - middle)) @ (k_b * torch.exp(middle - after)).transpose(-1, -2)
    # The upper triangle may overflow: it is replaced, never multiplied.
    upper = torch.ones(b, b, dtype=torch.bool, device=r_b.device).triu()
    return weights.masked_fill(upper, 0.0) @ v_b, fwd, total[..., None, :] - after, total


def wkv6_step(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None,
    wkv_state: Tensor,
) -> tuple[Tensor, Tensor]:
    """WKV6 for one token.

    Args:
        r, k, w_raw: (B, 1, H, K); v: (B, 1, H, V); u: (H, K) or None.
        wkv_state: (B, H, V, K) in the accumulation dtype.

    Returns:
        y (B, 1, H, V) in the dtype of r, and the next state (B, H, V, K).
    """
    acc = accumulation_dtype(r.dtype)
    state = wkv_state.to(acc)
    r_t, k_t, v_t = r[:, 0].to(acc), k[:, 0].to(acc), v[:, 0].to(acc)
    y = (state @ r_t[..., None]).squeeze(-1)  # (B, H, V)
    if u is not None:
        y = y + (r_t * u.to(acc) * k_t).sum(-1, keepdim=True) * v_t
    decay = torch.exp(-torch.exp(w_raw[:, 0].to(acc)))
    state = state * decay[..., None, :] + v_t[..., :, None] * k_t[..., None, :]
    return y.to(r.dtype)[:, None], state

"""Which backend runs an op: argument > GF_KERNELS > what suits the device. Never a silent fallback.

"native" are the C kernels for the CPU, "torch" plain PyTorch on any device, "reference" the readable twins.
"""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor

from . import native
from .errors import BackendUnavailable
from .wkv6_chunk import wkv6_chunked, wkv6_step
from .wkv6_ref import wkv6_recurrent

ENVIRONMENT_VARIABLE = "GF_KERNELS"
BACKENDS = ("native", "torch", "reference")


def choose_backend(op: str, requested: str | None = None, *, native_obstacle: str | None = "not asked for") -> str:
    """The backend that will run `op`.

    Args:
        op: name of the op, for the error text.
        requested: one of BACKENDS, "auto" or None (then GF_KERNELS decides, then "auto").
        native_obstacle: why the native kernels cannot run this op here, None when they can; "auto" takes them then.

    Raises:
        BackendUnavailable: a backend named explicitly does not exist or cannot run here.
    """
    name = requested or os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
    if name == "auto":
        return "torch" if native_obstacle else "native"
    if name not in BACKENDS:
        raise BackendUnavailable(op, name, "no such backend in this build", BACKENDS)
    if name == "native" and native_obstacle:
        raise BackendUnavailable(op, name, native_obstacle, BACKENDS[1:])
    return name


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x weight^T, (..., K) and (N, K) -> (..., N); one row at a time goes to the native kernel where it can."""
    # The shape comes first: a compiler that traces this for many rows must not meet the environment.
    if x.numel() == x.shape[-1] and _native_allowed() and native.matvec_fits(weight, x):
        return native.matvec(weight, x.reshape(-1)).view(*x.shape[:-1], -1)
    return F.linear(x, weight)


def _native_allowed() -> bool:
    return os.environ.get(ENVIRONMENT_VARIABLE, "auto") in ("auto", "native")


def wkv6(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None = None,
    wkv_state: Tensor | None = None,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """WKV6 through the chosen backend; contract of `wkv6_ref.wkv6_recurrent`. Automatically: torch.

    (The native kernels are chosen for whole layers, where they save more than here: goldfinch/finch_native.py.)
    """
    name = backend or os.environ.get(ENVIRONMENT_VARIABLE)
    obstacle = _native_obstacle(r, k, v, w_raw) if name == "native" else "not asked for"
    chosen = choose_backend("wkv6", backend, native_obstacle=obstacle)
    if chosen == "native":
        return _wkv6_native(r, k, v, w_raw, u, wkv_state)
    if chosen == "reference":
        return wkv6_recurrent(r, k, v, w_raw, u, wkv_state)
    if r.shape[1] == 1 and wkv_state is not None:
        return wkv6_step(r, k, v, w_raw, u, wkv_state)
    return wkv6_chunked(r, k, v, w_raw, u, wkv_state)


def _native_obstacle(r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor) -> str | None:
    if torch.is_grad_enabled() and any(x.requires_grad for x in (r, k, v, w_raw)):
        return "it has no gradients"
    if r.device.type != "cpu":
        return f"tensors on {r.device}"
    if r.shape[-1] != v.shape[-1] or not native.supports(r.dtype, r.shape[-1]):
        return f"{r.dtype} with K {r.shape[-1]}, V {v.shape[-1]}"
    return native.unavailable()


def _wkv6_native(
    r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, wkv_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    B, _, H, D = r.shape
    zero = torch.zeros(H, D)
    bonus = None if u is None else u.to(torch.float32).contiguous()
    # w_raw may be float32 beside bf16 rows: everything goes in float32.
    rows = [[x[b].to(torch.float32).contiguous() for x in (r, k, v, w_raw)] for b in range(B)]
    states = torch.zeros(B, H, D, D) if wkv_state is None else wkv_state
    pairs = []
    for b in range(B):
        r_b, k_b, v_b, w_b = rows[b]
        pairs.append(native.wkv6(r_b, k_b, v_b, w_b, zero, bonus, states[b]))
    return torch.stack([y for y, _ in pairs]).to(r.dtype), torch.stack([state for _, state in pairs])

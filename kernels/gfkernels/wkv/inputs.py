"""What every WKV6 form checks before it computes."""

from __future__ import annotations

from torch import Tensor

from gfkernels.errors import KernelInputError


def check_wkv6_inputs(
    op: str,
    r: Tensor,
    k: Tensor,
    v: Tensor,
    w_raw: Tensor,
    u: Tensor | None,
    wkv_state: Tensor | None,
) -> None:
    """Raise KernelInputError unless the shapes are (B,T,H,K) x3, (B,T,H,V), (H,K), (B,H,V,K)."""
    if r.dim() != 4:
        raise KernelInputError(op, f"r of shape {tuple(r.shape)}", "(B, T, H, K)")
    B, T, H, K = r.shape
    V = v.shape[-1]
    expected: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "k": (k, (B, T, H, K)),
        "w_raw": (w_raw, (B, T, H, K)),
        "v": (v, (B, T, H, V)),
    }
    if u is not None:
        expected["u"] = (u, (H, K))
    if wkv_state is not None:
        expected["wkv_state"] = (wkv_state, (B, H, V, K))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise KernelInputError(op, f"{name} of shape {tuple(tensor.shape)}", f"{shape}")

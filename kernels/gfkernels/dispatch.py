"""Which backend runs an op: argument > GF_KERNELS > what suits the device. Never a silent fallback."""

from __future__ import annotations

import os

from torch import Tensor

from .errors import BackendUnavailable
from .wkv6_chunk import wkv6_chunked, wkv6_step
from .wkv6_ref import wkv6_recurrent

ENVIRONMENT_VARIABLE = "GF_KERNELS"
WKV6_BACKENDS = ("torch", "reference")


def choose_backend(op: str, requested: str | None = None) -> str:
    """The backend that will run `op`.

    Args:
        op: name of the op, for the error text.
        requested: "torch", "reference", "auto" or None (then GF_KERNELS decides, then "auto").

    Raises:
        BackendUnavailable: a backend named explicitly does not exist here.
    """
    name = requested or os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
    if name == "auto":
        return "torch"
    if name not in WKV6_BACKENDS:
        raise BackendUnavailable(op, name, "no such backend in this build", WKV6_BACKENDS)
    return name


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
    """WKV6 through the chosen backend; contract of `wkv6_ref.wkv6_recurrent`."""
    if choose_backend("wkv6", backend) == "reference":
        return wkv6_recurrent(r, k, v, w_raw, u, wkv_state)
    if r.shape[1] == 1 and wkv_state is not None:
        return wkv6_step(r, k, v, w_raw, u, wkv_state)
    return wkv6_chunked(r, k, v, w_raw, u, wkv_state)

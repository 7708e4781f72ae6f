"""Which backend runs an op: argument > GF_KERNELS > what suits the device. Never a silent fallback.

"native" are the C kernels for the CPU, "triton" the kernels for GPUs, "torch" plain PyTorch on any device, "reference"
the readable twins.
"""

from __future__ import annotations

import importlib.util
import os

import torch
import torch.nn.functional as F
from torch import Tensor

from gfkernels.wkv6.chunked import wkv6_chunked, wkv6_step
from gfkernels.wkv6.reference import wkv6_recurrent

from .errors import BackendUnavailable
from .native import build as native

ENVIRONMENT_VARIABLE = "GF_KERNELS"
BACKENDS = ("native", "triton", "torch", "reference")


def choose_backend(
    op: str,
    requested: str | None = None,
    *,
    native_obstacle: str | None = "not asked for",
    triton_obstacle: str | None = "not asked for",
) -> str:
    """The backend that will run `op`.

    Args:
        op: name of the op, for the error text.
        requested: one of BACKENDS, "auto" or None (then GF_KERNELS decides, then "auto").
        native_obstacle: why the native kernels cannot run this op here, None when they can; "auto" takes them then.
        triton_obstacle: the same of the Triton kernels; "auto" takes them where the native ones cannot run.

    Raises:
        BackendUnavailable: a backend named explicitly does not exist or cannot run here.
    """
    name = requested_backend(requested)
    obstacles = {"native": native_obstacle, "triton": triton_obstacle}
    if name == "auto":
        return next((backend for backend, reason in obstacles.items() if reason is None), "torch")
    if name not in BACKENDS:
        raise BackendUnavailable(op, name, "no such backend in this build", BACKENDS)
    reason = obstacles.get(name)
    if reason:
        others = tuple(b for b in BACKENDS if b != name and not obstacles.get(b))
        raise BackendUnavailable(op, name, reason, others)
    return name


def requested_backend(requested: str | None = None) -> str:
    """The backend asked for by argument or GF_KERNELS, "auto" when by neither."""
    return requested or os.environ.get(ENVIRONMENT_VARIABLE) or "auto"


def triton_obstacle(device: torch.device, dtype: torch.dtype, requested: str | None = None) -> str | None:
    """Why the Triton kernels cannot take rows of this dtype on this device, None when they can.

    On the CPU they run only in Triton's interpreter, which nobody gets without asking for it by name.
    """
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    interpreting = os.environ.get("TRITON_INTERPRET") == "1" and requested_backend(requested) == "triton"
    if device.type != "cuda" and not interpreting:
        return f"tensors on {device}, Triton needs a GPU (TRITON_INTERPRET=1 interprets, slowly, on the CPU)"
    from . import triton_common as common_triton

    return common_triton.obstacle(torch.empty(0, dtype=dtype, device=device))


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
    """WKV6 through the chosen backend; contract of `wkv6_ref.wkv6_recurrent`. Automatically: triton on a GPU; native on
    the CPU when gradients are wanted.

    (Without gradients the native kernels are chosen for whole layers, where they save more:
    goldfinch/backends/native/layers.py.)
    """
    gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (r, k, v, w_raw))
    obstacle: str | None = "not asked for"
    if gradients or requested_backend(backend) == "native":
        obstacle = _native_obstacle(str(r.device), r.dtype, r.shape[-1], v.shape[-1])
    chosen = choose_backend(
        "wkv6",
        backend,
        native_obstacle=obstacle,
        triton_obstacle=_wkv6_triton_obstacle(str(r.device), r.dtype, r.shape[-1], v.shape[-1], backend),
    )
    if chosen == "native":
        from .wkv6 import native as native_training

        return native_training.wkv6_differentiable(r, k, v, w_raw, u, wkv_state)
    if chosen == "triton":
        return _wkv6_triton(r, k, v, w_raw, u, wkv_state)
    if chosen == "reference":
        return wkv6_recurrent(r, k, v, w_raw, u, wkv_state)
    if r.shape[1] == 1 and wkv_state is not None:
        return wkv6_step(r, k, v, w_raw, u, wkv_state)
    return wkv6_chunked(r, k, v, w_raw, u, wkv_state)


def _wkv6_triton_obstacle(device: str, dtype: torch.dtype, K: int, V: int, requested: str | None) -> str | None:
    if max(K, V) > 128:
        return f"K {K}, V {V}, at most 128"
    return triton_obstacle(torch.device(device), dtype, requested)


def _wkv6_triton(
    r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, wkv_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    from .wkv6 import triton as wkv6_triton
    from .wkv6 import triton_backward as wkv6_backward_triton

    inputs = (r, k, v, w_raw, u, wkv_state)
    gradients = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    if gradients or torch.compiler.is_compiling():
        return wkv6_backward_triton.wkv6_differentiable(*inputs)
    if r.shape[1] == 1 and wkv_state is not None:
        return wkv6_triton.wkv6_step_triton(r, k, v, w_raw, u, wkv_state)
    return wkv6_triton.wkv6_triton(*inputs)


def _native_obstacle(device: str, dtype: torch.dtype, K: int, V: int) -> str | None:
    if device != "cpu":
        return f"tensors on {device}"
    if K != V or not native.supports(dtype, K):
        return f"{dtype} with K {K}, V {V}"
    return native.unavailable()


# As torch.compiler.assume_constant_result: torch.compile takes the answer and does not look inside. That decorator
# imports the compiler, and with it triton: that costs a second and fixes whether triton interprets.
for _function in (_native_obstacle, _wkv6_triton_obstacle):
    setattr(_function, "_dynamo_marked_constant", True)  # noqa: B010 (an attribute that no stub knows)

"""WKV6 through the backend that is asked for, or that suits the tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gfkernels.dispatch import choose_backend, requested_backend, triton_obstacle

from . import native
from .chunked import wkv6_chunked, wkv6_step
from .native_gradients import wkv6_differentiable
from .reference import wkv6_recurrent

Form = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor]]


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
    """WKV6 through the chosen backend; contract of `wkv6_recurrent`. Automatically: triton on a GPU; native on the CPU
    when gradients are wanted. (Without gradients whole layers go to the native kernels, which saves more.)

    Raises:
        BackendUnavailable: the backend that the argument or GF_KERNELS names cannot run this.
        KernelInputError: shapes that do not belong together.
    """
    gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (r, k, v, w_raw))
    sizes = (str(r.device), r.dtype, r.shape[-1], v.shape[-1])
    native_considered = gradients or requested_backend(backend) == "native"
    chosen = choose_backend(
        "wkv6",
        backend,
        native_obstacle=_native_obstacle(*sizes) if native_considered else "not asked for",
        triton_obstacle=_triton_obstacle(*sizes, backend),
    )
    return _FORMS[chosen](r, k, v, w_raw, u, wkv_state)


def _native_obstacle(device: str, dtype: torch.dtype, K: int, V: int) -> str | None:
    return native.obstacle(device, dtype, K, V)


def _triton_obstacle(device: str, dtype: torch.dtype, K: int, V: int, requested: str | None) -> str | None:
    if max(K, V) > 128:
        return f"K {K}, V {V}, at most 128"
    return triton_obstacle(torch.device(device), dtype, requested)


# As torch.compiler.assume_constant_result: torch.compile takes the answer and does not look inside. That decorator
# imports the compiler, and with it triton: that costs a second and fixes whether triton interprets.
for _function in (_native_obstacle, _triton_obstacle):
    setattr(_function, "_dynamo_marked_constant", True)  # noqa: B010 (an attribute that no stub knows)


def _torch(
    r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, wkv_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    if r.shape[1] == 1 and wkv_state is not None:
        return wkv6_step(r, k, v, w_raw, u, wkv_state)
    return wkv6_chunked(r, k, v, w_raw, u, wkv_state)


def _triton(
    r: Tensor, k: Tensor, v: Tensor, w_raw: Tensor, u: Tensor | None, wkv_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    from . import triton, triton_backward

    inputs = (r, k, v, w_raw, u, wkv_state)
    gradients = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    if gradients or torch.compiler.is_compiling():
        return triton_backward.wkv6_differentiable(*inputs)
    if r.shape[1] == 1 and wkv_state is not None:
        return triton.wkv6_step_triton(r, k, v, w_raw, u, wkv_state)
    return triton.wkv6_triton(*inputs)


_FORMS: dict[str, Form] = {
    "native": wkv6_differentiable,
    "triton": _triton,
    "torch": _torch,
    "reference": wkv6_recurrent,
}

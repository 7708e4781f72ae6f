"""WKV6 with gradients as an operator of its own, made from two functions: one forwards, one for the gradients.

torch.compile calls an operator as it is. It cannot look into C or into Triton's launches from Python, and the chunked
torch form, which it could look into, costs more than all matrix products of a small model together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Form = Callable[..., tuple[Tensor, Tensor]]
Gradients = Callable[..., tuple[Tensor | None, ...]]
INPUTS = "Tensor r, Tensor k, Tensor v, Tensor w_raw, Tensor? u, Tensor? wkv_state"


def differentiable(name: str, forward: Form, gradients: Gradients) -> Form:
    """Register the operators gfkernels::NAME and gfkernels::NAME_gradients.

    Args:
        name: of the operator.
        forward: (r, k, v, w_raw, u, wkv_state), as in `wkv6_recurrent` -> y in the dtype of r and the state
            after it in float32.
        gradients: (the same inputs, dy, d_end) -> gradients of the six inputs in their dtypes, None for those absent.

    Returns:
        the operator, called as `forward`, with gradients for every argument.
    """

    @torch.library.custom_op(f"gfkernels::{name}", mutates_args=(), schema=f"({INPUTS}) -> (Tensor, Tensor)")
    def operator(*inputs: Tensor | None) -> tuple[Tensor, Tensor]:
        return forward(*inputs)

    @operator.register_fake
    def _(r: Tensor, k: Tensor, v: Tensor, *rest: Tensor | None) -> tuple[Tensor, Tensor]:
        B, _, H, K = r.shape
        return r.new_empty(v.shape), r.new_empty(B, H, v.shape[-1], K, dtype=torch.float32)

    results = ", ".join(["Tensor"] * 6)
    schema = f"({INPUTS}, Tensor dy, Tensor d_end) -> ({results})"

    @torch.library.custom_op(f"gfkernels::{name}_gradients", mutates_args=(), schema=schema)
    def gradient_operator(*inputs: Tensor | None) -> tuple[Tensor, ...]:
        return tuple(_or_nothing(x, inputs[0]) for x in gradients(*inputs))

    @gradient_operator.register_fake
    def _(*inputs: Tensor | None) -> tuple[Tensor, ...]:
        return tuple(_or_nothing(None if x is None else x.new_empty(x.shape), inputs[0]) for x in inputs[:6])

    def keep(ctx: Any, inputs: tuple[Tensor | None, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, dy: Tensor, d_end: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        found = gradient_operator(*inputs, dy, d_end)
        return tuple(None if given is None else x for given, x in zip(inputs, found, strict=True))

    operator.register_autograd(backward, setup_context=keep)
    return operator


def _or_nothing(x: Tensor | None, like: Tensor | None) -> Tensor:
    """x; an empty tensor in place of None, which an operator cannot return."""
    assert like is not None
    return like.new_empty(0) if x is None else x

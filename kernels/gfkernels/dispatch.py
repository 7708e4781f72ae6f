"""Which backend runs an op: argument > GF_KERNELS > what suits the device. Never a silent fallback.

"native" are the C kernels for the CPU, "triton" the kernels for GPUs, "torch" plain PyTorch on any device, "reference"
the readable twins. Whoever runs many ops asks once, when a model is loaded, and passes the answer on: an op that is
given a backend looks nothing up.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import TYPE_CHECKING

from .errors import BackendUnavailable

if TYPE_CHECKING:
    import torch

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


@functools.cache
def triton_is_installed() -> bool:
    """Whether triton can be imported. Looking for it takes 50 microseconds, more than many ops."""
    return importlib.util.find_spec("triton") is not None


def triton_obstacle(device: torch.device, dtype: torch.dtype, requested: str | None = None) -> str | None:
    """Why the Triton kernels cannot take rows of this dtype on this device, None when they can.

    On the CPU they run only in Triton's interpreter, which nobody gets without asking for it by name.
    """
    if not triton_is_installed():
        return "triton is not installed"
    interpreting = requested_backend(requested) == "triton" and os.environ.get("TRITON_INTERPRET") == "1"
    if device.type != "cuda" and not interpreting:
        return f"tensors on {device}, Triton needs a GPU (TRITON_INTERPRET=1 interprets, slowly, on the CPU)"
    import torch

    from . import triton_common

    return triton_common.obstacle(torch.empty(0, dtype=dtype, device=device))

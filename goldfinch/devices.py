"""Which device computes, and waiting for it: devices work while Python goes on. Loads torch only for a GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from gfkernels.arrays import Host

from .errors import DeviceError

if TYPE_CHECKING:
    import torch

# What the drivers of NVIDIA and AMD, and Windows' subsystem for Linux, call theirs in /dev.
GPU_NODES = ("nvidia", "nvhost", "nvmap", "nvgpu", "kfd", "dxg")
F = TypeVar("F", bound=Callable[..., Any])


def without_gradients(function: F) -> F:
    """`torch.no_grad` for a function that may also run where torch is not loaded."""

    @wraps(function)
    def wrapped(*given: Any, **options: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None:
            return function(*given, **options)
        with torch.no_grad():
            return function(*given, **options)

    return wrapped  # type: ignore[return-value]


def out_of_memory() -> tuple[type[Exception], ...]:
    """What a device without memory raises: torch's error where it is loaded. For `except`."""
    torch = sys.modules.get("torch")
    return () if torch is None else (torch.OutOfMemoryError,)


def synchronize(device: str | torch.device | Host) -> None:
    """Wait until the device has done what it was asked: before a clock is read."""
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)  # type: ignore[arg-type]


def may_have_gpu() -> bool:
    """Whether torch could find a GPU here, as far as it can be told without it; True where it cannot."""
    if not sys.platform.startswith("linux"):
        return True
    names = os.listdir("/dev") if os.path.isdir("/dev") else []
    return any(name.startswith(GPU_NODES) for name in names)


def available_device(name: str | torch.device) -> torch.device:
    """The device of that name. Only asks: processes may still be forked afterwards.

    Raises:
        DeviceError: it is not there.
    """
    import torch

    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"device {device} is not available here", hint="use --device cpu")
    return device


def make_current(device: torch.device) -> None:
    """Make a GPU the current one, where Triton's kernels and new streams go."""
    if device.type == "cuda" and device.index is not None:
        import torch

        torch.cuda.set_device(device)

"""Which device computes, and waiting for it: devices work while Python goes on."""

from __future__ import annotations

import torch

from .errors import DeviceError


def synchronize(device: str | torch.device) -> None:
    """Wait until the device has done what it was asked: before a clock is read."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def available_device(name: str | torch.device) -> torch.device:
    """The device of that name. Only asks: processes may still be forked afterwards.

    Raises:
        DeviceError: it is not there.
    """
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"device {device} is not available here", hint="use --device cpu")
    return device


def make_current(device: torch.device) -> None:
    """Make a GPU the current one, where Triton's kernels and new streams go."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)

"""Waiting for devices, which compute while Python goes on."""

from __future__ import annotations

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked: before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)

"""Outputs that start as NaN: an element that a kernel forgets to write shows."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch


class PoisonedTorch:
    """torch, except that fresh memory holds NaN."""

    def __getattr__(self, name: str) -> object:
        real = getattr(torch, name)
        if name in ("empty", "empty_like"):
            return lambda *a, **k: real(*a, **k).fill_(float("nan"))
        return real


def poison_outputs(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Give these modules the poisoned torch."""
    for module in modules:
        monkeypatch.setattr(module, "torch", PoisonedTorch())

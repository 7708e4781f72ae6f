"""Outputs that start as NaN: an element that a kernel forgets to write shows."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from gfkernels import arrays


class PoisonedTorch:
    """torch, except that fresh memory holds NaN."""

    def __getattr__(self, name: str) -> object:
        real = getattr(torch, name)
        if name in ("empty", "empty_like"):
            return lambda *a, **k: real(*a, **k).fill_(float("nan"))
        return real


def poison_outputs(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
    """Give these modules the poisoned torch, and those that take rows of either library poisoned rows."""
    empty = arrays.empty

    def poisoned(*given: Any, **options: Any) -> Any:
        rows = empty(*given, **options)
        if "float" in str(rows.dtype):
            rows[...] = float("nan")
        return rows

    for module in modules:
        if getattr(module, "arrays", None) is arrays:
            monkeypatch.setattr(arrays, "empty", poisoned)
        else:
            monkeypatch.setattr(module, "torch", PoisonedTorch())

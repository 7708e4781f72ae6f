"""Rows drawn at random: the line that every policy has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Observer


class Uniform:
    """Keeps a random choice of rows, the same for every document of a length."""

    def queries(self, tokens: int) -> int:
        return 0

    def observer(self, tokens: int) -> Observer:
        raise NotImplementedError("it looks at no query")

    def kept(self, scores: Tensor | None, tokens: int, count: int) -> Tensor:
        chosen = torch.randperm(tokens, generator=torch.Generator().manual_seed(tokens))[:count]
        return torch.zeros(tokens, dtype=torch.bool).scatter_(0, chosen, True)

"""What dropping policies share: what they see of a model's attention, and how they choose from scores.

Notation: T document tokens, H query heads, G key-value heads, n queries, t keys, D head dim.

A policy scores rows by key-value head. Of a layer whose heads may keep rows of their own, it chooses for each head; a
GoldFinch cache has one row for all heads of all layers, and there their scores are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from gfkernels.precision import accumulation_dtype
from torch import Tensor

# Weights of one product stay below this many numbers (64 MiB in float32): never a T x T matrix.
MOST_WEIGHTS = 1 << 24


class Observer(Protocol):
    """Sees one attention layer while a document runs through it."""

    def see(self, q: Tensor, k: Tensor, start: int) -> None:
        """The next queries.

        Args:
            q: (H, n, D) of the tokens from `start` on, rotated where the model rotates.
            k: (G, t, D) of all tokens up to the last of them; G divides H.
        """

    def scores(self, k: Tensor, v: Tensor) -> Tensor:
        """How important each row is, (G, T) float64, when all queries were seen.

        Args:
            k, v: (G, T, D), all keys and values.
        """


class Policy(Protocol):
    """Chooses the rows that a smaller cache keeps."""

    def queries(self, tokens: int) -> int:
        """How many of the last queries of T tokens it looks at; 0 for none."""

    def observer(self, tokens: int) -> Observer:
        """One for each attention layer, for T tokens."""

    def kept(self, scores: Tensor | None, tokens: int, count: int) -> Tensor:
        """Which rows stay.

        Args:
            scores: (..., T), of a head or of all together; None for a policy that looks at no query.
            tokens: T.
            count: how many rows, 1 to T.

        Returns:
            (..., T) bool, `count` of them true along the last axis.
        """


def attention_weights(q: Tensor, k: Tensor, start: int) -> Iterator[Tensor]:
    """Softmax weights (G, H / G, m, t) of some queries at a time, of which none sees a later key.

    Args:
        q, k, start: as in `Observer.see`.
    """
    (heads, n, width), (groups, t, _) = q.shape, k.shape
    acc = accumulation_dtype(q.dtype)
    q, k = q.to(acc).view(groups, heads // groups, n, width), k.to(acc)[:, None]
    positions = torch.arange(t, device=q.device)
    step = max(MOST_WEIGHTS // (heads * t), 1)
    for at in range(0, n, step):
        part = q[:, :, at : at + step]
        scores = part @ k.transpose(-1, -2) / math.sqrt(width)
        later = positions > (start + at + torch.arange(part.shape[2], device=q.device))[:, None]
        yield scores.masked_fill(later, -torch.inf).softmax(-1)


def top(scores: Tensor, count: int, always: Tensor) -> Tensor:
    """The rows of the highest scores, ties to the earlier one, (..., T) bool.

    Args:
        scores: (..., T).
        count: rows to keep, at least as many as `always` has.
        always: (T,) bool, rows that stay whatever their scores.
    """
    order = scores.masked_fill(always, torch.inf).sort(dim=-1, descending=True, stable=True).indices[..., :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order, True)


def at_ends(tokens: int, first: int, last: int, device: torch.device | None = None) -> Tensor:
    """(T,) bool: the `first` rows and the `last` ones."""
    places = torch.arange(tokens, device=device)
    return (places < first) | (places >= tokens - last)


class ColumnSums:
    """Adds up the attention that each row gets, the mean over the query heads of each key-value head."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self.sums: Tensor | None = None

    def see(self, q: Tensor, k: Tensor, start: int) -> None:
        if self.sums is None:
            self.sums = q.new_zeros(k.shape[0], self._tokens, dtype=torch.float64)
        for weights in attention_weights(q, k, start):
            self.sums[:, : k.shape[1]] += weights.double().sum(2).mean(1)

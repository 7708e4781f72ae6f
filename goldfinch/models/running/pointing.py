"""What a pointer is given and what it keeps, of either library (`gfkernels.arrays`); sizes that all pointers share.

Notation: B batch, n document rows read, C d_model, R = C / compression_ratio, D pointer width, M = MATCHED.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# How many of the last tokens a row may continue.
MATCHED = 8
DILATIONS = (1, 2, 4, 8)
# Of the question's tokens, and of the rows after each further look at it.
QUESTION_DILATIONS = (1, 2, 4)
LOOK_DILATIONS = (1, 2, 4)
LOOK_HEAD_DIM = 32
# Rows that share so many tokens in a row with the question are marked.
RUNS = (2, 3)
# What parts a line into columns, one kind of sign after the other, and how many columns are told apart.
SEPARATORS = ("|\t", ",;")
MOST_COLUMNS = 32
# How many rows a look may choose whose line and columns are then known to all.
MARKS = 4
GATES = 3  # vocabulary, copy, end
NOTHING = -1  # no token: before the first one, or padding


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of B sequences, as the cache has them.

    Attributes:
        token_ids: (B, n) int64; NOTHING in rows that only pad.
        embedded: (B, n, C), the normed embeddings.
        compressed_k: (B, n, R).
    """

    token_ids: Tensor
    embedded: Tensor
    compressed_k: Tensor


@dataclass(frozen=True, eq=False)
class Pointing:
    """What a pointer needs to choose among the rows; constant but for the last tokens.

    Attributes:
        token_ids: (B, n) int64; NOTHING in rows that only pad.
        before: (B, n, M) int64, the tokens before each row in its document, the nearest first.
        keys: (B, n, D).
        gates: (B, n, GATES), what a chosen row adds to the gates.
        recent: (B, M) int64, the last tokens, the latest first.
        end: id of the token that ends an answer, or None.
    """

    token_ids: Tensor
    before: Tensor
    keys: Tensor
    gates: Tensor
    recent: Tensor
    end: int | None = None

    def select(self, rows: Tensor) -> Pointing:
        """That of some of the sequences."""
        ids, before, keys = self.token_ids[rows], self.before[rows], self.keys[rows]
        return Pointing(ids, before, keys, self.gates[rows], self.recent[rows], self.end)

    @classmethod
    def stack(cls, pointings: Sequence[Pointing]) -> Pointing:
        """Sequences side by side along the batch axis, padded behind."""

        import torch
        from torch.nn.utils.rnn import pad_sequence

        def padded(name: str, value: float) -> Tensor:
            rows = [getattr(pointing, name)[0] for pointing in pointings]
            return pad_sequence(rows, batch_first=True, padding_value=value)

        ids, before = padded("token_ids", NOTHING), padded("before", NOTHING)
        recent = torch.cat([pointing.recent for pointing in pointings])
        return cls(ids, before, padded("keys", 0.0), padded("gates", 0.0), recent, pointings[0].end)

"""GoldMemory: a document from a cache, and the rows since.

Notation: B batch, n rows after the document, C d_model, R = C / compression_ratio, H heads, D head dim.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .state import EMPTY, GoldDocument, GrowingBuffer

if TYPE_CHECKING:
    from torch import Tensor

    from .config import ModelConfig
    from .executor import Executor


@dataclass(frozen=True)
class GoldMemory:
    """What all GOLD layers of one sequence share; a `state.Memory` that grows.

    Attributes:
        executor: rebuilds keys and values and attends to them.
        document: rows that came from a cache file, or None.
        token_ids: (B, n) rows after the document.
        compressed_k: (B, n, R).
        expanded: per GOLD layer buffers of K and V (B, n, C) of the rows after the document.
    """

    executor: Executor
    document: GoldDocument | None = None
    token_ids: GrowingBuffer = EMPTY
    compressed_k: GrowingBuffer = EMPTY
    expanded: tuple[tuple[GrowingBuffer, GrowingBuffer], ...] = ()

    @property
    def document_length(self) -> int:
        return 0 if self.document is None else self.document.length

    @property
    def document_rows(self) -> int:
        """Rows of the document whose keys and values are held, as a reading policy may have chosen them."""
        expanded = None if self.document is None else self.document.expanded
        return expanded[0][0].shape[1] if expanded else 0

    @property
    def length(self) -> int:
        return self.document_length + self.token_ids.length

    @property
    def is_expanded(self) -> bool:
        """Whether keys and values of every row that is read are held."""
        return self.document is None or self.document.expanded is not None

    def previous_row(self) -> tuple[Tensor, Tensor] | None:
        """(token id (B, 1), compressed_k (B, 1, R)) of the last row, None when empty."""
        if self.token_ids.length:
            return self.token_ids.rows[:, -1:], self.compressed_k.rows[:, -1:]
        return None if self.document is None else self.document.row_before(self.document.length)

    def append(self, token_ids: Tensor, compressed_k: Tensor) -> GoldMemory:
        """The memory with new rows: token_ids (B, n) and compressed_k (B, n, R)."""
        pairs = self.executor.rebuild(token_ids, compressed_k, self.previous_row(), self.length)
        old = self.expanded or ((EMPTY, EMPTY),) * len(pairs)
        expanded = tuple((k.append(new_k), v.append(new_v)) for (k, v), (new_k, new_v) in zip(old, pairs, strict=True))
        return replace(
            self,
            token_ids=self.token_ids.append(token_ids),
            compressed_k=self.compressed_k.append(compressed_k),
            expanded=expanded,
        )

    def attend(self, index: int, q: Tensor) -> Tensor:
        """Attention of q (B, H, Tq, D), the last Tq positions, over what is held."""
        return self.executor.attend_memory(index, q, self)


def expanded_bytes(config: ModelConfig, tokens: int, element_bytes: int) -> int:
    """Bytes that the expanded keys and values of `tokens` document tokens take."""
    return 2 * config.n_gold * tokens * config.d_model * element_bytes

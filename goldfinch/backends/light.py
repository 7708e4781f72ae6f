"""Who runs the layers where torch is not loaded: the C kernels, products of several rows included.

The layers are those of `native`, which takes rows of either library; only those products are not torch's, and round
otherwise, so its name in the numerics of caches is "numpy", whose arrays hold the rows. Of the GOLD layers it runs one
row after the other: of a question, the last 2G + 1.

Notation: B batch (1), T tokens, C d_model, R = C / compression_ratio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from goldfinch.models.executor import WITHOUT_TORCH, KeysValues, block_tokens_of
from goldfinch.models.memory import GoldMemory
from goldfinch.models.state import GoldDocument, LayerState, Ranges

from .native import decode, gold, layers
from .vectors import BlockVectors, block_vectors


@dataclass(frozen=True)
class _Made:
    """As `prepared.Prepared`, of weights that nobody writes to."""

    vectors: BlockVectors

    def get(self) -> BlockVectors:
        return self.vectors


class LightExecutor:
    """Runs the layers of a model on numpy's arrays; contract of each method in `executor.Executor`.

    Args:
        model: whose layers it runs (`running.light_model.LightModel`).
    """

    name = WITHOUT_TORCH
    fewest_batch_rows = 1 << 30
    block_tokens = block_tokens_of(WITHOUT_TORCH, "cpu")
    packing_obstacle = "without torch, documents are computed one at a time"

    def __init__(self, model: Any) -> None:
        self.model = model
        blocks = model.blocks[: model.config.n_prefill]
        self._vectors: Any = [_Made(block_vectors(block)) for block in blocks]
        self._plan = decode.plan(model)

    def lower_layers(
        self, token_ids: Any, states: Sequence[LayerState], lengths: Sequence[int] | None = None
    ) -> tuple[Any, list[LayerState]]:
        assert lengths is None
        if token_ids.shape[1] == 1:
            return decode.run_finch_layers(self.model, self._plan, token_ids, states)
        return layers.run_layers(self.model, self._vectors, token_ids, states)

    def upper_layers(self, x: Any, states: Sequence[LayerState], memory: Any) -> tuple[Any, list[LayerState]]:
        assert isinstance(memory, GoldMemory)
        assert memory.is_expanded
        first, T = self.model.config.n_prefill, x.shape[1]
        upper, rows = list(states[first:]), []
        for t in range(T):
            row, upper = decode.run_gold_layers(
                self.model, self._plan, x[:, t : t + 1], upper, memory, behind=T - 1 - t
            )
            rows.append(row)
        return np.concatenate(rows, 1), [*states[:first], *upper]

    def rebuild(
        self, token_ids: Any, compressed_k: Any, previous: Any, start: Any, only: int | None = None
    ) -> list[KeysValues]:
        rows = token_ids.shape[1]
        if previous is not None:
            token_ids = np.concatenate([previous[0], token_ids], 1)
            compressed_k = np.concatenate([previous[1], compressed_k], 1)
        if only is None and rows == 1:
            return decode.rebuild_row(self.model, self._plan, token_ids, compressed_k, start)
        chosen = self.model.gold_layers if only is None else [self.model.gold_layers[only]]
        return gold.keys_values(self.model, chosen, token_ids, compressed_k, previous is not None, start)

    def expand(self, document: GoldDocument, rows: Ranges | None = None) -> GoldDocument:
        ranges = ((0, document.length),) if rows is None else rows
        shape = (1, sum(end - start for start, end in ranges), self.model.config.d_model)
        pairs: Any = tuple((np.empty(shape, np.float32), np.empty(shape, np.float32)) for _ in self.model.gold_layers)
        gold.fill(self.model, document, ranges, pairs)
        return replace(document, expanded=pairs, rows=rows)

    def rebuilt(self, document: GoldDocument, index: int) -> Iterator[Any]:
        raise NotImplementedError("what is read without torch is held expanded")

    def attend(self, q: Any, k: Any, v: Any, q_start: int, k_start: int) -> Iterator[Any]:
        raise NotImplementedError("without torch, GOLD layers attend in C")

    def attend_document(self, index: int, q: Any, q_start: int, document: GoldDocument) -> Iterator[Any]:
        raise NotImplementedError("without torch, GOLD layers attend in C")

    def attend_memory(self, index: int, q: Any, memory: Any) -> Any:
        raise NotImplementedError("without torch, GOLD layers attend in C")

    def decoder(self, state: Any, capacity: int) -> None:
        return None

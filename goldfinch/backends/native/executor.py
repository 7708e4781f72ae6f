"""What C does faster on the CPU: one sequence without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import torch
from gfkernels.native.build import unavailable
from gfkernels.wkv.native import supports as wkv6_supports
from torch import Tensor

from goldfinch.backends.prepared import Prepared
from goldfinch.backends.vectors import BlockVectors, block_vectors
from goldfinch.models.executor import KeysValues
from goldfinch.models.memory import GoldMemory
from goldfinch.models.stack import Stack
from goldfinch.models.state import GoldDocument, LayerState, Memory, Ranges
from goldfinch.models.torch_executor import TorchExecutor, with_previous

from . import decode, gold, layers


class NativeExecutor(TorchExecutor):
    """Fused C kernels for whole layers, and one token in three C calls."""

    # One token of one answer goes through all layers in C, so fewer rows than this are slower together
    # (bench.speed.questions).
    fewest_batch_rows = 4

    @staticmethod
    def obstacle(model: Stack) -> str | None:
        """Why the layers of this model cannot run here, None when they can; builds the kernels if need be."""
        return NativeExecutor.misfit(model) or unavailable()

    @staticmethod
    def misfit(model: Stack) -> str | None:
        """Why there are no kernels for a model as it is now, None where there are."""
        config = model.config
        if model.device.type != "cpu":
            return "the model is not on the CPU"
        if config.n_finch != config.n_prefill:
            return "the lower layers are not all recurrent"
        if not wkv6_supports(model.dtype, config.head_dim):
            return f"no kernels for {str(model.dtype).split('.')[1]} with heads of {config.head_dim}"
        if config.channel_mix != "finch":
            return "no kernels for this channel mix"
        return None

    @cached_property
    def _vectors(self) -> list[Prepared[BlockVectors]]:
        blocks = list(self.model.blocks)[: self.model.config.n_prefill]
        return [Prepared(block.parameters(), partial(block_vectors, block)) for block in blocks]  # type: ignore[arg-type]

    @cached_property
    def _plan(self) -> Prepared[decode.Plan]:
        return Prepared(self.model.parameters(), partial(decode.plan, self.model))

    def lower_layers(
        self, token_ids: Tensor, states: Sequence[LayerState], lengths: Sequence[int] | None = None
    ) -> tuple[Tensor, list[LayerState]]:
        if lengths is not None or not _fits(token_ids):
            return super().lower_layers(token_ids, states, lengths)
        if token_ids.shape[1] == 1:
            return decode.run_finch_layers(self.model, self._plan.get(), token_ids, states)
        return layers.run_layers(self.model, self._vectors, token_ids, states)

    def upper_layers(self, x: Tensor, states: Sequence[LayerState], memory: Memory) -> tuple[Tensor, list[LayerState]]:
        held = isinstance(memory, GoldMemory) and memory.is_expanded
        if x.shape[1] != 1 or not held or not _fits(x):
            return super().upper_layers(x, states, memory)
        assert isinstance(memory, GoldMemory)
        first = self.model.config.n_prefill
        x, after = decode.run_gold_layers(self.model, self._plan.get(), x, states[first:], memory)
        return x, [*states[:first], *after]

    def rebuild(
        self,
        token_ids: Tensor,
        compressed_k: Tensor,
        previous: tuple[Tensor, Tensor] | None,
        start: int | Tensor,
        only: int | None = None,
    ) -> list[KeysValues]:
        if isinstance(start, Tensor) or not _fits(token_ids):
            return super().rebuild(token_ids, compressed_k, previous, start, only)
        rows = token_ids.shape[1]
        token_ids, compressed_k = with_previous(token_ids, compressed_k, previous)
        if only is None and rows == 1:
            return decode.rebuild_row(self.model, self._plan.get(), token_ids, compressed_k, start)
        chosen = self.model.gold_layers if only is None else [self.model.gold_layers[only]]
        return gold.keys_values(self.model, chosen, token_ids, compressed_k, previous is not None, start)

    def _fill(self, document: GoldDocument, ranges: Ranges, pairs: Sequence[KeysValues]) -> None:
        if not _fits(document.token_ids):
            super()._fill(document, ranges, pairs)
            return
        gold.fill(self.model, document, ranges, pairs)


def _fits(rows: Tensor) -> bool:
    """Whether the kernels take these rows (B, T, ...): those of one sequence, and no gradients."""
    return rows.shape[0] == 1 and not torch.is_grad_enabled()

"""What Triton does faster on a GPU: any number of sequences, packed documents, decoding as a graph; no gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from weakref import WeakKeyDictionary

import torch
from gfkernels import dispatch
from torch import Tensor

from goldfinch.backends.prepared import Prepared
from goldfinch.backends.vectors import BlockVectors, block_vectors
from goldfinch.models.executor import Decoder, KeysValues, Partial
from goldfinch.models.layers import FinchChannelMix, split_heads
from goldfinch.models.stack import Stack
from goldfinch.models.state import GoldDocument, LayerState, ModelState, Ranges
from goldfinch.models.torch_executor import TorchExecutor

from . import gold, layers
from .graph import StaticDecoder


class TritonExecutor(TorchExecutor):
    """Fused Triton kernels."""

    packing_obstacle = None

    @staticmethod
    def obstacle(model: Stack, requested: str | None = None) -> str | None:
        """Why the layers of this model cannot run here, None when they can.

        Args:
            requested: the backend asked for by argument; on the CPU an interpreter runs when it is this one.
        """
        config = model.config
        reason = dispatch.triton_obstacle(model.device, model.dtype, requested)
        if reason:
            return reason
        if config.n_finch != config.n_prefill:
            return "the lower layers are not all recurrent"
        if config.head_dim > 128 or config.head_dim % 16:
            return f"no kernels for heads of {config.head_dim}"
        if any(not isinstance(block.ffn, FinchChannelMix) for block in model.blocks[: config.n_prefill]):
            return "no kernels for this channel mix"
        return None

    @cached_property
    def _vectors(self) -> list[Prepared[BlockVectors]]:
        blocks = list(self.model.blocks)[: self.model.config.n_prefill]
        return [Prepared(block.parameters(), partial(block_vectors, block)) for block in blocks]  # type: ignore[arg-type]

    @cached_property
    def _tables(self) -> WeakKeyDictionary[GoldDocument, gold.Tables]:
        return WeakKeyDictionary()

    def _tables_of(self, document: GoldDocument) -> gold.Tables:
        """The tables of a document, made once and kept as long as it."""
        if document not in self._tables:
            self._tables[document] = gold.tables_of(self.model, document)
        return self._tables[document]

    def lower_layers(
        self, token_ids: Tensor, states: Sequence[LayerState], lengths: Sequence[int] | None = None
    ) -> tuple[Tensor, list[LayerState]]:
        if torch.is_grad_enabled():
            return super().lower_layers(token_ids, states, lengths)
        if lengths is not None:
            return layers.run_layers(self.model, self._vectors, token_ids, lengths, states)
        B, T = token_ids.shape
        x, after = layers.run_layers(self.model, self._vectors, token_ids.reshape(1, B * T), (T,) * B, states)
        return x.view(B, T, -1), after

    def _fill(self, document: GoldDocument, ranges: Ranges, pairs: Sequence[KeysValues]) -> None:
        if torch.is_grad_enabled() or document.token_ids.shape[0] != 1:
            super()._fill(document, ranges, pairs)
        else:
            gold.fill(self.model, self._tables_of(document), document, ranges, pairs)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, q_start: int, k_start: int) -> Iterator[Partial]:
        if torch.is_grad_enabled():
            yield from super().attend(q, k, v, q_start, k_start)
        else:
            k, v = (split_heads(x, q.shape[-1]).transpose(1, 2) for x in (k, v))
            yield gold.attend(q, k, v, q_start, k_start)

    def attend_document(self, index: int, q: Tensor, q_start: int, document: GoldDocument) -> Iterator[Partial]:
        if torch.is_grad_enabled():
            yield from super().attend_document(index, q, q_start, document)
        elif document.expanded is None:
            yield from gold.attend_rebuilt(self.model, self._tables_of(document), document, index, q, q_start)
        else:
            k, v = document.expanded[index]
            for rows, k_start in document.pieces(q_start):
                yield from self.attend(q, k[:, rows], v[:, rows], q_start, k_start)

    def decoder(self, state: ModelState, capacity: int) -> Decoder | None:
        return StaticDecoder(self.model, self, state, capacity) if self.model.device.type == "cuda" else None

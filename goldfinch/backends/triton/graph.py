"""Decoding in static buffers, on a GPU replayed as one CUDA graph: a step costs one launch instead of hundreds.

Notation: C d_model, R = C / compression_ratio, H heads, D head dim, G GOLD layers, n tokens decoded so far.

Everything that changes from step to step lives in tensors that stay where they are: states, the rows since the document
and their count. `session.decode_one_token` is the twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING

import torch
from gfkernels import merge_partials
from torch import Tensor

from goldfinch.models.gold import GoldMemory, GoldTimeMix, rebuild_keys_values
from goldfinch.models.state import LayerState, ModelState

from . import gold as gold_triton
from . import layers as finch_triton

if TYPE_CHECKING:
    from goldfinch.models.language_model import LanguageModel

WARM_UP_STEPS = 2
# Where queries stand as far as masks go: behind all keys, whose number only the device knows.
BEHIND_ALL = 1 << 30


def supports(model: LanguageModel) -> str | None:
    """None when this model can decode here in static buffers, else the reason why not."""
    if model.layer_backend() != "triton":
        return f"the layers run on {model.layer_backend()}"
    return None if model.config.n_finch == model.config.n_prefill else "the lower layers are not all recurrent"


class _StaticMemory:
    """What GoldTimeMix asks of a memory, over a fixed document and buffers that fill up."""

    def __init__(self, model: LanguageModel, memory: GoldMemory, capacity: int) -> None:
        self.model, self.document = model, memory.document
        self.start, device = memory.document_length, model.device
        past = memory.token_ids.length
        shape = (1, past + capacity, model.config.d_model)
        self.pairs: list[tuple[Tensor, Tensor]] = []
        for k, v in memory.expanded or ((None, None),) * model.config.n_gold:
            buffers = [torch.zeros(shape, dtype=model.dtype, device=device) for _ in range(2)]
            for buffer, rows in zip(buffers, (k, v), strict=True):
                if rows is not None and past:
                    buffer[:, :past] = rows.rows
            self.pairs.append((buffers[0], buffers[1]))
        self.count = torch.full((1,), past, dtype=torch.int64, device=device)
        self.length = torch.full((1,), memory.length, dtype=torch.int64, device=device)
        previous = memory.previous_row()
        assert previous is not None
        self.previous_id, self.previous_c = (x.clone() for x in previous)

    def tensors(self) -> list[Tensor]:
        """All that a step changes, but for rows that the next one overwrites."""
        return [self.count, self.length, self.previous_id, self.previous_c]

    def append(self, token: Tensor, compressed_k: Tensor) -> None:
        """Put one row behind the others: token (1, 1), compressed_k (1, 1, R)."""
        previous = (self.previous_id, self.previous_c)
        rows = rebuild_keys_values(self.model, token, compressed_k, previous, self.length)
        for (all_k, all_v), (k, v) in zip(self.pairs, rows, strict=True):
            all_k.index_copy_(1, self.count, k)
            all_v.index_copy_(1, self.count, v)
        self.previous_id.copy_(token)
        self.previous_c.copy_(compressed_k)
        self.count += 1
        self.length += 1

    def attend(self, layer: GoldTimeMix, index: int, q: Tensor, q_start: Tensor) -> Tensor:
        """Attention of q (1, H, 1, D) over document and rows."""
        return merge_partials(self._partials(layer, index, q))[0].to(q.dtype)

    def _partials(self, layer: GoldTimeMix, index: int, q: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if self.document is not None and self.document.expanded is not None:
            k, v = (layer.heads(x) for x in self.document.expanded[index])
            yield gold_triton.attend(q, k, v, BEHIND_ALL, 0)
        elif self.document is not None:
            yield from gold_triton.attend_rebuilt(self.model, self.document, index, q, BEHIND_ALL)
        k, v = (layer.heads(x) for x in self.pairs[index])
        yield gold_triton.attend(q, k, v, BEHIND_ALL, self.start, self.count)


class StaticDecoder:
    """Decodes one sequence token by token, up to `capacity` tokens.

    Args:
        model: one that `supports` accepts, whose weights stay where they are.
        state: the state to go on from; it is copied, not changed.
        capacity: most tokens that will be decoded.
        graph: replay a CUDA graph; by default where the model is on a GPU.
    """

    def __init__(self, model: LanguageModel, state: ModelState, capacity: int, *, graph: bool | None = None) -> None:
        self.model, self.left = model, capacity
        self._layers = [_copied(layer) for layer in state.layers]
        self._memory = None
        if isinstance(state.gold, GoldMemory):
            self._memory = _StaticMemory(model, state.gold, capacity)
        self._token = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
        self._logits = torch.empty(model.config.vocab_size, dtype=model.dtype, device=model.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        if model.device.type == "cuda" if graph is None else graph:
            self._capture()

    @torch.no_grad()
    def step(self, token: int) -> Tensor:
        """Logits (V,) after one more token; the tensor is overwritten by the next step.

        Raises:
            IndexError: more tokens than `capacity`.
        """
        if self.left == 0:
            raise IndexError("no room for another token in the decoder's buffers")
        self.left -= 1
        self._token.fill_(token)
        if self._graph is None:
            self._compute()
        else:
            self._graph.replay()
        return self._logits

    def _compute(self) -> None:
        model, memory = self.model, self._memory
        n = model.config.n_prefill
        x, layers = finch_triton.run_layers(model, self._token, self._layers)
        for i in range(n):
            _put(self._layers[i], layers[i])
        if memory is not None:
            memory.append(self._token, model.compress_keys(x))
            for i in range(n, model.config.n_layer):
                x, after = model.blocks[i](x, self._layers[i], memory, i - n)
                _put(self._layers[i], after)
        self._logits.copy_(model.logits(x)[0, -1])

    @torch.no_grad()
    def _capture(self) -> None:
        """Record one step; what the warm-up changed is put back."""
        changing = [x for layer in self._layers for x in _tensors(layer)]
        changing += self._memory.tensors() if self._memory is not None else []
        kept = [x.clone() for x in changing]

        def restore() -> None:
            for x, before in zip(changing, kept, strict=True):
                x.copy_(before)

        stream = _capture_stream(self.model.device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self._compute()
                restore()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=stream):
            self._compute()
        restore()


@cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One stream for all captures: libraries keep a workspace for each stream that they ever saw."""
    return torch.cuda.Stream(device)


def _tensors(layer: LayerState) -> list[Tensor]:
    values = (getattr(layer, f.name) for f in fields(layer))
    return [x for x in values if isinstance(x, Tensor)]


def _copied(layer: LayerState) -> LayerState:
    names = [f.name for f in fields(layer) if isinstance(getattr(layer, f.name), Tensor)]
    return replace(layer, **{name: getattr(layer, name).clone() for name in names})


def _put(target: LayerState, source: LayerState) -> None:
    for to, x in zip(_tensors(target), _tensors(source), strict=True):
        to.copy_(x)

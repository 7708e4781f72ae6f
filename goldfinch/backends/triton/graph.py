"""Decoding in static buffers, on a GPU replayed as one CUDA graph: a step costs one launch instead of hundreds.

Notation: C d_model, R = C / compression_ratio, H heads, D head dim, G GOLD layers, n tokens decoded so far.

Everything that changes from step to step lives in tensors that stay where they are: states, the rows since the document
and their count. `session.decode_one_token` is the twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import torch
from gfkernels import merge_partials
from gfkernels.precision import accumulation_dtype
from torch import Tensor

from goldfinch.models.executor import Executor
from goldfinch.models.layers import split_heads
from goldfinch.models.memory import GoldMemory
from goldfinch.models.pointer import recent_tokens
from goldfinch.models.stack import Stack
from goldfinch.models.state import LayerState, ModelState

from . import gold as gold_triton

WARM_UP_STEPS = 2
# Where queries stand as far as masks go: behind all keys, whose number only the device knows.
BEHIND_ALL = 1 << 30


class _StaticMemory:
    """A `state.Memory` over a fixed document and buffers that fill up."""

    def __init__(self, model: Stack, executor: Executor, memory: GoldMemory, capacity: int) -> None:
        self.executor, self.document = executor, memory.document
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
        rows = self.executor.rebuild(token, compressed_k, previous, self.length)
        for (all_k, all_v), (k, v) in zip(self.pairs, rows, strict=True):
            all_k.index_copy_(1, self.count, k)
            all_v.index_copy_(1, self.count, v)
        self.previous_id.copy_(token)
        self.previous_c.copy_(compressed_k)
        self.count += 1
        self.length += 1

    def attend(self, index: int, q: Tensor) -> Tensor:
        """Attention of q (1, H, 1, D) over document and rows."""
        return merge_partials(self._partials(index, q))[0].to(q.dtype)

    def _partials(self, index: int, q: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if self.document is not None:
            yield from self.executor.attend_document(index, q, BEHIND_ALL, self.document)
        k, v = (split_heads(x, q.shape[-1]).transpose(1, 2) for x in self.pairs[index])
        yield gold_triton.attend(q, k, v, BEHIND_ALL, self.start, self.count)


class StaticDecoder:
    """Decodes one sequence token by token, up to `capacity` tokens.

    Args:
        model: whose weights stay where they are.
        executor: runs its layers.
        state: the state to resume from; it is copied, not changed.
        capacity: most tokens that will be decoded.
        graph: replay a CUDA graph; by default where the model is on a GPU.
    """

    def __init__(
        self, model: Stack, executor: Executor, state: ModelState, capacity: int, *, graph: bool | None = None
    ) -> None:
        self.model, self.executor, self.left = model, executor, capacity
        self._layers = [layer.map(Tensor.clone) for layer in state.layers]
        self._memory = None
        if isinstance(state.memory, GoldMemory):
            self._memory = _StaticMemory(model, executor, state.memory, capacity)
        self._token = torch.zeros(1, 1, dtype=torch.int64, device=model.device)
        self._pointing = state.pointing
        dtype = model.dtype
        if state.pointing is not None:  # a mixture is finer than the weights
            self._pointing = replace(state.pointing, recent=state.pointing.recent.clone())
            dtype = accumulation_dtype(dtype)
        self._logits = torch.empty(model.config.vocab_size, dtype=dtype, device=model.device)
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
        x, layers = self.executor.lower_layers(self._token, self._layers)
        if memory is not None:
            memory.append(self._token, model.compress_keys(x))
            x, layers = self.executor.upper_layers(x, layers, memory)
        for before, after in zip(self._layers, layers, strict=True):
            _put(before, after)
        self._logits.copy_(self._next_logits(x)[0, -1])

    def _next_logits(self, x: Tensor) -> Tensor:
        """As `LanguageModel.next_logits`: x (1, 1, C) -> (1, 1, V); the last tokens move on where they lie."""
        pointing, model = self._pointing, self.model
        if pointing is None:
            return model.logits(x)
        recent = recent_tokens(self._token, pointing.recent)
        pointing.recent.copy_(recent[:, -1])
        return model.pointer.mix(model.head, model.ln_out(x), pointing, recent)

    @torch.no_grad()
    def _capture(self) -> None:
        """Record one step; what the warm-up changed is put back."""
        changing = [x for layer in self._layers for x in layer.tensors()]
        changing += self._memory.tensors() if self._memory is not None else []
        changing += [self._pointing.recent] if self._pointing is not None else []
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


def _put(target: LayerState, source: LayerState) -> None:
    for to, x in zip(target.tensors(), source.tensors(), strict=True):
        to.copy_(x)

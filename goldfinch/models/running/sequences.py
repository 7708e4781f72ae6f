"""A model over a sequence of tokens, whoever runs its layers and whichever library holds its numbers.

Notation: B batch, T tokens, C d_model, R = C / compression_ratio, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from gfkernels import arrays

from goldfinch.models.memory import GoldMemory
from goldfinch.models.state import EMPTY, LayerState, ModelState

from .pointing import MATCHED, Pointing, Rows

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.models.config import ModelConfig
    from goldfinch.models.executor import Executor


class Sequences:
    """What `LanguageModel` and `LightModel` do alike with their layers, pointer and executor.

    Attributes:
        config: the ModelConfig.
        executor: who runs the layers.
        tokenizer: object with encode(text) -> list of ids and decode(ids) -> text, or None.
        card: what the model directory says of itself (`directory.ModelCard`), or None for bare weights.
        pointer: `Pointer` or `LightPointer`, of a model that has one.
    """

    config: ModelConfig
    executor: Executor
    tokenizer: Any
    card: Any
    pointer: Any
    # Its layers, called as those of `Stack`.
    embed: Any
    compress_keys: Any
    logits: Any
    ln_out: Any
    head: Any

    @property
    def element_bytes(self) -> int:
        """Bytes of a number in the compute dtype."""
        raise NotImplementedError

    @property
    def threads(self) -> int | None:
        """How many compute, on a CPU; None elsewhere."""
        raise NotImplementedError

    @property
    def library(self) -> str:
        """What computes products, and its version."""
        raise NotImplementedError

    def row_of(self, token_ids: Sequence[int] | np.ndarray) -> Tensor:
        """Token ids as the layers take them, (1, T) int64."""
        raise NotImplementedError

    def empty_state(self) -> ModelState:
        """The state before the first token."""
        return ModelState((LayerState(keys=EMPTY, values=EMPTY),) * self.config.n_layer)

    def run_prefill_layers(self, token_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Run every layer below the GOLD layers over new tokens: all that prefill ever computes.

        Args:
            token_ids: (B, T) int64.
            state: the state before them; its memory is left as it is.

        Returns:
            the residual stream x (B, T, C) after those layers, and the state after the tokens.
        """
        x, layers = self.executor.lower_layers(token_ids, state.layers)
        return x, replace(state, layers=tuple(layers), position=state.position + token_ids.shape[1])

    def remember(self, state: ModelState, token_ids: Tensor, compressed_k: Tensor) -> ModelState:
        """The state with new rows in its memory: token_ids (B, T), compressed_k (B, T, R)."""
        # All named: torch.compile cannot follow default values that are objects.
        memory = GoldMemory(self.executor, None, EMPTY, EMPTY) if state.memory is None else state.memory
        assert isinstance(memory, GoldMemory)
        return replace(state, memory=memory.append(token_ids, compressed_k))

    def run_gold_layers(self, x: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Run the GOLD layers over the last T positions of the memory.

        Args:
            x: the residual stream at those positions, (B, T, C).
            state: a state whose memory holds them already.

        Returns:
            x (B, T, C) after the last layer and the state with the shift states of the GOLD layers.
        """
        assert state.memory is not None
        x, layers = self.executor.upper_layers(x, state.layers, state.memory)
        return x, replace(state, layers=tuple(layers))

    def hidden(self, token_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """The residual stream after the last layer, (B, T, C), and the state after the tokens."""
        x, state = self.run_prefill_layers(token_ids, state)
        if self.config.n_gold:
            state = self.remember(state, token_ids, self.compress_keys(x))
            x, state = self.run_gold_layers(x, state)
        return x, state

    def point(self, state: ModelState) -> ModelState:
        """The state behind a question whose answer may be copied from the rows of the document that it reads.

        Args:
            state: one sequence, its memory holding the document and, after it, the question.

        Returns:
            the state with its `pointing`; as it was in a model without a pointer, and where there is no question or no
            document.
        """
        memory = state.memory
        if not self.config.pointer_width or not isinstance(memory, GoldMemory):
            return state
        document, asked = memory.document, memory.token_ids
        if document is None or not asked.length:
            return state
        positions, ids = document.positions(), document.token_ids
        rows = [document.compressed_k[:, start:end] for start, end in document.ranges]  # a file gives no others
        compressed_k = arrays.joined(rows, 1)
        held = Rows(ids[:, positions], self.embed(ids[:, positions]), compressed_k)
        question = Rows(asked.rows, self.embed(asked.rows), memory.compressed_k.rows)
        recent = self.pointer.tokens_before(arrays.joined([ids[:, -MATCHED:], asked.rows, ids[:, :1]], 1))[:, -1]
        end = None if self.card is None else self.card.template.end_token_id
        before = self.pointer.tokens_before(ids)[:, positions]
        return replace(state, pointing=self.pointer.open(held, before, question, recent, end))

    def next_logits(self, x: Tensor, token_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """What follows each of the last positions of a sequence.

        Args:
            x: the residual stream there after the last layer, (B, T, C).
            token_ids: (B, T), the tokens there.
            state: after them, but for its `pointing`, which is before them.

        Returns:
            logits (B, T, V), in float32 or better where they are mixed with copies, and the state after the tokens.
        """
        pointing = state.pointing
        if pointing is None:
            return self.logits(x), state
        recent = self.pointer.recent_tokens(token_ids, pointing.recent)
        logits = self.pointer.mix(self.head, self.ln_out(x), pointing, recent)
        return logits, replace(state, pointing=replace(pointing, recent=recent[:, -1]))

    def first_logits(self, x: Tensor, state: ModelState) -> Tensor:
        """What follows the last position, whose token the state has seen: x (B, 1, C) -> logits (B, 1, V)."""
        pointing = state.pointing
        if pointing is None:
            return self.logits(x)
        return self.pointer.mix(self.head, self.ln_out(x), pointing, pointing.recent[:, None])

    def found(self, x: Tensor, state: ModelState) -> tuple[float, float]:
        """What the pointer finds for the token after the last position: x (1, 1, C); see `Pointer.found`. 0 and 0 where
        nothing can be copied."""
        pointing = state.pointing
        if pointing is None:
            return 0.0, 0.0
        return self.pointer.found(self.ln_out(x), pointing, pointing.recent[:, None])

    def copied(self, x: Tensor, token_ids: Tensor, pointing: Pointing) -> Tensor:
        """How much of each token's probability comes from copying each row of the document, see `Pointer.copied`.

        Args:
            x: the residual stream after the last layer before each of the tokens, (B, T, C).
            token_ids: (B, T).
            pointing: before the first of them.

        Returns:
            (B, T, n).
        """
        recent = self.pointer.recent_tokens(token_ids[:, :-1], pointing.recent)
        recent = arrays.joined([pointing.recent[:, None], recent], 1)
        return self.pointer.copied(self.head, self.ln_out(x), pointing, recent, token_ids)

    def run(self, token_ids: Tensor, state: ModelState | None = None) -> tuple[Tensor, ModelState]:
        """Run all layers over new tokens.

        Args:
            token_ids: (B, T) int64, T >= 1.
            state: the state before them, or None at the beginning. It is not changed.

        Returns:
            logits (B, T, V) in the dtype of the weights, or as `next_logits` has them, and the state after the tokens.
        """
        x, state = self.hidden(token_ids, self.empty_state() if state is None else state)
        return self.next_logits(x, token_ids, state)

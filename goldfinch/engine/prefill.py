"""Prefill: one pass over a document through the layers below the GOLD layers, block by block.

Notation: B batch (1), T tokens, C d_model, R = C / compression_ratio, K tail_length.

No GOLD layer runs here: keys and values never depend on one (golden rule; GoldFinch section 3.4). What stays is
compressed_k per token, the final layer states, and the residual stream at the last K tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from gfkernels import arrays

from goldfinch.caching.checkpoint import Checkpoint
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.identity import identity_of
from goldfinch.caching.journal import Journal
from goldfinch.caching.kept import formed
from goldfinch.caching.numerics import numerics_difference, numerics_of
from goldfinch.caching.row_parts import RowParts
from goldfinch.devices import out_of_memory, without_gradients
from goldfinch.errors import DeviceError, EmptyInput

from .base import Progress, Start
from .checkpoints import shared_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from goldfinch.models.language_model import LanguageModel


def prefill(
    model: LanguageModel,
    token_ids: Tensor,
    *,
    progress: Progress | None = None,
    block_tokens: int | None = None,
    document_range: tuple[int, int] | None = None,
    source: dict[str, Any] | None = None,
    checkpoints: Sequence[int] = (),
    base: DocumentCache | None = None,
    base_tokens: int | None = None,
    journal: Journal | None = None,
) -> DocumentCache:
    """Pre-fill a document.

    Args:
        model: any model type; attention baselines keep their full keys and values.
        token_ids: (1, T) int64, T >= 1, every id below vocab_size.
        progress: called with (tokens done, T) after each block.
        block_tokens: tokens per block, those of the model's executor by default; the result is the same up to rounding.
        document_range: (start, end) of the document's own tokens; all of them by default.
        source: provenance for the file.
        checkpoints: positions, multiples of block_tokens below T, to keep a checkpoint at.
        base: a cache of this model whose document begins alike, its rows not rounded by a codec: what its checkpoints
            allow is taken over instead of recomputed (`reusable_tokens` tells how much). Blocks start at the same
            places, so the result equals a run without it bit for bit.
        base_tokens: most tokens to take over from it; all that both share by default.
        journal: notes the way, so that a killed run can go on.

    Returns:
        the cache, on the model's device; memory beyond it is constant in T.

    Raises:
        EmptyInput: no tokens.
        DeviceError: not enough memory on the device.
    """
    if base is not None and base.row_parts:
        base = None  # a codec has rounded its rows
    start = Start(base, base_tokens, tuple(checkpoints), journal)
    return prefill_from(
        start,
        model,
        token_ids,
        progress=progress,
        block_tokens=block_tokens,
        document_range=document_range,
        source=source,
    )


def prefill_from(
    start: Start,
    model: LanguageModel,
    token_ids: Tensor,
    *,
    progress: Progress | None = None,
    block_tokens: int | None = None,
    document_range: tuple[int, int] | None = None,
    source: dict[str, Any] | None = None,
) -> DocumentCache:
    """Pre-fill a document; arguments, result and errors as in `prefill`."""
    if len(token_ids.shape) != 2 or token_ids.shape[0] != 1:
        raise ValueError(f"token_ids of shape {tuple(token_ids.shape)}, expected (1, T)")
    block_tokens = block_tokens or model.executor.block_tokens
    T = token_ids.shape[1]
    if T == 0:
        raise EmptyInput("the document is empty: there is nothing to pre-fill")
    bad = [p for p in start.checkpoints if p <= 0 or p % block_tokens or p >= T]
    if bad:
        raise ValueError(f"checkpoint at {bad[0]}, expected multiples of {block_tokens} between 0 and {T}")
    try:
        run = _Run(model, token_ids, block_tokens, start, document_range or (0, T), source)
        run.finish(progress)
    except out_of_memory() as error:
        raise DeviceError(f"not enough memory on {model.device} to pre-fill {T} tokens") from error
    return formed(model, run.cache(), start.form)


class _Run:
    """One prefill under way."""

    def __init__(
        self,
        model: LanguageModel,
        token_ids: Tensor,
        block_tokens: int,
        start: Start,
        document_range: tuple[int, int],
        source: dict[str, Any] | None,
    ) -> None:
        is_numpy = arrays.is_numpy(token_ids)
        self.model, self.block_tokens = model, block_tokens
        self.token_ids = token_ids if is_numpy else token_ids.to(model.device)
        self.kept_ids = np.asarray(token_ids[0]) if is_numpy else token_ids[0].cpu().numpy()
        self.wanted, self.journal = frozenset(start.checkpoints), start.journal
        self.document_range, self.source = document_range, source
        self.identity, self.numerics = identity_of(model), numerics_of(model)
        self.state = model.empty_state()
        self.tail: Tensor | None = None
        self.row_parts: RowParts = ()
        self.checkpoints: list[Checkpoint] = []
        self.compressed_k: Tensor | None = None
        if model.config.n_gold:
            shape = (1, token_ids.shape[1], model.config.d_compressed)
            self.compressed_k = arrays.empty(shape, model.emb.weight)
        if start.base is not None:
            self.take_over(start.base, start.base_tokens)

    def take_over(self, base: DocumentCache, most: int | None) -> None:
        """Start from the last checkpoint of `base` that both documents share, among the first `most` tokens."""
        checkpoint = shared_checkpoint(base, self.kept_ids[:most], self.block_tokens)
        if checkpoint is None:
            return
        position = checkpoint.position
        if numerics_difference(base.numerics, self.model) is not None:
            # Values of both stand in one cache, so its numerics must not promise the bits of a run from the start.
            self.numerics = base.numerics
        self.state, self.tail = checkpoint.state, checkpoint.tail_hidden
        # Of a base whose rows were rounded, these are. What comes now is rounded at the end.
        self.row_parts = tuple(part for part in base.row_parts if part[0] < position)
        self.numerics = replace(self.numerics, rows_codec=base.numerics.rows_codec, state_codec=None)
        if self.compressed_k is not None:
            assert base.compressed_k is not None
            self.compressed_k[:, :position] = base.compressed_k[:, :position]
        kept = {c.position: c for c in (*base.checkpoints, checkpoint) if c.position <= position}
        self.checkpoints = [kept[p] for p in sorted(kept) if p in self.wanted]

    def cache(self) -> DocumentCache:
        """The cache of the tokens done so far."""
        assert self.tail is not None
        done = self.state.position
        start, end = self.document_range
        return DocumentCache(
            token_ids=self.kept_ids[:done],
            compressed_k=None if self.compressed_k is None else self.compressed_k[:, :done],
            state=self.state,
            tail_hidden=self.tail,
            document_range=(min(start, done), min(end, done)),
            identity=self.identity,
            numerics=self.numerics,
            source=self.source,
            tokenizer=self.model.tokenizer,
            row_parts=self.row_parts,
            checkpoints=tuple(c for c in self.checkpoints if c.position < done),
        )

    @without_gradients
    def finish(self, progress: Progress | None) -> None:
        """Run the remaining blocks."""
        T, kept = self.token_ids.shape[1], self.model.config.tail_length
        for start in range(self.state.position, T, self.block_tokens):
            block = self.token_ids[:, start : start + self.block_tokens]
            x, self.state = self.model.run_prefill_layers(block, self.state)
            end = start + block.shape[1]
            if self.compressed_k is not None:
                self.compressed_k[:, start:end] = self.model.compress_keys(x)
            rows = x if self.tail is None else arrays.joined([self.tail, x], 1)
            self.tail = arrays.copied(rows[:, -kept:])
            if end in self.wanted:
                self.checkpoints.append(Checkpoint(end, self.state, self.tail))
            if progress is not None:
                progress(end, T)
            if self.journal is not None and end < T:
                self.journal.note(self.cache)

"""Pre-filling a document with a model of others: in steps, where its self-check allows them, else in one piece.

A document that is kept in blocks is computed block by block (`blocks`); what follows here is of one kept whole. Steps
start at multiples of their size, whatever was there before, so that going on from a journal, a checkpoint or a base
gives the bits of a run from the start. A document in one piece has no place to resume from, and what follows it is
computed token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from goldfinch.caching.numerics import Numerics, difference_between
from goldfinch.engine.base import Progress, Start
from goldfinch.engine.checkpoints import first_difference
from goldfinch.errors import ContextTooLong, DeviceError, EmptyInput, ModelRefused
from goldfinch.foreign import library
from goldfinch.foreign.models import ForeignModel
from goldfinch.policies.base import BY_WORDS
from goldfinch.policies.named import AUTO, BLOCKS

from .block_prefill import prefill_blocks, reused_blocks
from .blocks import obstacle_to_blocks, record_for
from .files import ForeignCache
from .states import SequenceState, can_cut, put_in, taken_out

# Positions that a document leaves for question and answer, or "auto" keeps it in blocks: of a short context a share.
ROOM, ROOM_SHARE = 256, 1 / 8


def keeps_blocks(model: ForeignModel, tokens: int, base: ForeignCache | None = None) -> bool:
    """Whether a document of T tokens is kept in blocks.

    Args:
        base: what it is made from, whose layout "auto" keeps as long as the context has room.

    Raises:
        ModelRefused: the model is to keep it in blocks, and cannot.
    """
    obstacle = obstacle_to_blocks(model)
    if model.layout == BLOCKS and obstacle is not None:
        raise ModelRefused(f"{model.name} cannot keep documents in blocks: {obstacle}", hint="leave out --layout")
    if model.layout != AUTO or obstacle is not None:
        return model.layout == BLOCKS
    if base is not None:
        return base.blocks is not None or tokens > model.context_length
    slides = any(layer.window for layer in model.layers)  # a block may be longer than a window: the whole comes first
    if not slides and record_for(model).reading(tokens).policy in BY_WORDS:
        return True
    room = 0 if slides else min(ROOM, int(ROOM_SHARE * model.context_length))
    return tokens + room > model.context_length


def check_length(model: ForeignModel, tokens: int) -> None:
    """Refuse a document that is to be kept whole and has no room.

    Raises:
        ContextTooLong.
    """
    if model.context_length < tokens:
        obstacle = obstacle_to_blocks(model)
        raise ContextTooLong(tokens, model.context_length, model.name, blocks=obstacle or "--layout whole")


def reusable_tokens(
    model: ForeignModel, base: ForeignCache | None, token_ids: np.ndarray, lenders: Sequence[ForeignCache] = ()
) -> int:
    """Tokens of a document (T,) that its cache takes over from `base`, or its blocks from `lenders`."""
    if len(token_ids) and keeps_blocks(model, len(token_ids), base):
        return reused_blocks(model, base, token_ids, lenders)
    state = None if base is None else shared_state(model, base, token_ids)
    return 0 if state is None else state.position


def shared_state(model: ForeignModel, base: ForeignCache, token_ids: np.ndarray) -> SequenceState | None:
    """The last state of `base` that a document of token_ids (T,) can resume from; None where there is none."""
    if model.schedule != "blocks" or base.blocks is not None or base.row_parts or base.kept is not None:
        return None  # of rounded keys and values, or some of them, what follows would be another
    differs, block = first_difference(base.token_ids, token_ids), model.block_tokens
    shared = min(base.length, len(token_ids)) if differs is None else differs
    states = [state for state in (*base.checkpoints, base.state) if state.position % block == 0]
    if can_cut(model.layers):
        states.append(base.state.nothing_at(shared // block * block))
    fitting = [state for state in states if 0 < state.position <= shared]
    last = max(fitting, key=lambda state: state.position, default=None)
    return None if last is None else last.with_rows(model.layers, base.state)


def prefill_from(
    start: Start,
    model: ForeignModel,
    token_ids: np.ndarray,
    *,
    identity: dict[str, Any],
    numerics: Numerics,
    document_range: tuple[int, int],
    source: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> ForeignCache:
    """Pre-fill a document; arguments as of `engine.prefill.prefill_from`.

    Raises:
        EmptyInput: no tokens.
        ContextTooLong: more than the model has positions for.
        DeviceError: not enough memory.
    """
    T = len(token_ids)
    if T == 0:
        raise EmptyInput("the document is empty: there is nothing to pre-fill")
    in_blocks = keeps_blocks(model, T, start.base)
    if not in_blocks:
        check_length(model, T)
    try:
        if in_blocks:
            about = {"identity": identity, "numerics": numerics, "document_range": document_range, "source": source}
            return prefill_blocks(start, model, token_ids, about, progress)
        run = _Run(start, model, token_ids, identity, numerics, document_range, source)
        run.finish(progress)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise DeviceError(f"not enough memory on {model.device} to pre-fill {T} tokens") from error
    return run.cache()


class _Run:
    """One prefill under way."""

    def __init__(
        self,
        start: Start,
        model: ForeignModel,
        token_ids: np.ndarray,
        identity: dict[str, Any],
        numerics: Numerics,
        document_range: tuple[int, int],
        source: dict[str, Any] | None,
    ) -> None:
        self.model, self.token_ids, self.journal = model, token_ids, start.journal
        self.wanted, self.checkpoints = frozenset(start.checkpoints), list[SequenceState]()
        self.identity, self.numerics, self.source = identity, numerics, source
        self.document_range, self.done = document_range, 0
        base: ForeignCache | None = start.base
        state = None if base is None else shared_state(model, base, token_ids[: start.base_tokens])
        if base is not None and state is not None:
            self.done = state.position
            if difference_between(base.numerics, numerics, library=True) is not None:
                # Values of both stand in one cache, so its numerics must not promise the bits of a run from the start.
                self.numerics = base.numerics
            at_hand = (*base.checkpoints, state.without_rows(model.layers))
            self.checkpoints = [s for s in at_hand if s.position <= self.done and s.position in self.wanted]
        self.layers = put_in(lambda: library.new_cache(model.network), model.layers, state, capacity=len(token_ids))

    def finish(self, progress: Progress | None) -> None:
        """Compute the remaining tokens."""
        model, T = self.model, len(self.token_ids)
        step = model.block_tokens if model.schedule == "blocks" else T
        for start in range(self.done, T, step):
            block = torch.from_numpy(self.token_ids[start : start + step])
            library.forward(model.network, block, self.layers, start, last=True)
            self.done = start + len(block)
            if self.done in self.wanted:
                state = taken_out(self.layers, model.layers, self.done)
                self.checkpoints.append(state.without_rows(model.layers))
            if progress is not None:
                progress(self.done, T)
            if self.journal is not None and self.done < T:
                self.journal.note(self.cache)

    def cache(self) -> ForeignCache:
        """The cache of the tokens done so far."""
        start, end = self.document_range
        return ForeignCache(
            token_ids=self.token_ids[: self.done],
            state=taken_out(self.layers, self.model.layers, self.done),
            document_range=(min(start, self.done), min(end, self.done)),
            identity=self.identity,
            numerics=self.numerics,
            source=self.source,
            tokenizer=self.model.tokenizer,
            checkpoints=tuple(state for state in self.checkpoints if state.position < self.done),
        )

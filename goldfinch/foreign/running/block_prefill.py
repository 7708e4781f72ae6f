"""Pre-filling a document in blocks, each of which may come from an earlier cache, wherever it stood there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from goldfinch.caching.numerics import difference_between
from goldfinch.engine.base import Progress, Start
from goldfinch.foreign.models import ForeignModel

from .blocks import (
    Blocks,
    Planned,
    Tokens,
    check_lengths,
    computed_block,
    planned_blocks,
    prompt_state,
    rows_of_blocks,
)
from .files import ForeignCache
from .states import Held, SequenceState


def reused_blocks(
    model: ForeignModel, base: ForeignCache | None, token_ids: np.ndarray, lenders: Sequence[ForeignCache] = ()
) -> int:
    """Tokens of a document (T,) whose blocks `base` or `lenders` have, and the prompt's beginning."""
    known = _known(base, lenders)
    if not known:
        return 0
    prompt, blocks = planned_blocks(model, token_ids)
    reused = at = len(prompt)
    for block in blocks:
        reused += block.end - at if any(block.tokens in numbers for numbers, _ in known) else 0
        at = block.end
    return reused if reused > len(prompt) else 0


def _known(base: ForeignCache | None, lenders: Sequence[ForeignCache]) -> list[tuple[dict[Tokens, int], Blocks]]:
    """The blocks at hand: those that lenders hold first, so that what may be left to them is what they have."""
    held = [lender.blocks for lender in lenders if lender.blocks is not None]
    others = [] if base is None or base.blocks is None else [(base.blocks.numbers, base.blocks)]
    return [*((blocks.own, blocks) for blocks in held), *others]


def prefill_blocks(
    start: Start, model: ForeignModel, token_ids: np.ndarray, about: dict[str, Any], progress: Progress | None
) -> ForeignCache:
    """Pre-fill a document in blocks.

    Args:
        start: whose base and lenders may hold some of the blocks, and whose journal notes the way.
        token_ids: (T,).
        about: identity, numerics, document_range and source of the cache.
        progress: called with (tokens done, T).

    Raises:
        ContextTooLong, ModelRefused: see `check_lengths`.
    """
    prompt, planned = planned_blocks(model, token_ids)
    check_lengths(model, prompt, [block.tokens for block in planned])
    done: dict[Tokens, Sequence[Held]] = {}
    base, known = start.base, _known(start.base, start.lenders)
    differs = base is not None and difference_between(base.numerics, about["numerics"], library=True) is not None
    if base is not None and base.blocks is not None and differs:
        about = about | {"numerics": base.numerics}  # they must not promise the bits of a run from the start
    run = _Run(token_ids, about, prompt, prompt_state(model, prompt))
    for block in planned:
        tokens = block.tokens
        held = next(((numbers[tokens], blocks) for numbers, blocks in known if tokens in numbers), None)
        if tokens not in done and held is not None:
            done[tokens] = held[1].rows_of(held[0])
        elif tokens not in done:
            done[tokens] = computed_block(model, prompt, run.state, tokens)
        run.add(block, done[tokens])
        if progress is not None:
            progress(block.end, len(token_ids))
        if start.journal is not None and block.end < len(token_ids):
            start.journal.note(lambda: run.cache(model))
    return run.cache(model)


@dataclass
class _Run:
    """Blocks that are done.

    Attributes:
        token_ids: (T,) of the whole document.
        about: as of `prefill_blocks`.
        prompt: tokens before the document; state: behind them.
        blocks, rows: those that are done, and what the layers hold of each.
        done: tokens of the document.
    """

    token_ids: np.ndarray
    about: dict[str, Any]
    prompt: Tokens
    state: SequenceState
    blocks: list[Planned] = field(default_factory=list)
    rows: list[Sequence[Held]] = field(default_factory=list)
    done: int = 0

    def add(self, block: Planned, rows: Sequence[Held]) -> None:
        """One more block."""
        self.blocks.append(block)
        self.rows.append(rows)
        self.done = block.end

    def cache(self, model: ForeignModel) -> ForeignCache:
        """The cache of the blocks that are done."""
        about, rows, tokens = self.about, tuple(self.rows), [block.tokens for block in self.blocks]
        places = np.array([block.place for block in self.blocks], np.int64).reshape(-1, 4)
        start, end = about["document_range"]
        return ForeignCache(
            token_ids=self.token_ids[: self.done],
            state=self.state,
            document_range=(min(start, self.done), min(end, self.done)),
            identity=in_blocks(about["identity"], self.prompt, tokens),
            numerics=about["numerics"],
            source=about["source"],
            tokenizer=model.tokenizer,
            blocks=Blocks(tokens, rows.__getitem__, places),
        )


def in_blocks(identity: dict[str, Any], prompt: Tokens, blocks: Sequence[Tokens]) -> dict[str, Any]:
    """The identity of a cache in blocks: `model.blocks` says which rows belong together."""
    return identity | {"model": identity["model"] | {"blocks": rows_of_blocks(prompt, blocks)}}

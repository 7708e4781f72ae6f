"""Prefill: one pass over a document through the layers below the GOLD layers, block by block.

Notation: B batch (1), T tokens, C d_model, R = C / compression_ratio, K tail_length.

No GOLD layer runs here: keys and values never depend on one (golden rule; GoldFinch section 3.4). What stays is
compressed_k per token, the final layer states, and the residual stream at the last K tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from goldfinch.caching.checkpoint import Checkpoint
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.identity import identity_of
from goldfinch.caching.numerics import Numerics, numerics_difference, numerics_of
from goldfinch.errors import DeviceError, EmptyInput, GoldFinchError
from goldfinch.models.config import ModelConfig
from goldfinch.models.executor import BLOCK_TOKENS, block_tokens_of
from goldfinch.models.language_model import LanguageModel

if TYPE_CHECKING:
    from goldfinch.caching.journal import Journal

# Automatic checkpoints take at most this share of what token ids and compressed keys take.
AUTO_SHARE = 0.25
# More would not fit the header of a file, whose limit is 16 MiB: one takes about 1.2 kB there.
MOST_CHECKPOINTS = 12_000
# Below this a document of the library is computed again as fast as a checkpoint is read.
LIBRARY_BLOCKS = 8

Progress = Callable[[int, int], None]


def block_tokens_by(numerics: Numerics) -> int:
    """Tokens per block of the prefill that left these numerics, for instance in a file's header."""
    return block_tokens_of(numerics.backend, numerics.device)


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
        base: a cache of this model whose document begins alike: what its checkpoints allow is taken over instead of
            computed again (`reusable_tokens` tells how much). Blocks start at the same places, so the result
            equals a run without it bit for bit.
        base_tokens: most tokens to take over from it; all that both share by default.
        journal: notes the way, so that a killed run can go on.

    Returns:
        the cache, on the model's device; memory beyond it is constant in T.

    Raises:
        EmptyInput: no tokens.
        DeviceError: not enough memory on the device.
    """
    if token_ids.dim() != 2 or token_ids.shape[0] != 1:
        raise ValueError(f"token_ids of shape {tuple(token_ids.shape)}, expected (1, T)")
    block_tokens = block_tokens or model.executor.block_tokens
    T = token_ids.shape[1]
    if T == 0:
        raise EmptyInput("the document is empty: there is nothing to pre-fill")
    bad = [p for p in checkpoints if p <= 0 or p % block_tokens or p >= T]
    if bad:
        raise ValueError(f"checkpoint at {bad[0]}, expected multiples of {block_tokens} between 0 and {T}")
    try:
        with torch.no_grad():
            run = _Run(model, token_ids.to(model.device), block_tokens, frozenset(checkpoints))
            run.document_range, run.source = document_range or (0, T), source
            if base is not None:
                run.take_over(base, base_tokens)
            run.finish(progress, journal)
    except torch.OutOfMemoryError as error:
        raise DeviceError(f"not enough memory on {model.device} to pre-fill {T} tokens") from error
    return run.cache()


class _Run:
    """One prefill under way."""

    def __init__(self, model: LanguageModel, token_ids: Tensor, block_tokens: int, wanted: frozenset[int]) -> None:
        self.model, self.token_ids, self.block_tokens, self.wanted = model, token_ids, block_tokens, wanted
        self.document_range, self.source = (0, token_ids.shape[1]), cast(dict[str, Any] | None, None)
        self.identity, self.numerics = identity_of(model), numerics_of(model)
        self.state = model.empty_state()
        self.tail: Tensor | None = None
        self.checkpoints: list[Checkpoint] = []
        self.compressed_k: Tensor | None = None
        if model.config.n_gold:
            shape = (1, token_ids.shape[1], model.config.d_compressed)
            self.compressed_k = torch.empty(shape, dtype=model.dtype, device=model.device)

    def take_over(self, base: DocumentCache, most: int | None) -> None:
        """Start from the last checkpoint of `base` that both documents share, among the first `most` tokens."""
        checkpoint = _shared_checkpoint(base, self.token_ids[:, :most], self.block_tokens)
        if checkpoint is None:
            return
        position = checkpoint.position
        if numerics_difference(base.numerics, self.model) is not None:
            # Values of both stand in one cache, so its numerics must not promise the bits of a run from the start.
            self.numerics = base.numerics
        self.state, self.tail = checkpoint.state, checkpoint.tail_hidden
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
            token_ids=self.token_ids[:, :done],
            compressed_k=None if self.compressed_k is None else self.compressed_k[:, :done],
            state=self.state,
            tail_hidden=self.tail,
            document_range=(min(start, done), min(end, done)),
            identity=self.identity,
            numerics=self.numerics,
            source=self.source,
            checkpoints=tuple(c for c in self.checkpoints if c.position < done),
        )

    def finish(self, progress: Progress | None, journal: Journal | None) -> None:
        """Run the remaining blocks."""
        T, kept = self.token_ids.shape[1], self.model.config.tail_length
        for start in range(self.state.position, T, self.block_tokens):
            block = self.token_ids[:, start : start + self.block_tokens]
            x, self.state = self.model.run_prefill_layers(block, self.state)
            end = start + block.shape[1]
            if self.compressed_k is not None:
                self.compressed_k[:, start:end] = self.model.compress_keys(x)
            rows = x if self.tail is None else torch.cat([self.tail, x], dim=1)
            self.tail = rows[:, -kept:].clone()
            if end in self.wanted:
                self.checkpoints.append(Checkpoint(end, self.state, self.tail))
            if progress is not None:
                progress(end, T)
            if journal is not None and end < T:
                journal.note(self.cache)


def _shared_checkpoint(base: DocumentCache, token_ids: Tensor, block_tokens: int) -> Checkpoint | None:
    """The last position of `base`, checkpoint or end, up to which its tokens are those of `token_ids`."""
    differs = first_difference(base.token_ids, token_ids)
    shared = min(base.length, token_ids.shape[1]) if differs is None else differs
    candidates = [*base.checkpoints, base.end]
    # Blocks of a cold run start at multiples of block_tokens: going on from elsewhere would change the rounding.
    fitting = [c for c in candidates if c.position <= shared and c.position % block_tokens == 0]
    return max(fitting, key=lambda c: c.position, default=None)


def first_difference(a: Tensor, b: Tensor) -> int | None:
    """Position of the first token that differs between (1, T) and (1, U) ids; None when one begins with the other."""
    n = min(a.shape[1], b.shape[1])
    differs = (a[0, :n].to(b.device) != b[0, :n]).nonzero()
    return int(differs[0]) if len(differs) else None


def reusable_tokens(base: DocumentCache, token_ids: Tensor, block_tokens: int = BLOCK_TOKENS) -> int:
    """Tokens that `prefill(..., base=base)` will take over instead of computing, for token_ids (1, T)."""
    checkpoint = _shared_checkpoint(base, token_ids.to(base.token_ids.device), block_tokens)
    return 0 if checkpoint is None else checkpoint.position


def plan_checkpoints(
    config: ModelConfig, tokens: int, wanted: str, element_bytes: int = 4, block_tokens: int = BLOCK_TOKENS
) -> list[int]:
    """Positions of checkpoints for a document.

    Args:
        config: of the model; one with attention layers that keep all keys gets none.
        tokens: T.
        wanted: "none"; a number N (every N tokens, rounded up to whole blocks); or "auto": one at the last block
            boundary and others at 2, 4, 8, ... blocks before it, as long as all of them take
            at most AUTO_SHARE of what the document's tokens take in the file.
        element_bytes: of the compute dtype.
        block_tokens: checkpoints stand at multiples of it.

    Raises:
        GoldFinchError: not one of these, or more than MOST_CHECKPOINTS.
    """
    if wanted == "none" or config.n_prefill != config.n_finch:
        return []
    last = (tokens - 1) // block_tokens * block_tokens
    if wanted != "auto":
        if not wanted.isdecimal() or int(wanted) < 1:
            raise GoldFinchError(f"checkpoints are {wanted!r}, allowed: none, auto, or a number of tokens")
        step = -(-int(wanted) // block_tokens) * block_tokens
        if last // step > MOST_CHECKPOINTS:
            least = -(-last // MOST_CHECKPOINTS)
            raise GoldFinchError(
                f"--checkpoints {wanted} makes {last // step:,} checkpoints of {tokens:,} tokens, "
                f"allowed: {MOST_CHECKPOINTS:,}",
                hint=f"--checkpoints auto, or one every {least:,} tokens",
            )
        return list(range(step, last + 1, step))
    room = AUTO_SHARE * tokens * (2 + element_bytes * (config.d_compressed if config.n_gold else 0))
    count = int(room // checkpoint_bytes(config, element_bytes))
    positions: list[int] = []
    distance = 0
    while len(positions) < count and last - distance > 0:
        positions.append(last - distance)
        distance = max(2 * distance, 2 * block_tokens)
    return positions[::-1]


def library_checkpoints(
    config: ModelConfig, tokens: int, element_bytes: int = 4, block_tokens: int = BLOCK_TOKENS
) -> list[int]:
    """Positions for a document of the library, whose next version is expected: those of "auto", and in a document of
    LIBRARY_BLOCKS blocks or more at least one in the middle and one a block before the last boundary.
    """
    positions = plan_checkpoints(config, tokens, "auto", element_bytes, block_tokens)
    blocks = (tokens - 1) // block_tokens
    if config.n_prefill == config.n_finch and blocks >= LIBRARY_BLOCKS:
        positions = sorted({*positions, blocks // 2 * block_tokens, (blocks - 1) * block_tokens})
    return positions


def checkpoint_bytes(config: ModelConfig, element_bytes: int = 4) -> int:
    """Bytes of one checkpoint in a file, without its rows in the header."""
    wkv = config.n_finch * config.d_model * config.head_dim * max(element_bytes, 4)
    return wkv + (2 * config.n_finch + config.tail_length) * config.d_model * element_bytes

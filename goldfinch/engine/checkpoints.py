"""Where a prefill keeps its state, and where another may resume."""

from __future__ import annotations

import numpy as np

from goldfinch.caching.checkpoint import Checkpoint
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.numerics import Numerics
from goldfinch.errors import GoldFinchError
from goldfinch.models.config import ModelConfig
from goldfinch.models.executor import BLOCK_TOKENS, block_tokens_of

# Automatic checkpoints take at most this share of what token ids and compressed keys take.
AUTO_SHARE = 0.25
# More would not fit the header of a file, whose limit is 16 MiB: one takes about 1.2 kB there.
MOST_CHECKPOINTS = 12_000
# Below this a document of the library is recomputed as fast as a checkpoint is read.
LIBRARY_BLOCKS = 8


def block_tokens_by(numerics: Numerics) -> int:
    """Tokens per block of the prefill that left these numerics, for instance in a file's header."""
    return block_tokens_of(numerics.backend, numerics.device)


def shared_checkpoint(base: DocumentCache, token_ids: np.ndarray, block_tokens: int) -> Checkpoint | None:
    """The last position of `base` up to which its tokens are those of `token_ids` (T,)."""
    differs = first_difference(base.token_ids, token_ids)
    shared = min(base.length, len(token_ids)) if differs is None else differs
    # Blocks of a cold run start at multiples of block_tokens: going on from elsewhere would change the rounding.
    fitting = [c for c in base.positions if c.position <= shared and c.position % block_tokens == 0]
    return max(fitting, key=lambda c: c.position, default=None)


def first_difference(a: np.ndarray, b: np.ndarray) -> int | None:
    """Position of the first token that differs between (T,) and (U,) ids; None when one begins with the other."""
    n = min(len(a), len(b))
    differs = np.flatnonzero(a[:n] != b[:n])
    return int(differs[0]) if len(differs) else None


def reusable_tokens(base: DocumentCache, token_ids: np.ndarray, block_tokens: int = BLOCK_TOKENS) -> int:
    """Tokens that `prefill(..., base=base)` will take over instead of computing, for token_ids (T,)."""
    checkpoint = shared_checkpoint(base, token_ids, block_tokens)
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
        return spaced_positions(tokens, wanted, block_tokens)
    room = AUTO_SHARE * tokens * (2 + element_bytes * (config.d_compressed if config.n_gold else 0))
    count = int(room // checkpoint_bytes(config, element_bytes))
    positions: list[int] = []
    distance = 0
    while len(positions) < count and last - distance > 0:
        positions.append(last - distance)
        distance = max(2 * distance, 2 * block_tokens)
    return positions[::-1]


def spaced_positions(tokens: int, wanted: str, block_tokens: int) -> list[int]:
    """Positions every `wanted` tokens, rounded up to whole blocks.

    Raises:
        GoldFinchError: no number, or more than MOST_CHECKPOINTS.
    """
    if not wanted.isdecimal() or int(wanted) < 1:
        raise GoldFinchError(f"checkpoints are {wanted!r}, allowed: none, auto, or a number of tokens")
    last = (tokens - 1) // block_tokens * block_tokens
    step = -(-int(wanted) // block_tokens) * block_tokens
    if last // step > MOST_CHECKPOINTS:
        least = -(-last // MOST_CHECKPOINTS)
        raise GoldFinchError(
            f"--checkpoints {wanted} makes {last // step:,} checkpoints of {tokens:,} tokens, "
            f"allowed: {MOST_CHECKPOINTS:,}",
            hint=f"--checkpoints auto, or one every {least:,} tokens",
        )
    return list(range(step, last + 1, step))


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

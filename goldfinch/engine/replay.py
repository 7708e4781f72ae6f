"""Replay: compute the stored tokens again and compare with what a cache holds.

Windows lie between consecutive checkpoints (from the empty state to the first, from the last to the end). A window
starts from the stored state at its beginning and must reproduce compressed_k inside it and state and tail at its end.
With equal numerics the comparison is exact; otherwise values may differ by rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

from goldfinch.caching.checkpoint import Checkpoint
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.numerics import numerics_difference
from goldfinch.models.language_model import LanguageModel

from .base import ReplayReport

# Largest difference, relative to the largest value of the tensor, that other numerics may explain.
ROUNDING = {torch.float64: 1e-3, torch.float32: 1e-3, torch.bfloat16: 0.1}


def replay_cache(
    model: LanguageModel, cache: DocumentCache, *, share: float = 1.0, seed: int | None = None
) -> ReplayReport:
    """Replay windows that hold at least `share` of the tokens.

    Args:
        model: the model that the cache belongs to.
        cache: an opened cache.
        share: above 0 up to 1. Below 1, windows are drawn at random until they hold that share, so an altered
            place is found with at least that probability.
        seed: of the drawing; None draws one.
    """
    exact = numerics_difference(cache.numerics, model) is None
    ends = [*cache.checkpoints, Checkpoint(cache.length, cache.state, cache.tail_hidden)]
    windows: list[tuple[Checkpoint | None, Checkpoint]] = list(zip([None, *ends[:-1]], ends, strict=True))
    tokens = replayed = 0
    for start, end in _drawn(windows, share * cache.length, Random(seed)):
        with torch.no_grad():
            difference = _replay_window(model, cache, start, end, exact)
        tokens += end.position - (start.position if start else 0)
        replayed += 1
        if difference is not None:
            return ReplayReport(tokens, replayed, exact, difference)
    return ReplayReport(tokens, replayed, exact, None)


def _drawn(
    windows: Sequence[tuple[Checkpoint | None, Checkpoint]], wanted: float, rng: Random
) -> list[tuple[Checkpoint | None, Checkpoint]]:
    """Windows in random order until they hold `wanted` tokens, then sorted by place.

    Each next window is drawn with a probability proportional to its length, so that no place is favoured.
    """
    left, chosen, held = list(windows), [], 0
    while left and held < wanted:
        lengths = [end.position - (start.position if start else 0) for start, end in left]
        window = left.pop(rng.choices(range(len(left)), lengths)[0])
        chosen.append(window)
        held += window[1].position - (window[0].position if window[0] else 0)
    return sorted(chosen, key=lambda w: w[1].position)


def _replay_window(
    model: LanguageModel, cache: DocumentCache, start: Checkpoint | None, end: Checkpoint, exact: bool
) -> str | None:
    state = start.state if start else model.empty_state()
    tail = start.tail_hidden if start else None
    block_tokens = model.executor.block_tokens
    for at in range(state.position, end.position, block_tokens):
        block = cache.token_ids[:, at : min(at + block_tokens, end.position)]
        x, state = model.run_prefill_layers(block, state)
        rows = x if tail is None else torch.cat([tail, x], dim=1)
        tail = rows[:, -model.config.tail_length :]
        if cache.compressed_k is not None:
            found = cache.compressed_k[:, at : at + block.shape[1]]
            where = _first_difference(model.compress_keys(x), found, exact)
            if where is not None:
                return f"compressed_k differs first at token {at + where}"
    assert tail is not None
    pairs = [("tail_hidden", tail, end.tail_hidden)]
    for i, (computed, stored) in enumerate(zip(state.layers, end.state.layers, strict=True)):
        for name in ("wkv_state", "time_shift_state", "channel_shift_state"):
            pairs.append((f"{name} of layer {i}", getattr(computed, name), getattr(stored, name)))
        if stored.keys.length:
            pairs.append((f"keys of layer {i}", computed.keys.rows, stored.keys.rows))
            pairs.append((f"values of layer {i}", computed.values.rows, stored.values.rows))
    for name, one, other in pairs:
        if other is not None and _first_difference(one, other, exact) is not None:
            return f"{name} differs at token {end.position}"
    return None


def _first_difference(computed: Tensor, stored: Tensor, exact: bool) -> int | None:
    """Index along axis 1 of the first difference, None if there is none."""
    if exact:
        differs = computed != stored
    else:
        scale = stored.abs().max().clamp_min(1e-6)
        differs = (computed - stored).abs() > ROUNDING[stored.dtype] * scale
    if not bool(differs.any()):
        return None
    return int(differs.transpose(0, 1).flatten(1).any(-1).nonzero()[0])

"""Replay: compute the stored tokens again and compare with what a cache holds.

Windows lie between consecutive checkpoints (from the empty state to the first, from the last to the end). A window
starts from the stored state at its beginning and must reproduce compressed_k inside it and state and tail at its end.
With equal numerics the comparison is exact; otherwise values may differ by rounding. Values that a codec has rounded
are compared with computed ones that it has rounded, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import numpy as np
import torch
from gfcache.format.kept import tokens_stored
from torch import Tensor

from goldfinch.caching.checkpoint import Checkpoint
from goldfinch.caching.coding import rounded_end, rounded_pairs, rounded_rows
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.numerics import numerics_difference
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.state import STATE_FIELDS
from goldfinch.policies.dropping.choosing import Chooser
from goldfinch.policies.dropping.named import Dropping

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
    return ReplayReport(tokens, replayed, exact, _other_rows(model, cache) if exact and share == 1.0 else None)


def _other_rows(model: LanguageModel, cache: DocumentCache) -> str | None:
    """Whether the rows that are left are those that the policy keeps, where the file names one; None if they are."""
    dropping = Dropping.of(cache.numerics.dropping)
    if dropping is None:
        return None
    chooser = Chooser(model, cache.ids_on(model.device), dropping.policy)
    if cache.kept is None:
        sets = [layer.kept for layer in cache.state.layers if layer.keys.length]
        pairs = enumerate(zip(sets, chooser.kept_in_layers(dropping.keep), strict=True))
        differ = (n for n, (a, b) in pairs if a is None or not np.array_equal(a.positions, b.positions))
        other = next(differ, None)
        layer = f"kept_positions of attention layer {other} are not those that {dropping} keeps"
        return None if other is None else layer
    expected = chooser.kept(dropping.keep)
    where = next((min(a + b) for a, b in zip(cache.kept, expected, strict=False) if a != b), None)
    if where is None and len(cache.kept) == len(expected):
        return None
    return f"kept_positions are not those that {dropping} keeps{'' if where is None else f', near token {where}'}"


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
    block_tokens, first = model.executor.block_tokens, state.position
    rows, ids = [], cache.ids_on(model.device)
    for at in range(first, end.position, block_tokens):
        block = ids[:, at : min(at + block_tokens, end.position)]
        x, state = model.run_prefill_layers(block, state)
        seen = x if tail is None else torch.cat([tail, x], dim=1)
        tail = seen[:, -model.config.tail_length :]
        if cache.compressed_k is not None:
            rows.append(model.compress_keys(x))
    if cache.compressed_k is not None:
        computed_rows, stored_rows = torch.cat(rows, dim=1), cache.compressed_k[:, first : end.position]
        tokens = np.arange(first, end.position)
        if cache.kept is not None:  # one window: such a cache has no checkpoints
            tokens = tokens_stored(cache.kept)
            computed_rows = computed_rows[:, torch.from_numpy(tokens).to(computed_rows.device)]
        rounded = _rounded_as(cache, computed_rows, first)
        where = _first_difference(computed_rows, rounded, stored_rows, exact)
        if where is not None:
            return f"compressed_k differs first at token {tokens[where]}"
    assert tail is not None
    if any(layer.kept is not None for layer in end.state.layers):
        pairs = zip(state.layers, end.state.layers, strict=True)
        state = replace(state, layers=tuple(a if b.kept is None else a.keeping(b.kept) for a, b in pairs))
    computed = Checkpoint(end.position, state, tail)
    rounded_state, coding = computed, cache.numerics.coding
    if end.position == cache.length:
        rounded_state = rounded_pairs(rounded_end(computed, coding.state), coding.rows, model.config.head_dim)
    triples = zip(_named(computed), _named(rounded_state), _named(end), strict=True)
    for (name, one), (_, rounded), (_, stored) in triples:
        if _first_difference(one, rounded, stored, exact) is not None:
            return f"{name} differs at token {end.position}"
    return None


def _rounded_as(cache: DocumentCache, rows: Tensor, first: int) -> Tensor:
    """Computed rows (1, n, R) from token `first` on, rounded as those of the cache: by what lies around them, too."""
    if not cache.row_parts:
        return rows
    assert cache.compressed_k is not None
    whole = cache.compressed_k.clone()
    whole[:, first : first + rows.shape[1]] = rows
    return rounded_rows(whole, cache.row_parts)[:, first : first + rows.shape[1]]


def _named(position: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a position, with their names for people."""
    yield "tail_hidden", position.tail_hidden
    for i, state in enumerate(position.state.layers):
        for name in STATE_FIELDS:
            if getattr(state, name) is not None:
                yield f"{name} of layer {i}", getattr(state, name)
        if state.keys.length:
            yield f"keys of layer {i}", state.keys.rows
            yield f"values of layer {i}", state.values.rows


def _first_difference(computed: Tensor, rounded: Tensor, stored: Tensor, exact: bool) -> int | None:
    """Index along axis 1 of the first difference, None if there is none.

    Args:
        rounded: the computed values as the codec gives them.
    """
    if exact:
        differs = rounded != stored
    else:  # computed a little differently, a value may be rounded the other way: by no more than any other one
        most = ROUNDING[stored.dtype] * stored.abs().max().clamp_min(1e-6) + (rounded - computed).abs().max()
        differs = (computed - stored).abs() > most
    if not bool(differs.any()):
        return None
    return int(differs.transpose(0, 1).flatten(1).any(-1).nonzero()[0])

"""Whole = chunked = step by step: the same logits and the same states, for every model type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from goldfinch import load_model, prefill
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.state import ModelState
from tests import tolerances
from tests.conftest import golden_folders
from tests.goldfinch.states import assert_states_equal

LENGTH = 150
MIXES = [[1] * LENGTH, [63, 64, 23], [64, 64, 22], [65, 1, 65, 19], [7, 1, 100, 2, 40], [149, 1]]


def run_in_pieces(model: LanguageModel, tokens: Tensor, pieces: list[int]) -> tuple[Tensor, ModelState]:
    state, out = None, []
    for part in tokens.split(pieces, dim=1):
        logits, state = model(part, state)
        out.append(logits)
    assert state is not None
    return torch.cat(out, dim=1), state


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("pieces", MIXES, ids=lambda p: "x".join(map(str, p[:6])))
@pytest.mark.parametrize("name", sorted(golden_folders()))
@torch.no_grad()
def test_pieces_equal_the_whole(name: str, pieces: list[int], imported: Callable[[str], Path]) -> None:
    precisions = [(torch.float32, tolerances.SPLIT_FP32), (torch.float64, tolerances.SPLIT_FP64)]
    for dtype, tolerance in precisions:
        model = load_model(imported(name), dtype=dtype)
        tokens = torch.randint(0, model.config.vocab_size, (2, LENGTH), generator=torch.Generator().manual_seed(3))
        whole, state = model(tokens)
        logits, piecewise = run_in_pieces(model, tokens, pieces)
        assert relative(logits, whole) <= tolerance
        assert_states_equal(piecewise.layers, state.layers, tolerance)


@torch.no_grad()
def test_bfloat16_splits_agree_as_a_ratio(imported: Callable[[str], Path]) -> None:
    model = load_model(imported("goldfinch_ratio2"), dtype=torch.bfloat16)
    tokens = torch.randint(0, model.config.vocab_size, (2, LENGTH), generator=torch.Generator().manual_seed(3))
    whole, _ = model(tokens)
    logits, _ = run_in_pieces(model, tokens, [65, 1, 65, 19])
    difference = (logits.float() - whole.float()).pow(2).mean().sqrt()
    assert difference / whole.float().pow(2).mean().sqrt() <= tolerances.SPLIT_BF16_RMS


@torch.no_grad()
def test_a_state_can_be_used_twice(imported: Callable[[str], Path]) -> None:
    """Going on from a state leaves it as it was, also when its buffers have room to grow."""
    for name in ("goldfinch_ratio2", "llama_rope"):
        model = load_model(imported(name))
        tokens = torch.arange(40)[None] % model.config.vocab_size
        _, state = model(tokens)
        _, state = model(tokens[:, :3], state)  # now the buffers have spare room
        first, _ = model(tokens[:, 5:10], state)
        model(tokens[:, 20:30], state)
        again, _ = model(tokens[:, 5:10], state)
        assert torch.equal(first, again)


@pytest.mark.parametrize("block_tokens", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("name", sorted(golden_folders()))
@torch.no_grad()
def test_prefill_blocks(name: str, block_tokens: int, imported: Callable[[str], Path]) -> None:
    """Prefill in blocks of any size leaves what one pass over all layers leaves."""
    model = load_model(imported(name), dtype=torch.float64)
    tokens = torch.randint(0, model.config.vocab_size, (1, LENGTH), generator=torch.Generator().manual_seed(5))
    _, state = model(tokens)
    cache = prefill(model, tokens, block_tokens=block_tokens)
    if model.config.n_gold:
        assert relative(cache.compressed_k, state.memory.compressed_k.rows) <= tolerances.SPLIT_FP64
        # No GOLD layer has run.
        assert all(layer.time_shift_state is None for layer in cache.state.layers[model.config.n_prefill :])
    assert cache.tail_hidden.shape[1] == model.config.tail_length
    lower = slice(model.config.n_prefill)
    assert_states_equal(cache.state.layers[lower], state.layers[lower], tolerances.SPLIT_FP64)

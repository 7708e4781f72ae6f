"""Documents of random tokens; comparing caches and the memories of layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from goldfinch import DocumentCache
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.state import LayerState

FIELDS = ("wkv_state", "time_shift_state", "channel_shift_state")


def assert_states_equal(found: Sequence[LayerState], expected: Sequence[LayerState], tolerance: float = 0.0) -> None:
    """Layer by layer the same fields and shapes, and the same values.

    Args:
        found, expected: states of the same layers.
        tolerance: largest difference, relative to the largest value expected; 0 asks for the same bits.
    """
    for n, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.keys.length == other.keys.length, f"keys of layer {n}"
        pairs = [(field, getattr(one, field), getattr(other, field)) for field in FIELDS]
        if other.keys.length:
            pairs += [("keys", one.keys.rows, other.keys.rows), ("values", one.values.rows, other.values.rows)]
        for field, a, b in pairs:
            where = f"{field} of layer {n}"
            assert (a is None) == (b is None), where
            if a is None or b is None:
                continue
            assert a.shape == b.shape, where
            if tolerance:
                assert float((a - b).abs().max()) <= tolerance * float(b.abs().max().clamp_min(1e-9)), where
            else:
                assert torch.equal(a, b), where


def assert_equal_caches(warm: DocumentCache, cold: DocumentCache) -> None:
    """The same tokens, and the same bits of what was kept of them."""
    assert warm.token_ids.tolist() == cold.token_ids.tolist()
    assert torch.equal(warm.tail_hidden, cold.tail_hidden)
    assert warm.document_range == cold.document_range
    if warm.compressed_k is not None:
        assert torch.equal(warm.compressed_k, cold.compressed_k)
    assert_states_equal(warm.state.layers, cold.state.layers)


def document(model: LanguageModel, length: int, seed: int = 7) -> Tensor:
    """Token ids (1, length) of the model's vocabulary."""
    return torch.randint(0, model.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(seed))

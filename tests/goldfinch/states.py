"""Comparing the memories of layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

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

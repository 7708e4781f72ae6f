"""Rows in a shorter float dtype."""

from __future__ import annotations

import numpy as np

from gfcache import layout

from .words import as_f32, from_f32

# Sections whose values may be rounded.
ROWS = frozenset({layout.COMPRESSED_K})
STATES = frozenset(
    {
        layout.WKV_STATE,
        layout.TIME_SHIFT_STATE,
        layout.CHANNEL_SHIFT_STATE,
        layout.TAIL_HIDDEN,
        layout.ATTENTION_TIME_SHIFT_STATE,
        layout.ATTENTION_CHANNEL_SHIFT_STATE,
    }
)
ALL = ROWS | STATES | {layout.ATTENTION_KV}


class Cast:
    """The `RowCodec` of a shorter dtype.

    Args:
        name: "f16" or "bf16".
    """

    kinds = ALL

    def __init__(self, name: str) -> None:
        self.name = name

    def rounded(self, rows: np.ndarray, dtype: str, like: np.ndarray | None) -> np.ndarray:
        """To the nearest; values beyond the dtype stay as they are."""
        short = as_f32(from_f32(rows, self.name), self.name)
        return np.where(np.isfinite(short), short, rows)

    def pack(self, rows: np.ndarray, dtype: str) -> bytes | None:
        """The values in the shorter dtype; None where one is beyond it."""
        return from_f32(rows, self.name).tobytes()

    def unpack(self, data: bytes, shape: tuple[int, int], dtype: str) -> np.ndarray:
        """The values; ValueError where there are more or fewer."""
        if len(data) != 2 * shape[0] * shape[1]:
            raise ValueError(f"{len(data)} bytes of {shape[0]} x {shape[1]} values")
        return as_f32(np.frombuffer(data, layout.NUMPY_DTYPES[self.name]).reshape(shape), self.name)

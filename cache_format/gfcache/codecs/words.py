"""Values of a section as float32, and back; bf16 travels as 16-bit words, which numpy has no type for."""

from __future__ import annotations

import numpy as np

from gfcache import layout


def as_f32(array: np.ndarray, dtype: str) -> np.ndarray:
    """Values of a float section as float32; larger ones than it holds become infinite."""
    if dtype == "bf16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def from_f32(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 values in the dtype of a section, rounded to the nearest, ties to even."""
    if dtype == "bf16":
        words = np.ascontiguousarray(values, np.float32).view(np.uint32)
        return ((words + 0x7FFF + ((words >> 16) & 1)) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        return values.astype(layout.NUMPY_DTYPES[dtype])

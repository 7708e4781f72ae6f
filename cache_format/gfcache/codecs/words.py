"""Values of a section as float32, and back; bf16 travels as 16-bit words, which numpy has no type for.

And integers of channels: their middles, and their bytes.
"""

from __future__ import annotations

import numpy as np

from gfcache import layout

# Largest size of an integer that is stored.
LARGEST = 32767
# Bins of a histogram for each integer that is counted: above, sorting is the quicker way to a median.
_BINS = 8


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
        return values.astype(layout.NUMPY_DTYPES[dtype], copy=False)


def middles(columns: np.ndarray) -> np.ndarray:
    """The median of each channel (channels, n) of integers, rounded half to even: (channels,) int32."""
    channels, n = columns.shape
    if not columns.size:
        return np.zeros(channels, np.int32)
    least = int(columns.min())
    span = int(columns.max()) - least + 1
    if span > _BINS * n:
        return np.rint(np.median(columns, axis=1)).astype(np.int32)
    bins = columns.astype(np.intp) + (np.arange(channels) * span - least)[:, None]
    below = np.bincount(bins.reshape(-1), minlength=channels * span).reshape(channels, span).cumsum(axis=1)
    lower, upper = ((below > place).argmax(axis=1) for place in ((n - 1) // 2, n // 2))
    return np.rint((lower + upper) / 2 + least).astype(np.int32)


def byte_planes(columns: np.ndarray, width: int) -> bytes:
    """Integers in `width` bytes each, all low bytes before all high ones."""
    narrow = np.ascontiguousarray(columns, f"<i{width}")
    if width == 1:
        return narrow.tobytes()
    return np.ascontiguousarray(narrow.reshape(-1).view(np.uint8).reshape(-1, width).T).tobytes()


def from_byte_planes(data: bytes, shape: tuple[int, int], width: int) -> np.ndarray:
    """Undo `byte_planes`: int8 or int16."""
    planes = np.frombuffer(data, np.uint8)
    if width == 2:
        planes = np.ascontiguousarray(planes.reshape(width, -1).T)
    return planes.view(f"<i{width}").reshape(shape)

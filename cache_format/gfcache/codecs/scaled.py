"""Integers with a scale for each row."""

from __future__ import annotations

import numpy as np

from .casts import ALL
from .words import as_f32, from_f32
from .zstd import decompressed, entropy_coded

# Rows whose scale would be smaller hold nothing but zeros: its inverse could not be represented.
_LEAST_SCALE = 2.0**-120


class ScaledRows:
    """The `RowCodec` of int8 and its shorter relatives: q times the scale of the row, q from -(2^(b-1) - 1) on.

    The scale is max|x| / (2^(b-1) - 1), to the nearest number of 8 significant bits, so that products are exact in
    float32; in sections of 16-bit floats it is the next power of two, for the same reason. Rounding again what was
    rounded therefore changes nothing.

    Args:
        bits: b, of each integer.
    """

    kinds = ALL

    def __init__(self, bits: int) -> None:
        self.name, self._most = f"int{bits}", 2 ** (bits - 1) - 1

    def _scales(self, rows: np.ndarray, dtype: str) -> np.ndarray:
        """(n, 1), 0 for rows of zeros."""
        scales = np.abs(rows).max(axis=1, keepdims=True, initial=0) / np.float32(self._most)
        if dtype in ("bf16", "f16"):
            fraction, exponent = np.frexp(scales)
            scales = np.ldexp(np.float32(1), exponent - (fraction == 0.5)).astype(np.float32) * (scales > 0)
        else:
            scales = as_f32(from_f32(scales, "bf16"), "bf16")
        return np.where(scales < _LEAST_SCALE, np.float32(0), scales)

    def _codes(self, rows: np.ndarray, scales: np.ndarray) -> np.ndarray:
        codes = np.rint(np.divide(rows, scales, out=np.zeros_like(rows), where=scales > 0))
        return codes.clip(-self._most, self._most)

    def rounded(self, rows: np.ndarray, dtype: str, like: np.ndarray | None) -> np.ndarray:
        """Each row to multiples of its scale."""
        scales = self._scales(rows, dtype)
        return self._codes(rows, scales) * scales

    def pack(self, rows: np.ndarray, dtype: str) -> bytes | None:
        """n scales as bf16, then the integers, one byte each, compressed with zstandard."""
        scales = self._scales(rows, dtype)
        codes = self._codes(rows, scales).astype(np.int8)
        return from_f32(scales, "bf16").tobytes() + entropy_coded(codes.tobytes())

    def unpack(self, data: bytes, shape: tuple[int, int], dtype: str) -> np.ndarray:
        """The products; ValueError where these are not such bytes."""
        n, width = shape
        if len(data) < 2 * n:
            raise ValueError(f"{len(data)} bytes, expected {n} scales first")
        scales = as_f32(np.frombuffer(data[: 2 * n], "<u2").reshape(n, 1), "bf16")
        codes = np.frombuffer(decompressed(data[2 * n :], n * width), np.int8).reshape(shape)
        with np.errstate(over="ignore", invalid="ignore"):
            return codes * scales

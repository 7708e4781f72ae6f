"""Multiples of one constant step, entropy coded: the spread of the values decides what each of them costs.

A scale of its own for each group fills the range of the code, and leaves an entropy coder nothing to gain. One step
for all costs small values few bits. It is a power of two, so that multiples are exact in every dtype and rounding
again what was rounded changes nothing; and it follows from the first rows alone, so that a document that grows keeps
it.
"""

from __future__ import annotations

import struct

import numpy as np

from .casts import ROWS
from .zstd import compressed, decompressed

LEVEL = 19
# Rows, of the first of a document, that the step follows from.
LIKE_ROWS = 64
# How far from the wanted one a step that rows have already may be; 0.5 is as far as rounding to a power of two goes.
KEPT_OCTAVES = 0.65
_HEAD = struct.Struct("<hB")  # exponent of the step; bytes of each integer
_EXPONENTS = range(-140, 120)


class Step:
    """The `RowCodec` of a constant step: about 2^-h times the root mean square of the first rows.

    Gaussian values cost 2.05 + h bits each.

    Args:
        name: in the table of sections.
        halvings: h.
    """

    kinds = ROWS

    def __init__(self, name: str, halvings: int) -> None:
        self.name, self._halvings = name, halvings

    def rounded(self, rows: np.ndarray, dtype: str, like: np.ndarray | None) -> np.ndarray:
        """To multiples of the step."""
        exponent = self._exponent(rows if like is None else like)
        if exponent is None:
            return rows
        return np.ldexp(np.rint(np.ldexp(rows, -exponent)), exponent)

    def _exponent(self, rows: np.ndarray) -> int | None:
        """Of the step; None where the values are zeros, or as extreme as values of no model are."""
        first = rows[:LIKE_ROWS].astype(np.float64)
        mean_square = float(np.mean(first * first)) if first.size else 0.0
        if not 0.0 < mean_square < np.inf:
            return None
        wanted = 0.5 * np.log2(mean_square) - self._halvings
        # Rounding moves the mean square a little: a step that the rows have already is kept.
        found = common_exponent(rows[:LIKE_ROWS])
        exponent = found if abs(found - wanted) < KEPT_OCTAVES else round(wanted)
        return exponent if exponent in _EXPONENTS else None

    def pack(self, rows: np.ndarray, dtype: str) -> bytes | None:
        """The exponent, the width of the integers, and these channel by channel, low bytes first, compressed."""
        exponent = common_exponent(rows)
        if exponent not in _EXPONENTS:
            return None
        codes = np.ldexp(rows, -exponent)
        most = float(np.abs(codes).max(initial=0))
        if most > 32767:
            return None
        width = 1 if most <= 127 else 2
        columns = np.ascontiguousarray(codes.T.astype(f"<i{width}"))
        planes = np.ascontiguousarray(columns.reshape(-1).view(np.uint8).reshape(-1, width).T)
        return _HEAD.pack(exponent, width) + compressed(planes.tobytes(), LEVEL)

    def unpack(self, data: bytes, shape: tuple[int, int], dtype: str) -> np.ndarray:
        """The multiples; ValueError where these are not such bytes."""
        if len(data) < _HEAD.size:
            raise ValueError(f"{len(data)} bytes, expected {_HEAD.size} or more")
        exponent, width = _HEAD.unpack_from(data)
        if exponent not in _EXPONENTS or width not in (1, 2):
            raise ValueError(f"a step of 2^{exponent}, integers of {width} bytes")
        n, channels = shape
        planes = np.frombuffer(decompressed(data[_HEAD.size :], n * channels * width), np.uint8)
        codes = np.ascontiguousarray(planes.reshape(width, -1).T).view(f"<i{width}").reshape(channels, n)
        with np.errstate(over="ignore"):
            return codes.T.astype(np.float32) * np.float32(2.0**exponent)


def common_exponent(rows: np.ndarray) -> int:
    """The largest e such that all values are multiples of 2^e; 0 where all are zero."""
    fraction, exponent = np.frexp(rows[rows != 0])
    if not fraction.size:
        return 0
    mantissa = np.ldexp(fraction, 24).astype(np.int64)
    lowest = np.frexp((mantissa & -mantissa).astype(np.float32))[1] - 1
    return int((exponent - 24 + lowest).min())

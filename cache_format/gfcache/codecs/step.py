"""Multiples of one constant step, entropy coded: the spread of the values decides what each of them costs.

A scale of its own for each group fills the range of the code, and leaves an entropy coder nothing to gain. One step
for all costs small values few bits. It is a power of two or three times one, so that multiples are exact in every
dtype and rounding again what was rounded changes nothing; and it follows from the first rows alone, so that a document
that grows keeps it. What the channels have in common is their spread, not their mean: counted from the middle of its
channel, every value has nearly the same distribution, and one table of an entropy coder serves all.
"""

from __future__ import annotations

import struct

import numpy as np

from .casts import ROWS
from .words import LARGEST, byte_planes, from_byte_planes, middles
from .zstd import decompressed, entropy_coded

# Rows, of the first of a document, that the step follows from.
LIKE_ROWS = 64
# How far from the wanted one a step that rows have already may be; from the nearest it is at most 0.3.
KEPT_OCTAVES = 0.42
_HEAD = struct.Struct("<hBB")  # exponent and factor of the step; bytes of each integer
_EXPONENTS = range(-140, 120)
_FACTORS = (1, 3)
# Rows of which all others have the same step, most often.
_FEW_ROWS = 8
# Powers of two up to this one, and down to its inverse, are float32.
_PLAIN_EXPONENT = 126


class Step:
    """The `RowCodec` of a constant step: about 2^-h times the root mean square of the first rows.

    Gaussian values cost 2.05 + h bits each.

    Args:
        name: in the table of sections.
        halvings: h.
    """

    kinds = ROWS

    def __init__(self, name: str, halvings: float) -> None:
        self.name, self._halvings = name, halvings

    def rounded(self, rows: np.ndarray, dtype: str, like: np.ndarray | None) -> np.ndarray:
        """To multiples of the step."""
        step = self._step(rows if like is None else like)
        if step is None:
            return rows
        exponent, factor = step
        return _shifted(np.rint(_shifted(rows, -exponent) / np.float32(factor)) * np.float32(factor), exponent)

    def _step(self, rows: np.ndarray) -> tuple[int, int] | None:
        """Exponent and factor; None where the values are zeros, or as extreme as values of no model are."""
        first = rows[:LIKE_ROWS].astype(np.float64)
        mean_square = float(np.mean(first * first)) if first.size else 0.0
        if not 0.0 < mean_square < np.inf:
            return None
        wanted = 0.5 * np.log2(mean_square) - self._halvings
        # Rounding moves the mean square a little: a step that the rows have already is kept.
        found = common_step(rows[:LIKE_ROWS])
        if abs(_octaves(found) - wanted) >= KEPT_OCTAVES:
            near = [(int(np.floor(wanted)) + more, factor) for more in (-2, -1, 0, 1) for factor in _FACTORS]
            found = min(near, key=lambda step: abs(_octaves(step) - wanted))
        return found if found[0] in _EXPONENTS else None

    def pack(self, rows: np.ndarray, dtype: str) -> bytes | None:
        """The step and the width of the integers; the middle of each channel; then how far from it the integers are,
        channel by channel, low bytes first, entropy coded.
        """
        exponent, factor = common_step(rows)
        if exponent not in _EXPONENTS:
            return None
        codes = _shifted(rows, -exponent) / np.float32(factor)
        if float(np.abs(codes).max(initial=0)) > LARGEST:
            return None
        columns = codes.T.astype(np.int32, order="C")
        middle = middles(columns)
        columns -= middle[:, None]
        most = int(np.abs(columns).max(initial=0))
        if most > LARGEST:
            return None
        width = 1 if most <= 127 else 2
        head = _HEAD.pack(exponent, factor, width) + middle.astype("<i2").tobytes()
        return head + entropy_coded(byte_planes(columns, width))

    def unpack(self, data: bytes, shape: tuple[int, int], dtype: str) -> np.ndarray:
        """The multiples; ValueError where these are not such bytes."""
        n, channels = shape
        at = _HEAD.size + 2 * channels
        if len(data) < at:
            raise ValueError(f"{len(data)} bytes, expected {at} or more")
        exponent, factor, width = _HEAD.unpack_from(data)
        if exponent not in _EXPONENTS or factor not in _FACTORS or width not in (1, 2):
            raise ValueError(f"a step of {factor} times 2^{exponent}, integers of {width} bytes")
        middle = np.frombuffer(data, "<i2", channels, _HEAD.size).astype(np.int32)
        columns = from_byte_planes(decompressed(data[at:], n * channels * width), (channels, n), width)
        codes = (columns + middle[:, None]).T.astype(np.float32, order="C")
        with np.errstate(over="ignore"):
            codes *= np.float32(factor * 2.0**exponent)
        return codes


def _octaves(step: tuple[int, int]) -> float:
    return float(step[0] + np.log2(step[1]))


def common_step(rows: np.ndarray) -> tuple[int, int]:
    """(exponent, factor) of the largest step of which all values are multiples; (0, 1) where all are zero."""
    exponent = common_exponent(rows)
    with np.errstate(over="ignore", invalid="ignore"):
        thirds = (_shifted(part, -exponent) for part in (rows[:_FEW_ROWS], rows))
        divisible = all(not np.fmod(part, np.float32(3)).any() for part in thirds) and bool(rows.any())
    return (exponent, 3) if divisible else (exponent, 1)


def common_exponent(rows: np.ndarray) -> int:
    """The largest e such that all values are multiples of 2^e; 0 where all are zero."""
    few = _exponent(rows[:_FEW_ROWS])
    with np.errstate(over="ignore", invalid="ignore"):
        whole = _shifted(rows, -few)
        found = float(np.abs(whole).max(initial=0)) < np.inf and np.array_equal(np.rint(whole), whole)
        # What became zero was too small to be a multiple.
        found = found and np.count_nonzero(whole) == np.count_nonzero(rows)
    return few if found and rows[:_FEW_ROWS].any() else _exponent(rows)


def _exponent(rows: np.ndarray) -> int:
    fraction, exponent = np.frexp(rows[rows != 0])
    if not fraction.size:
        return 0
    mantissa = np.ldexp(fraction, 24).astype(np.int64)
    lowest = np.frexp((mantissa & -mantissa).astype(np.float32))[1] - 1
    return int((exponent - 24 + lowest).min())


def _shifted(rows: np.ndarray, exponent: int) -> np.ndarray:
    """Values times 2^exponent, rounded once."""
    if abs(exponent) <= _PLAIN_EXPONENT:  # a power that float32 holds: the same, many times as fast
        return rows * np.float32(2.0**exponent)
    return np.ldexp(rows, exponent)

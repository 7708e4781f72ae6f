"""Rotary positions taken off keys and put on again, with the same bits on every machine.

Keys of attention with rotary positions (arXiv 2104.09864) turn with their position, so that no channel has a middle to
count from. Turned back, they have one. Sine and cosine are integers here, and so are the keys: sums of their products
are exact in float64 in any order, and rounded once.

Notation: T tokens, D channels of a head, pairs of channels (c, c + pairs).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

# Sine and cosine are multiples of 2^-BITS.
BITS = 15
_ONE = 1 << BITS
# Terms of the series that is summed below: for |x| up to pi, what is left out is far below 2^-BITS.
_TERMS = 14


@lru_cache(8)
def turns(rotary: tuple[float, ...], first: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine, times 2^BITS and rounded, of each position and pair: (T, pairs) float64.

    Summed from products and sums alone, each of which IEEE 754 rounds in one way: libraries differ in their sines.
    """
    positions = np.arange(first, first + tokens, dtype=np.float64)[:, None]
    share = positions * (np.array(rotary, np.float64) * (0.5 / math.pi))
    x = (share - np.rint(share)) * (2 * math.pi)
    square = x * x
    cosine, sine = np.ones_like(x), np.ones_like(x)
    for n in range(_TERMS, 0, -1):
        cosine = 1.0 - cosine * (square * (1.0 / ((2 * n - 1) * (2 * n))))
        sine = 1.0 - sine * (square * (1.0 / ((2 * n) * (2 * n + 1))))
    found = np.rint(cosine * _ONE), np.rint(sine * x * _ONE)
    for array in found:
        array.setflags(write=False)
    return found


def turned_back(rows: np.ndarray, turn: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Keys (T, D) before they were turned, float64; channels beyond the pairs stay."""
    cosine, sine = turn
    pairs = cosine.shape[1]
    out = rows.astype(np.float64)
    one, other = out[:, :pairs].copy(), out[:, pairs : 2 * pairs].copy()
    scale = _ONE / (cosine * cosine + sine * sine)
    out[:, :pairs] = (one * cosine + other * sine) * scale
    out[:, pairs : 2 * pairs] = (other * cosine - one * sine) * scale
    return out


def turned(codes: np.ndarray, turn: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Integers (T, D) turned, float64: exact, in multiples of 2^-BITS."""
    cosine, sine = turn
    pairs = cosine.shape[1]
    out = codes.astype(np.float64)
    one, other = out[:, :pairs].copy(), out[:, pairs : 2 * pairs].copy()
    out[:, :pairs] = (one * cosine - other * sine) * (1.0 / _ONE)
    out[:, pairs : 2 * pairs] = (other * cosine + one * sine) * (1.0 / _ONE)
    return out

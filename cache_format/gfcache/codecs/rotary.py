"""Rotary positions taken off keys and put on again, with the same bits on every machine.

Keys of attention with rotary positions (arXiv 2104.09864) turn with their position, so that no channel has a middle to
count from. Turned back, they have one. Sine and cosine are integers here, and so are the keys: sums of their products
are exact in float64 in any order, and rounded once.

Notation: T tokens, D channels of a head, pairs of channels (c, c + pairs). Channels come first here: their tokens, one
beside the other, are what processors take many of at once.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

# Sine and cosine are multiples of 2^-BITS.
BITS = 15
_ONE = 1 << BITS
# float32 holds all integers below; and units of exponents up to _PLAIN, 2^-BITS of them, and sums of them.
_EXACT_F32, _PLAIN = 1 << 24, 100
# Terms of the series that is summed below: for |x| up to pi, what is left out is far below 2^-BITS.
_TERMS = 14


class Turn(NamedTuple):
    """Cosine and sine, times 2^BITS and rounded, of each pair and position: (pairs, T) float64.

    Attributes:
        back: 2^BITS over the sum of their squares.
    """

    cosine: np.ndarray
    sine: np.ndarray
    back: np.ndarray

    def at(self, tokens: slice) -> Turn:
        """Of some of the positions."""
        return Turn(self.cosine[:, tokens], self.sine[:, tokens], self.back[:, tokens])


@lru_cache(8)
def turns(rotary: tuple[float, ...], first: int, tokens: int) -> Turn:
    """By how much keys of these positions are turned.

    Summed from products and sums alone, each of which IEEE 754 rounds in one way: libraries differ in their sines.
    """
    positions = np.arange(first, first + tokens, dtype=np.float64)
    share = (np.array(rotary, np.float64) * (0.5 / math.pi))[:, None] * positions
    x = (share - np.rint(share)) * (2 * math.pi)
    square = x * x
    cosine, sine = np.ones_like(x), np.ones_like(x)
    for n in range(_TERMS, 0, -1):
        cosine = 1.0 - cosine * (square * (1.0 / ((2 * n - 1) * (2 * n))))
        sine = 1.0 - sine * (square * (1.0 / ((2 * n) * (2 * n + 1))))
    cosine, sine = np.rint(cosine * _ONE), np.rint(sine * x * _ONE)
    found = Turn(cosine, sine, _ONE / (cosine * cosine + sine * sine))
    for array in found:
        array.setflags(write=False)
    return found


def turned_back(keys: np.ndarray, turn: Turn, dtype: type[np.floating] = np.float64) -> np.ndarray:
    """Keys (D, T) before they were turned, in `dtype`; channels beyond the pairs stay."""
    cosine, sine, back = (array.astype(dtype, copy=False) for array in turn)
    pairs = len(cosine)
    given, out = keys.astype(dtype, order="C"), np.empty(keys.shape, dtype)
    one, other = given[:pairs], given[pairs : 2 * pairs]
    _sum_of_products(out[:pairs], np.add, one, cosine, other, sine)
    _sum_of_products(out[pairs : 2 * pairs], np.subtract, other, cosine, one, sine)
    out[:pairs] *= back
    out[pairs : 2 * pairs] *= back
    out[2 * pairs :] = given[2 * pairs :]
    return out


def turned(codes: np.ndarray, turn: Turn, unit: float = 1.0) -> np.ndarray:
    """Integers (D, T) turned, in multiples of `unit`, a power of two or three times one: exact, in float64 or float32.

    Channels beyond the pairs are multiples of it; those of pairs, of 2^-BITS of it.
    """
    pairs, dtype = len(turn.cosine), _holds(codes, unit)
    given, out = codes.astype(dtype, copy=False), np.empty(codes.shape, dtype)
    one, other = given[:pairs], given[pairs : 2 * pairs]
    cosine, sine = (np.multiply(array.astype(dtype, copy=False), float(unit) / _ONE) for array in turn[:2])
    _sum_of_products(out[:pairs], np.subtract, one, cosine, other, sine)
    _sum_of_products(out[pairs : 2 * pairs], np.add, other, cosine, one, sine)
    np.multiply(given[2 * pairs :], np.asarray(unit, dtype), out=out[2 * pairs :])
    return out


def _holds(codes: np.ndarray, unit: float) -> type[np.float32] | type[np.float64]:
    """What holds all products of integers with sines and the factor of a unit, and their sums: float32 is quicker."""
    odd = 1 if np.frexp(unit)[0] == 0.5 else 3
    largest = 2.0 * float(np.abs(codes).max(initial=0)) * _ONE * odd
    return np.float32 if largest < _EXACT_F32 and abs(np.frexp(unit)[1]) <= _PLAIN else np.float64


def _sum_of_products(
    out: np.ndarray, join: np.ufunc, a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray
) -> None:
    """a b + c d, or a b - c d, into `out`."""
    np.multiply(a, b, out=out)
    join(out, c * d, out=out)

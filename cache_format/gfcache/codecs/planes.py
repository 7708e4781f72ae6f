"""Keys and values as multiples of a constant step for each head, entropy coded (see `step`).

Three things make keys and values cost less than their spread says. The first tokens of a document draw attention from
everywhere: they stay as they are. A key is turned back by its rotary position first, for what a channel has in common
over all tokens is most of a key. And the integers are put in the order of their channels' spreads, so that an entropy
coder has a table for each.

Notation: T tokens, P planes (a head of a layer), D channels of a head, S tokens that stay.
"""

from __future__ import annotations

import struct

import numpy as np

from gfcache import layout

from .rotary import turned, turned_back, turns
from .tokens import Where
from .words import as_f32, from_f32
from .zstd import decompressed, entropy_coded

# First positions of a document, whose keys and values stay as they are, as bf16.
SINKS = 4
_HEAD = struct.Struct("<B")  # bytes of each integer
_EXPONENTS = range(-100, 101)
# A plane whose values are as they are; else the halves of 2^e that its step has.
_PLAIN, _FACTORS = 0, (2, 3)
_LARGEST = 32767
# Rows of a block that candidates for its step are tried on.
_TRIED = 8
# A step is one of 2^e and 1.5 * 2^e, numbered by 2 e and 2 e + 1: so many above and below the nearest are tried.
_NEAR = 3


class Planes:
    """The `TokenCodec` of a constant step: 2^-h times the root mean square about the middles of the first block.

    Args:
        halvings: h.
    """

    def __init__(self, halvings: float) -> None:
        self._halvings = halvings

    def rounded(self, block: np.ndarray, dtype: str, like: np.ndarray, where: Where, at: int) -> np.ndarray:
        """Each head to multiples of its step; the first positions of a document to bf16."""
        here, D = where.behind(at), block.shape[2]
        kept, skipped = _kept(len(block), here), _kept(len(like), where)
        out = block.copy()
        out[:kept] = np.where(np.isfinite(found := _as_bf16(block[:kept])), found, block[:kept])
        turn, like_turn = _turn(here, len(block), D), _turn(where, len(like), D)
        for plane in range(block.shape[1] if kept < len(block) else 0):
            rows = _back(block[kept:, plane], turn, kept)
            first = like[skipped:, plane]
            number = self._number(rows if at == 0 else _back(first, like_turn, skipped))
            if number is not None:  # rounding moves the spread a little: a step that is there is kept
                there = self._codes(first, dtype, like_turn, skipped)
                number = number if there is None or abs(there[0] - number) > 1 else there[0]
            if number is not None:
                found = _values(np.rint(rows / _size(number)), number, turn, kept)
                out[kept:, plane] = np.where(np.isfinite(found), found, block[kept:, plane])
        return out

    def _number(self, rows: np.ndarray) -> int | None:
        """The number of the step for a plane; None where all are alike, or as extreme as values of no model are."""
        spread = float(np.sqrt(np.mean(np.square(rows - rows.mean(axis=0))))) if len(rows) > 1 else 0.0
        if not 0.0 < spread < np.inf:
            return None
        wanted = 2 * (np.log2(spread) - self._halvings)
        number = round(float(wanted))
        return number if number // 2 in _EXPONENTS else None

    def pack(self, block: np.ndarray, dtype: str, where: Where) -> bytes | None:
        """Steps; the tokens that stay; planes that are no multiples; middles and spreads; integers, by their spread."""
        kept = _kept(len(block), where)
        n, (_, P, D) = len(block) - kept, block.shape
        turn = _turn(where, len(block), D)
        numbers, codes, plain = np.zeros(P, np.int16), [], b""
        factors = np.zeros(P, np.uint8)
        for plane in range(P if n else 0):
            found = self._codes(block[kept:, plane], dtype, turn, kept)
            if found is None:
                plain += from_f32(block[kept:, plane], dtype).tobytes()
                continue
            numbers[plane], factors[plane] = found[0] // 2, _FACTORS[found[0] % 2]
            codes.append(found[1])
        sinks = from_f32(block[:kept], "bf16")
        if as_f32(sinks, "bf16").tobytes() != np.ascontiguousarray(block[:kept]).tobytes():
            return None
        head = numbers.astype("<i2").tobytes() + factors.tobytes() + sinks.tobytes() + plain
        if not codes:
            return head
        columns = np.concatenate([found.T for found in codes])  # (channels, n)
        middles = np.rint(np.median(columns, axis=1)).astype(np.int32)
        columns -= middles[:, None]
        most = int(np.abs(columns).max(initial=0))
        if most > _LARGEST or int(np.abs(middles).max()) > _LARGEST:
            return None
        spreads = _spreads(columns)
        width = 1 if most <= 127 else 2
        facts = np.ascontiguousarray(middles.astype("<i2").view(np.uint8).reshape(-1, 2).T).tobytes()
        sorted_columns = columns[np.argsort(spreads, kind="stable")].astype(f"<i{width}")
        planes = np.ascontiguousarray(sorted_columns.reshape(-1).view(np.uint8).reshape(-1, width).T)
        packed = entropy_coded(facts + spreads.tobytes())
        return head + _HEAD.pack(width) + struct.pack("<I", len(packed)) + packed + entropy_coded(planes.tobytes())

    def _codes(
        self, rows: np.ndarray, dtype: str, turn: tuple[np.ndarray, np.ndarray] | None, kept: int
    ) -> tuple[int, np.ndarray] | None:
        """The number of the step that a plane (n, D) has been rounded to, and its integers; None for none."""
        back = _back(rows, turn, kept)
        nearest = self._number(back)
        if nearest is None:
            return None
        sample = slice(0, len(rows), max(len(rows) // _TRIED, 1))
        picked = None if turn is None else (turn[0][kept:][sample], turn[1][kept:][sample])
        words = from_f32(rows, dtype)
        for number in range(nearest + _NEAR, nearest - _NEAR - 1, -1):
            if number // 2 not in _EXPONENTS:
                continue
            few = from_f32(_values(np.rint(back[sample] / _size(number)), number, picked, 0), dtype)
            if not np.array_equal(few, words[sample]):
                continue
            codes = np.rint(back / _size(number))
            found = from_f32(_values(codes, number, turn, kept), dtype)
            if np.array_equal(found, words) and float(np.abs(codes).max(initial=0)) <= _LARGEST:
                return number, codes.astype(np.int32)
        return None

    def unpack(self, data: bytes, shape: tuple[int, int, int], dtype: str, where: Where) -> np.ndarray:
        """The values; ValueError where these are not such bytes."""
        T, P, D = shape
        kept, size = _kept(T, where), layout.DTYPES[dtype]
        n, at = T - kept, 3 * P + 2 * kept * P * D
        if len(data) < at:
            raise ValueError(f"{len(data)} bytes, expected {at} or more")
        exponents = np.frombuffer(data, "<i2", P).astype(np.int64)
        factors = np.frombuffer(data, np.uint8, P, 2 * P)
        coded = np.flatnonzero(factors)
        if not np.isin(factors, (_PLAIN, *_FACTORS)).all() or not np.isin(exponents, _EXPONENTS).all():
            raise ValueError("a step that is none")
        out = np.empty(shape, np.float32)
        out[:kept] = as_f32(np.frombuffer(data, "<u2", kept * P * D, 3 * P).reshape(kept, P, D), "bf16")
        plain = np.flatnonzero(factors == _PLAIN)
        rest = len(plain) * n * D * size
        if len(data) < at + rest:
            raise ValueError(f"{len(data)} bytes, expected {at + rest} or more")
        as_they_are = np.frombuffer(data, layout.NUMPY_DTYPES[dtype], len(plain) * n * D, at)
        out[kept:, plain] = as_f32(as_they_are.reshape(len(plain), n, D), dtype).transpose(1, 0, 2)
        at += rest
        if not len(coded):
            if at != len(data):
                raise ValueError(f"{len(data) - at} bytes behind the last plane")
            return out
        columns = _columns(data[at:], len(coded) * D, n)
        turn = _turn(where, T, D)
        for number, plane in enumerate(coded):
            step = 2 * int(exponents[plane]) + (int(factors[plane]) - _FACTORS[0])
            with np.errstate(over="ignore"):
                out[kept:, plane] = _values(columns[number * D : (number + 1) * D].T, step, turn, kept)
        return out


def _columns(data: bytes, channels: int, n: int) -> np.ndarray:
    """Integers (channels, n) int32 with their middles."""
    if len(data) < 5:
        raise ValueError(f"{len(data)} bytes of {channels} channels")
    (width,), (length,) = _HEAD.unpack_from(data), struct.unpack_from("<I", data, 1)
    if width not in (1, 2) or length > len(data) - 5:
        raise ValueError(f"integers of {width} bytes behind {length}")
    facts = np.frombuffer(decompressed(data[5 : 5 + length], 3 * channels), np.uint8)
    middles = np.ascontiguousarray(facts[: 2 * channels].reshape(2, -1).T).view("<i2").reshape(-1).astype(np.int32)
    order = np.argsort(facts[2 * channels :], kind="stable")
    planes = np.frombuffer(decompressed(data[5 + length :], channels * n * width), np.uint8)
    if width == 2:
        planes = np.ascontiguousarray(planes.reshape(width, -1).T)
    columns = np.empty((channels, n), np.int32)
    columns[order] = planes.view(f"<i{width}").reshape(channels, n)
    return columns + middles[:, None]


def _spreads(columns: np.ndarray) -> np.ndarray:
    """A number for the spread of each channel (channels, n): logarithms of its mean size, 8 to an octave."""
    mean = np.abs(columns).mean(axis=1)
    return np.rint(8 * np.log2(1 + 16 * mean)).clip(0, 255).astype(np.uint8)


def _kept(tokens: int, where: Where) -> int:
    """How many of the first tokens stay."""
    return min(max(SINKS - where.first, 0), tokens)


def _size(number: int) -> float:
    """The step of a number."""
    return float(np.ldexp(1.0 + 0.5 * (number % 2), number // 2))


def _turn(where: Where, tokens: int, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """How the keys of a block are turned; None where they are not, or what is said of it fits no head."""
    if not where.rotary or 2 * len(where.rotary) > channels:
        return None
    return turns(where.rotary, where.first, tokens)


def _back(rows: np.ndarray, turn: tuple[np.ndarray, np.ndarray] | None, kept: int) -> np.ndarray:
    if turn is None:
        return rows.astype(np.float64)
    return turned_back(rows, (turn[0][kept:], turn[1][kept:]))


def _values(codes: np.ndarray, number: int, turn: tuple[np.ndarray, np.ndarray] | None, kept: int) -> np.ndarray:
    """Integers times their step, and turned: float32, rounded once."""
    exact = codes.astype(np.float64) if turn is None else turned(codes, (turn[0][kept:], turn[1][kept:]))
    return (exact * _size(number)).astype(np.float32) + np.float32(0)  # zeros of one sign, as integers have


def _as_bf16(values: np.ndarray) -> np.ndarray:
    return as_f32(from_f32(values, "bf16"), "bf16")

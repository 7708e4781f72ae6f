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

from .rotary import Turn, turned, turned_back, turns
from .tokens import Where
from .words import LARGEST, as_f32, byte_planes, from_byte_planes, from_f32, middles
from .zstd import decompressed, entropy_coded

# First positions of a document, whose keys and values stay as they are, as bf16.
SINKS = 4
_HEAD = struct.Struct("<BI")  # bytes of each integer; of the frame that follows
_EXPONENTS = range(-100, 101)
# A plane whose values are as they are; else the halves of 2^e that its step has.
_PLAIN, _FACTORS = 0, (2, 3)
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
        kept, skipped = kept_tokens(len(block), here), kept_tokens(len(like), where)
        out = block.copy()
        out[:kept] = np.where(np.isfinite(found := _as_bf16(block[:kept])), found, block[:kept])
        turn, like_turn = turn_of(here, len(block), D, kept), turn_of(where, len(like), D, skipped)
        for plane in range(block.shape[1] if kept < len(block) else 0):
            columns = _back(block[kept:, plane].T, turn)
            first = like[skipped:, plane]
            number = self._number(columns if at == 0 else _back(first.T, like_turn))
            if number is not None:  # rounding moves the spread a little: a step that is there is kept
                there = self._codes(first, dtype, like_turn)
                number = number if there is None or abs(there[0] - number) > 1 else there[0]
            if number is not None:
                found = _values(np.rint(columns / _size(number)), number, turn).T
                out[kept:, plane] = np.where(np.isfinite(found), found, block[kept:, plane])
        return out

    def _number(self, columns: np.ndarray) -> int | None:
        """The number of the step for a plane (D, n); None where all are alike, or extreme as values of no model are."""
        if columns.shape[1] < 2:
            return None
        with np.errstate(over="ignore", invalid="ignore"):  # of sums beyond float32, which no step is of
            centred = columns - columns.mean(axis=1, keepdims=True)
        spread = float(np.sqrt(np.mean(np.square(centred, dtype=np.float64))))  # whose range holds all squares
        if not 0.0 < spread < np.inf:
            return None
        wanted = 2 * (np.log2(spread) - self._halvings)
        number = round(float(wanted))
        return number if number // 2 in _EXPONENTS else None

    def pack(self, block: np.ndarray, dtype: str, where: Where) -> bytes | None:
        """Steps; the tokens that stay; planes that are no multiples; middles and spreads; integers, by their spread."""
        kept = kept_tokens(len(block), where)
        n, (_, P, D) = len(block) - kept, block.shape
        turn = turn_of(where, len(block), D, kept)
        numbers, plain, channels = np.zeros(P, np.int16), b"", _Channels()
        factors = np.zeros(P, np.uint8)
        for plane in range(P if n else 0):
            found = self._codes(block[kept:, plane], dtype, turn)
            if found is None:
                plain += from_f32(block[kept:, plane], dtype).tobytes()
                continue
            numbers[plane], factors[plane] = found[0] // 2, _FACTORS[found[0] % 2]
            channels.add(found[1])
        sinks = from_f32(block[:kept], "bf16")
        if as_f32(sinks, "bf16").tobytes() != np.ascontiguousarray(block[:kept]).tobytes():
            return None
        packed = channels.packed()
        if packed is None:
            return None
        return numbers.astype("<i2").tobytes() + factors.tobytes() + sinks.tobytes() + plain + packed

    def _codes(self, rows: np.ndarray, dtype: str, turn: Turn | None) -> tuple[int, np.ndarray] | None:
        """The number of the step that a plane (n, D) has been rounded to, and its integers (D, n); None for none."""
        columns = np.ascontiguousarray(rows.T)
        back = _back(columns, turn, np.float32)  # near enough to tell integers of 16 bits apart
        nearest = self._number(back)
        if nearest is None:
            return None
        sample = slice(0, len(rows), max(len(rows) // _TRIED, 1))
        picked, tried = None if turn is None else turn.at(sample), back[:, sample]
        words = from_f32(columns, dtype)
        wanted = words[:, sample]
        for number in range(nearest + _NEAR, nearest - _NEAR - 1, -1):
            if number // 2 not in _EXPONENTS:
                continue
            few = from_f32(_values(np.rint(tried / np.float32(_size(number))), number, picked), dtype)
            if not np.array_equal(few, wanted):
                continue
            codes = np.rint(back / np.float32(_size(number)))
            found = from_f32(_values(codes, number, turn), dtype)
            if np.array_equal(found, words) and float(np.abs(codes).max(initial=0)) <= LARGEST:
                return number, codes.astype(np.int32)
        return None

    def unpack(self, data: bytes, shape: tuple[int, int, int], dtype: str, where: Where) -> np.ndarray:
        """The values; ValueError where these are not such bytes."""
        T, P, D = shape
        kept, size = kept_tokens(T, where), layout.DTYPES[dtype]
        n, at = T - kept, 3 * P + 2 * kept * P * D
        if len(data) < at:
            raise ValueError(f"{len(data)} bytes, expected {at} or more")
        exponents = np.frombuffer(data, "<i2", P).astype(np.int64)
        factors = np.frombuffer(data, np.uint8, P, 2 * P)
        coded = np.flatnonzero(factors)
        if not np.isin(factors, (_PLAIN, *_FACTORS)).all() or not np.isin(exponents, _EXPONENTS).all():
            raise ValueError("a step that is none")
        out = np.empty((P, T, D), np.float32).transpose(1, 0, 2)  # as sections have them: planes first
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
        columns, middle, place = _columns(data[at:], len(coded) * D, n)
        turn = turn_of(where, T, D, kept)
        for number, plane in enumerate(coded):
            step = 2 * int(exponents[plane]) + (int(factors[plane]) - _FACTORS[0])
            own = slice(number * D, (number + 1) * D)
            codes = columns[place[own]].astype(np.float64 if turn else np.float32) + middle[own, None]
            with np.errstate(over="ignore"):
                out[kept:, plane] = _values(codes, step, turn).T
        return out


class _Channels:
    """Integers of channels, as a block has them behind its planes."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self._middles: list[np.ndarray] = []
        self._spreads: list[np.ndarray] = []
        self._most = 0

    def add(self, columns: np.ndarray) -> None:
        """Integers (channels, n) int32 of a plane, which are counted from their middles here."""
        middle = middles(columns)
        columns -= middle[:, None]
        sizes = np.abs(columns)
        self._most = max(self._most, int(sizes.max(initial=0)), int(np.abs(middle).max()))
        # Logarithms of the mean size, 8 to an octave.
        spreads = np.rint(8 * np.log2(1 + 16 * sizes.mean(axis=1))).clip(0, 255).astype(np.uint8)
        self._parts.append(columns.astype(np.int16))
        self._middles.append(middle)
        self._spreads.append(spreads)

    def packed(self) -> bytes | None:
        """Middles and spreads, then the integers by their spread; None where one is too large."""
        if not self._parts:
            return b""
        if self._most > LARGEST:
            return None
        spreads, columns = np.concatenate(self._spreads), np.concatenate(self._parts)
        columns = columns[np.argsort(spreads, kind="stable")]
        width = 1 if int(columns.min(initial=0)) > -128 and int(columns.max(initial=0)) <= 127 else 2
        facts = entropy_coded(byte_planes(np.concatenate(self._middles)[None], 2) + spreads.tobytes())
        return _HEAD.pack(width, len(facts)) + facts + entropy_coded(byte_planes(columns, width))


def _columns(data: bytes, channels: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integers (channels, n) as they are stored; for each channel its middle, and where it stands there."""
    if len(data) < _HEAD.size:
        raise ValueError(f"{len(data)} bytes of {channels} channels")
    width, length = _HEAD.unpack_from(data)
    if width not in (1, 2) or length > len(data) - _HEAD.size:
        raise ValueError(f"integers of {width} bytes behind {length}")
    end = _HEAD.size + length
    facts = decompressed(data[_HEAD.size : end], 3 * channels)
    middle = from_byte_planes(facts[: 2 * channels], (1, channels), 2)[0].astype(np.float32)
    place = np.empty(channels, np.intp)
    place[np.argsort(np.frombuffer(facts, np.uint8, channels, 2 * channels), kind="stable")] = np.arange(channels)
    return from_byte_planes(decompressed(data[end:], channels * n * width), (channels, n), width), middle, place


def kept_tokens(tokens: int, where: Where) -> int:
    """How many of the first tokens stay."""
    return min(max(SINKS - where.first, 0), tokens)


def _size(number: int) -> float:
    """The step of a number."""
    return float(np.ldexp(1.0 + 0.5 * (number % 2), number // 2))


def turn_of(where: Where, tokens: int, channels: int, kept: int) -> Turn | None:
    """How the keys of a block are turned; None where they are not, or what is said of it fits no head."""
    if not where.rotary or 2 * len(where.rotary) > channels:
        return None
    return turns(where.rotary, where.first, tokens).at(slice(kept, None))


def _back(columns: np.ndarray, turn: Turn | None, dtype: type[np.floating] = np.float64) -> np.ndarray:
    return columns.astype(dtype, order="C") if turn is None else turned_back(columns, turn, dtype)


def _values(codes: np.ndarray, number: int, turn: Turn | None) -> np.ndarray:
    """Integers times their step, and turned: float32, rounded once; in float32 where that holds the integers."""
    size = _size(number)
    exact = codes * codes.dtype.type(size) if turn is None else turned(codes, turn, size)
    return exact.astype(np.float32) + np.float32(0)  # zeros of one sign, as integers have


def _as_bf16(values: np.ndarray) -> np.ndarray:
    return as_f32(from_f32(values, "bf16"), "bf16")

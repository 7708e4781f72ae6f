"""Keys and values as codes in a basis of the model (see `matrices`), entropy coded.

A constant step in the channels of a head spends as much on what no prediction rests on as on what all of them do. A
basis says both at once: which directions of a head's channels vary together, and how far predictions move with each.
One step for all components of all heads then costs about as much of the predictions for each bit.

Codes and bases are integers, so that a value is the same on every machine: sums of their products are exact, and
rounded where it is said.

Notation: T tokens, P planes (a head of a layer), D channels of a head, n tokens behind those that stay.
"""

from __future__ import annotations

import struct

import numpy as np

from gfcache import layout
from gfcache.codecs.planes import kept_tokens, turn_of
from gfcache.codecs.rotary import BITS, Turn, turned, turned_back
from gfcache.codecs.tokens import Where
from gfcache.codecs.words import as_f32, byte_planes, from_byte_planes, from_f32, middles
from gfcache.codecs.zstd import decompressed, entropy_coded

from .matrices import Matrices

# Largest size of a code. With entries and channels as `matrices` limits them, sums are below 2^30, and turned below
# 2^46: float64 holds them.
MOST = 4095
# Below, float32 holds every integer, and sums of products that stay below are exact in it.
_EXACT_F32 = 1 << 24
_HEAD = struct.Struct("<III")  # lengths of the frames: facts, integers of one byte, integers of two


class InBasis:
    """The `TokenCodec` of codes in a basis.

    Args:
        step: of all codes, in the basis' own unit: with 1, values cost about 3 bits each.
    """

    def __init__(self, step: float) -> None:
        self._step = float(step)  # of an integer, numpy would make a unit of 16 bits

    def rounded(self, block: np.ndarray, dtype: str, like: np.ndarray, where: Where, at: int) -> np.ndarray:
        """Each head to what codes make; the first positions of a document to bf16; what no code reaches stays."""
        here = where.behind(at)
        kept, basis = kept_tokens(len(block), here), _basis(where, block.shape[1:])
        turn = turn_of(here, len(block), block.shape[2], kept)
        out = block.copy()
        found = as_f32(from_f32(block[:kept], "bf16"), "bf16")
        out[:kept] = np.where(np.isfinite(found), found, block[:kept])
        if kept < len(block):
            codes, reached = self._codes(block[kept:], basis, turn, np.float64)
            values = self._values(codes, basis, turn)
            reached &= np.isfinite(as_f32(from_f32(values, dtype), dtype)).all(axis=1)
            np.copyto(out[kept:], values.transpose(2, 0, 1), where=reached.T[:, :, None])
        return out

    def pack(self, block: np.ndarray, dtype: str, where: Where) -> bytes | None:
        """The tokens that stay; facts of channels, and which heads of which tokens are as they are; codes; these."""
        kept, basis = kept_tokens(len(block), where), _basis(where, block.shape[1:])
        turn, rows = turn_of(where, len(block), block.shape[2], kept), block[kept:]
        sinks = from_f32(block[:kept], "bf16")
        if as_f32(sinks, "bf16").tobytes() != np.ascontiguousarray(block[:kept]).tobytes():
            return None
        if not len(rows):
            return sinks.tobytes()
        codes, reached = self._codes(rows, basis, turn, np.float32)
        words = np.ascontiguousarray(from_f32(rows, dtype).transpose(1, 2, 0))
        reached &= (from_f32(self._values(codes, basis, turn), dtype) == words).all(axis=1)
        columns = codes.reshape(-1, len(rows)).astype(np.int32)
        middle = middles(columns)
        columns -= middle[:, None]
        columns.reshape(codes.shape).transpose(0, 2, 1)[~reached] = 0
        sizes = np.abs(columns)
        spreads = np.rint(8 * np.log2(1 + 16 * sizes.mean(axis=1))).clip(0, 255).astype(np.uint8)
        wide = sizes.max(axis=1) > 127
        order = np.argsort(spreads, kind="stable")
        facts = byte_planes(middle[None], 2) + spreads.tobytes() + np.packbits(wide).tobytes()
        frames = [entropy_coded(facts + np.packbits(~reached).tobytes())]
        frames += [
            entropy_coded(byte_planes(columns[order[mask]], width)) if mask.any() else b""
            for mask, width in ((~wide[order], 1), (wide[order], 2))
        ]
        plain = words.transpose(0, 2, 1)[~reached]
        return sinks.tobytes() + _HEAD.pack(*map(len, frames)) + b"".join(frames) + plain.tobytes()

    def unpack(self, data: bytes, shape: tuple[int, int, int], dtype: str, where: Where) -> np.ndarray:
        """The values; ValueError where these are not such bytes."""
        T, P, D = shape
        kept, basis = kept_tokens(T, where), _basis(where, (P, D))
        n, at = T - kept, 2 * kept * P * D
        if len(data) < at + (_HEAD.size if n else 0):
            raise ValueError(f"{len(data)} bytes, expected {at} or more")
        out = np.empty((P, T, D), np.float32).transpose(1, 0, 2)  # as sections have them: planes first
        out[:kept] = as_f32(np.frombuffer(data, "<u2", kept * P * D).reshape(kept, P, D), "bf16")
        if not n:
            if at != len(data):
                raise ValueError(f"{len(data) - at} bytes behind the first tokens")
            return out
        codes, stays, rest = _columns(data[at:], (P, D, n))
        turn = turn_of(where, T, D, kept)
        values = self._values(codes, basis, turn)
        out[kept:] = values.transpose(2, 0, 1)
        size = int(stays.sum()) * D * layout.DTYPES[dtype]
        if len(rest) != size:
            raise ValueError(f"{len(rest)} bytes of values as they are, expected {size}")
        if size:
            plain = as_f32(np.frombuffer(rest, layout.NUMPY_DTYPES[dtype]).reshape(-1, D), dtype)
            out.transpose(1, 0, 2)[:, kept:][stays] = plain
        return out

    def _codes(
        self, rows: np.ndarray, basis: Matrices, turn: Turn | None, dtype: type[np.floating]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nearest codes (P, D, n) of rows (n, P, D), and what they reach of it (P, n)."""
        columns = np.ascontiguousarray(rows.transpose(1, 2, 0), dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            if turn is not None:
                for plane in columns:
                    plane[:] = turned_back(plane, turn, dtype)
            codes = np.rint(np.matmul((basis.inverse / self._step).astype(dtype), columns))
            reached = (np.abs(codes) <= MOST).all(axis=1)
        codes.transpose(0, 2, 1)[~reached] = 0
        return codes, reached

    def _values(self, codes: np.ndarray, basis: Matrices, turn: Turn | None) -> np.ndarray:
        """What codes (P, D, n) make, float32: exact sums, times their unit in float64, rounded to float32."""
        few = float(np.abs(codes).max(initial=0)) * basis.longest.max(initial=0) < _EXACT_F32
        dtype = np.float32 if few else np.float64
        sums = np.matmul(basis.nearly if few else basis.exact, codes.astype(dtype, copy=False))
        out = np.empty(codes.shape, np.float32)
        units = np.ldexp(self._step, basis.exponents.astype(int))
        with np.errstate(over="ignore", under="ignore"):
            for plane, unit in enumerate(units):
                if turn is None:
                    out[plane] = sums[plane].astype(np.float64) * unit
                else:
                    out[plane] = turned(sums[plane], turn, float(1 << BITS)) * (unit / (1 << BITS))
        return out + np.float32(0)  # zeros of one sign, as integers have


def _basis(where: Where, planes: tuple[int, ...]) -> Matrices:
    if where.basis is None or where.basis.integers.shape[:2] != tuple(planes):
        raise ValueError(f"no basis of {planes[0]} heads of {planes[1]} channels")
    return where.basis


def _columns(data: bytes, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Codes (P, D, n) float32 as they are stored; what stays as it is (P, n) bool; the bytes behind them."""
    P, D, n = shape
    channels = P * D
    lengths = _HEAD.unpack_from(data)
    ends = np.cumsum((_HEAD.size, *lengths)).tolist()
    if ends[-1] > len(data):
        raise ValueError(f"frames of {lengths} bytes in {len(data)}")
    flags = -(-channels // 8)
    facts = decompressed(data[ends[0] : ends[1]], 3 * channels + flags + -(-P * n // 8))
    middle = from_byte_planes(facts[: 2 * channels], (1, channels), 2)[0]
    spreads = np.frombuffer(facts, np.uint8, channels, 2 * channels)
    wide = np.unpackbits(np.frombuffer(facts, np.uint8, flags, 3 * channels), count=channels).astype(bool)
    stays = np.unpackbits(np.frombuffer(facts, np.uint8, -1, 3 * channels + flags), count=P * n).astype(bool)
    order = np.argsort(spreads, kind="stable")
    codes = np.empty((channels, n), np.float32)
    for width, mask, start, end in ((1, ~wide, ends[1], ends[2]), (2, wide, ends[2], ends[3])):
        own, frame = order[mask[order]], data[start:end]
        if len(own):
            codes[own] = from_byte_planes(decompressed(frame, width * len(own) * n), (len(own), n), width)
        elif frame:
            raise ValueError(f"{len(frame)} bytes of integers of no channel")
    codes += middle[:, None].astype(np.float32)
    if float(np.abs(codes).max(initial=0)) > MOST:
        raise ValueError(f"a code beyond {MOST}")
    return codes.reshape(shape), stays.reshape(P, n), data[ends[3] :]

"""Published codecs of keys and values, for comparison: minimum and scale for each group, as float16.

KIVI (arXiv 2402.02750): groups of 32 tokens within a channel; of the last tokens, those that do not fill 128 stay as
they are. FlexGen (arXiv 2303.06865, in the groups of arXiv 2407.01527): groups of 32 channels within a token; the last
is filled with zeros, which take part in its minimum and maximum, or is a short one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gfcache import layout

from .base import RowCodec
from .casts import ROWS
from .tokens import Where
from .words import as_f32, from_f32

GROUP = 32
RESIDUAL_ROWS = 128


def _fitted(groups: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minimum, scale and codes of groups (..., values); the first two as float16 (..., 1)."""
    least, most = groups.min(axis=-1, keepdims=True), groups.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # beyond float16: infinite, so that the group is left as it is
        least16 = least.astype(np.float16)
        scale16 = ((most - least16.astype(np.float32)) / (2**bits - 1)).astype(np.float16)
    scale = scale16.astype(np.float32)
    usable = (scale > 0) & np.isfinite(scale) & np.isfinite(least16)
    offset = groups - least16.astype(np.float32)
    codes = np.rint(np.divide(offset, scale, out=np.zeros_like(offset), where=usable))
    return least16, scale16, codes.clip(0, 2**bits - 1).astype(np.uint8)


def _values(least: np.ndarray, scale: np.ndarray, codes: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return codes * scale.astype(np.float32) + least.astype(np.float32)


def _packed_bits(codes: np.ndarray, bits: int) -> bytes:
    """Codes in reading order, the first in the highest bits of its byte."""
    per_byte = 8 // bits
    flat = np.pad(codes.reshape(-1), (0, -codes.size % per_byte)).reshape(-1, per_byte)
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return np.bitwise_or.reduce(flat << shifts, axis=1).astype(np.uint8).tobytes()


def _unpacked_bits(data: bytes, count: int, bits: int) -> np.ndarray:
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    return ((np.frombuffer(data, np.uint8)[:, None] >> shifts) & (2**bits - 1)).reshape(-1)[:count]


class _Groups:
    """Both methods: which rows are grouped, and how."""

    kinds = ROWS

    def __init__(self, name: str, bits: int) -> None:
        self.name, self._bits = name, bits

    def _coded_rows(self, n: int) -> int:
        raise NotImplementedError

    def _grouped(self, rows: np.ndarray) -> list[np.ndarray]:
        """The groups (..., values) of rows; of FlexGen's, the short last ones apart."""
        raise NotImplementedError

    def _joined(self, groups: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        raise NotImplementedError

    def rounded(self, rows: np.ndarray, dtype: str, like: np.ndarray | None) -> np.ndarray:
        """Each group to its codes; rows that are left alone, and groups beyond float16, stay."""
        coded = self._coded_rows(len(rows))
        if not coded:
            return rows
        groups = [_values(*_fitted(part, self._bits)) for part in self._grouped(rows[:coded])]
        whole = self._joined(groups, (coded, rows.shape[1]))
        return np.concatenate([np.where(np.isfinite(whole), whole, rows[:coded]), rows[coded:]])

    def pack(self, rows: np.ndarray, dtype: str) -> bytes | None:
        """For each kind of group minima, scales and codes; then the rows that are left alone, as float32."""
        coded = self._coded_rows(len(rows))
        out = b""
        for part in self._grouped(rows[:coded]):
            least, scale, codes = _fitted(part, self._bits)
            out += least.tobytes() + scale.tobytes() + _packed_bits(codes, self._bits)
        return out + rows[coded:].astype("<f4").tobytes()

    def unpack(self, data: bytes, shape: tuple[int, int], dtype: str) -> np.ndarray:
        """The values; ValueError where these are not such bytes."""
        n, width = shape
        coded = self._coded_rows(n)
        at, groups = 0, []
        for like in self._grouped(np.zeros((coded, width), np.float32)):
            count = like.size // like.shape[-1] if like.size else 0
            sizes = (2 * count, 2 * count, -(-like.size * self._bits // 8))
            if len(data) < at + sum(sizes):
                raise ValueError(f"{len(data)} bytes of {n} x {width} values")
            least, scale = (
                np.frombuffer(data, "<f2", count, at + i * sizes[0]).reshape(*like.shape[:-1], 1) for i in (0, 1)
            )
            at += sizes[0] + sizes[1]
            codes = _unpacked_bits(data[at : at + sizes[2]], like.size, self._bits).reshape(like.shape)
            at += sizes[2]
            groups.append(_values(least, scale, codes))
        rest = (n - coded) * width
        if len(data) != at + 4 * rest:
            raise ValueError(f"{len(data)} bytes, expected {at + 4 * rest}")
        whole = self._joined(groups, (coded, width))
        return np.concatenate([whole, np.frombuffer(data, "<f4", rest, at).reshape(-1, width)])


class Kivi(_Groups):
    """KIVI's keys, of 4 or 2 bits. Blocks begin at multiples of 128 tokens, so chunks and whole group alike."""

    def _coded_rows(self, n: int) -> int:
        return n // RESIDUAL_ROWS * RESIDUAL_ROWS

    def _grouped(self, rows: np.ndarray) -> list[np.ndarray]:
        return [rows.reshape(-1, GROUP, rows.shape[1]).transpose(0, 2, 1)]

    def _joined(self, groups: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        return groups[0].transpose(0, 2, 1).reshape(shape)


class FlexGen(_Groups):
    """FlexGen's 4 bits.

    Args:
        padded: fill the last group with zeros, as published.
    """

    def __init__(self, name: str, bits: int, *, padded: bool) -> None:
        super().__init__(name, bits)
        self._padded = padded

    def _coded_rows(self, n: int) -> int:
        return n

    def _grouped(self, rows: np.ndarray) -> list[np.ndarray]:
        n, width = rows.shape
        if self._padded:
            return [np.pad(rows, ((0, 0), (0, -width % GROUP))).reshape(n, -1, GROUP)]
        full = width // GROUP * GROUP
        parts = [rows[:, :full].reshape(n, -1, GROUP), rows[:, None, full:]]
        return [part for part in parts if part.shape[1] and part.shape[2]]

    def _joined(self, groups: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
        return np.concatenate([part.reshape(shape[0], -1) for part in groups], axis=1)[:, : shape[1]]


class OfTokens:
    """The `TokenCodec` of a `RowCodec`.

    Args:
        codec: of the rows.
        by_head: a row is what one head has of a token; else what all have.
        left: how many of the last tokens of a block stay as they are, as float16.
    """

    def __init__(self, codec: RowCodec, *, by_head: bool, left: Callable[[int], int] = lambda tokens: 0) -> None:
        self._codec, self._by_head, self._left = codec, by_head, left

    def _shape(self, tokens: int, shape: tuple[int, ...]) -> tuple[int, int]:
        return (tokens * shape[1], shape[2]) if self._by_head else (tokens, shape[1] * shape[2])

    def rounded(self, block: np.ndarray, dtype: str, like: np.ndarray, where: Where, at: int) -> np.ndarray:
        """As the codec does; the last tokens to float16, where it holds them."""
        coded = len(block) - self._left(len(block))
        out = as_f32(from_f32(block, "f16"), "f16")
        if coded:
            rows = block[:coded].reshape(self._shape(coded, block.shape))
            out[:coded] = self._codec.rounded(rows, dtype, None).reshape(coded, *block.shape[1:])
        return np.where(np.isfinite(out), out, block)

    def pack(self, block: np.ndarray, dtype: str, where: Where) -> bytes | None:
        """What the codec makes of the first tokens, then the last ones as float16."""
        coded = len(block) - self._left(len(block))
        packed = self._codec.pack(block[:coded].reshape(self._shape(coded, block.shape)), dtype) if coded else b""
        return None if packed is None else packed + from_f32(block[coded:], "f16").tobytes()

    def unpack(self, data: bytes, shape: tuple[int, int, int], dtype: str, where: Where) -> np.ndarray:
        """The values; ValueError where these are not such bytes."""
        left = self._left(shape[0])
        coded, rest = shape[0] - left, 2 * left * shape[1] * shape[2]
        if len(data) < rest:
            raise ValueError(f"{len(data)} bytes, expected {rest} or more")
        end = len(data) - rest
        if not coded and end:
            raise ValueError(f"{end} bytes of no tokens")
        last = as_f32(np.frombuffer(data[end:], "<f2").reshape(left, *shape[1:]), "f16")
        if not coded:
            return last
        first = self._codec.unpack(data[:end], self._shape(coded, shape), dtype).reshape(coded, *shape[1:])
        return np.concatenate([first, last])


def beyond_groups(tokens: int) -> int:
    """Of KIVI's keys: what does not fill a residual, and waits for it."""
    return tokens % RESIDUAL_ROWS


def latest(tokens: int) -> int:
    """Of KIVI's values: the last residual of a document. A full block is one that others follow, most often."""
    return min(RESIDUAL_ROWS, tokens) if tokens < layout.DIGEST_ROWS else 0

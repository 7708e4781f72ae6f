"""Sections of keys and values, as codecs see them: blocks of tokens, in each of them all layers and heads.

A section of keys or values holds its tokens behind layers and heads. Codecs see it the other way round: all that one
token has, so that a block of tokens decodes alone whatever stands before and behind it.

Notation: T tokens, P planes (a head of a layer), D channels of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from gfcache import layout

from .basis.matrices import Matrices
from .blocks import joined_blocks, split_blocks
from .words import as_f32, from_f32

KEYS, VALUES = "keys", "values"
# Which of them the sections of a kind hold.
PARTS = {layout.KV_KEYS: (KEYS,), layout.KV_VALUES: (VALUES,), layout.ATTENTION_KV: (KEYS, VALUES)}
KINDS = frozenset(PARTS)


class Where(NamedTuple):
    """What a codec must know of a section besides its values.

    Attributes:
        kind: of the section.
        first: position of its first token.
        head_dim: D of an attention_kv section, whose heads stand beside each other.
        rotary: angle for each position, by pair of channels (c, c + pairs) of a head, by which keys have been rotated;
            none where they have not, or where nobody knows.
        basis: of the heads of the section, for codecs that need one.
    """

    kind: str = layout.COMPRESSED_K
    first: int = 0
    head_dim: int = 0
    rotary: tuple[float, ...] = ()
    basis: Matrices | None = None

    def behind(self, tokens: int) -> Where:
        """The same so many tokens later."""
        return self._replace(first=self.first + tokens)


class TokenCodec(Protocol):
    """How keys or values are rounded, and stored once they are. Blocks are (T, P, D) float32."""

    def rounded(self, block: np.ndarray, dtype: str, like: np.ndarray, where: Where, at: int) -> np.ndarray:
        """The values that `pack` can store.

        Args:
            dtype: of the section that they go into.
            like: the first block of the section.
            where: of the section.
            at: tokens of the section before the block.
        """
        ...

    def pack(self, block: np.ndarray, dtype: str, where: Where) -> bytes | None:
        """The bytes of a rounded block, `where` being that of the block; None where it cannot be stored so."""
        ...

    def unpack(self, data: bytes, shape: tuple[int, int, int], dtype: str, where: Where) -> np.ndarray:
        """Undo `pack`; allocates in proportion to the shape.

        Raises:
            ValueError: these bytes are no block of that shape.
        """
        ...


# The codecs of keys, and of values.
Pair = Mapping[str, TokenCodec]


def rounded(pair: Pair, array: np.ndarray, dtype: str, where: Where) -> np.ndarray:
    """The values that a section of these codecs can hold, in the same dtype and shape (bf16 as 16-bit words)."""
    if not array.size:
        return array
    out, size = [], layout.DIGEST_ROWS
    for name, rows in _parts(array, where):
        blocks = [as_f32(rows[at : at + size], dtype) for at in range(0, len(rows), size)]
        new = [
            # Adding 0 makes zeros of one sign: integers have no other.
            from_f32(pair[name].rounded(block, dtype, blocks[0], where, n * size) + np.float32(0), dtype)
            for n, block in enumerate(blocks)
        ]
        out.append(np.concatenate(new))
    return np.ascontiguousarray(_whole(out, array.shape, where))


def encode(pair: Pair, array: np.ndarray, dtype: str, where: Where) -> bytes:
    """As `blocks.encode`, the blocks of values behind those of keys where a section holds both."""
    found: list[tuple[bytes, bytes | None]] = []
    for name, rows in _parts(array, where):
        for at in range(0, len(rows), layout.DIGEST_ROWS):
            block, there = rows[at : at + layout.DIGEST_ROWS], where.behind(at)
            packed = pair[name].pack(as_f32(block, dtype), dtype, there)
            if packed is not None:
                again = from_f32(pair[name].unpack(packed, _shape(block), dtype, there), dtype)
                packed = packed if np.array_equal(_bits(again), _bits(block)) else None
            found.append((block.tobytes(), packed))
    return joined_blocks(found)


def decode(pair: Pair, stored: bytes, dtype: str, shape: tuple[int, ...], where: Where) -> bytes:
    """Undo `encode`; errors as of `blocks.decode`."""
    if not all(shape):
        raise ValueError("an empty section is never encoded")
    blocks = [
        (name, at, (min(layout.DIGEST_ROWS, T - at), P, D))
        for name, (T, P, D) in _sizes(shape, where)
        for at in range(0, T, layout.DIGEST_ROWS)
    ]
    out: dict[str, list[np.ndarray]] = {}
    for (name, at, size), (data, plain) in zip(blocks, split_blocks(stored, len(blocks)), strict=True):
        if plain:
            if len(data) != size[0] * size[1] * size[2] * layout.DTYPES[dtype]:
                raise ValueError(f"a block of {len(data)} bytes, expected {size} values")
            block = np.frombuffer(data, layout.NUMPY_DTYPES[dtype]).reshape(size)
        else:
            block = from_f32(pair[name].unpack(data, size, dtype, where.behind(at)), dtype)
        out.setdefault(name, []).append(block)
    return _whole([np.concatenate(rows) for rows in out.values()], shape, where).tobytes()


def _bits(values: np.ndarray) -> np.ndarray:
    return values.view(f"u{values.itemsize}")


def _shape(block: np.ndarray) -> tuple[int, int, int]:
    return block.shape[0], block.shape[1], block.shape[2]


def _sizes(shape: tuple[int, ...], where: Where) -> list[tuple[str, tuple[int, int, int]]]:
    """(T, P, D) of keys and values of a section."""
    names = PARTS[where.kind]
    if where.kind == layout.ATTENTION_KV:
        _, T, width = shape
        D = where.head_dim if where.head_dim and width % where.head_dim == 0 else width
        return [(name, (T, width // D, D)) for name in names]
    n, H, T, D = shape
    return [(names[0], (T, n * H, D))]


def _parts(array: np.ndarray, where: Where) -> list[tuple[str, np.ndarray]]:
    """Keys and values of a section as (T, P, D)."""
    parts = array if where.kind == layout.ATTENTION_KV else [array.transpose(2, 0, 1, 3)]
    sizes = _sizes(array.shape, where)
    return [(name, part.reshape(size)) for (name, size), part in zip(sizes, parts, strict=True)]


def _whole(parts: list[np.ndarray], shape: tuple[int, ...], where: Where) -> np.ndarray:
    """The inverse of `_parts`."""
    if where.kind == layout.ATTENTION_KV:
        return np.stack([part.reshape(shape[1:]) for part in parts])
    n, H, T, D = shape
    return parts[0].reshape(T, n, H, D).transpose(1, 2, 0, 3)

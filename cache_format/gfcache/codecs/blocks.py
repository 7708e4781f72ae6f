"""Sections of rounded values: blocks of rows, each of which decodes alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gfcache import layout

from .base import RowCodec
from .words import as_f32, from_f32

# Of a block's length: its values are stored as they are.
PLAIN = 1 << 31


def rounded(codec: RowCodec, array: np.ndarray, dtype: str) -> np.ndarray:
    """The values that a section of this codec can hold, in the same dtype and shape (bf16 as 16-bit words).

    Args:
        array: (..., width), its rows in the order of their tokens.
        dtype: of the section.
    """
    rows = array.reshape(-1, array.shape[-1]) if array.size else array.reshape(0, 1)
    size = layout.DIGEST_ROWS
    blocks = [as_f32(rows[at : at + size], dtype) for at in range(0, len(rows), size)]
    # Adding 0 makes zeros of one sign: integers have no other.
    out = [from_f32(codec.rounded(block, dtype, blocks[0]) + np.float32(0), dtype) for block in blocks]
    return np.concatenate(out).reshape(array.shape) if out else array


def encode(codec: RowCodec, array: np.ndarray, dtype: str) -> bytes:
    """The lengths of the blocks, then these. What does not decode to the very same bits is stored as it is."""
    rows = array.reshape(-1, array.shape[-1])
    found: list[tuple[bytes, bytes | None]] = []
    for at in range(0, len(rows), layout.DIGEST_ROWS):
        block = np.ascontiguousarray(rows[at : at + layout.DIGEST_ROWS])
        plain, packed = block.tobytes(), codec.pack(as_f32(block, dtype), dtype)
        if packed is not None:
            again = from_f32(codec.unpack(packed, (len(block), rows.shape[1]), dtype), dtype)
            packed = packed if again.tobytes() == plain else None
        found.append((plain, packed))
    return joined_blocks(found)


def joined_blocks(blocks: Sequence[tuple[bytes, bytes | None]]) -> bytes:
    """The lengths of blocks, then these: packed, or plain where that is shorter or all there is."""
    kept = [(plain, PLAIN) if packed is None or len(packed) >= len(plain) else (packed, 0) for plain, packed in blocks]
    return np.array([len(data) | flag for data, flag in kept], "<u4").tobytes() + b"".join(data for data, _ in kept)


def split_blocks(stored: bytes, count: int) -> Iterator[tuple[bytes, bool]]:
    """The bytes of each block, and whether they are its values as they are.

    Raises:
        ValueError: these are not so many blocks.
    """
    if len(stored) < 4 * count:
        raise ValueError(f"{len(stored)} bytes, expected the lengths of {count} blocks first")
    at = 4 * count
    for number, length in enumerate(np.frombuffer(stored, "<u4", count).tolist()):
        size = length & ~PLAIN
        data = stored[at : at + size]
        at += size
        if len(data) != size:
            raise ValueError(f"block {number} of {size} bytes, {len(data)} there")
        yield data, bool(length & PLAIN)
    if at != len(stored):
        raise ValueError(f"{len(stored) - at} bytes after the last block")


def decode(codec: RowCodec, stored: bytes, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Undo `encode`; allocates in proportion to the shape, which the table of sections has been checked for.

    Raises:
        ValueError: the stored bytes are no rows of that shape.
    """
    width = shape[-1] if shape else 0
    n = int(np.prod(shape[:-1], dtype=np.int64)) if width else 0
    if not n:
        raise ValueError("an empty section is never encoded")
    out = []
    for number, (data, plain) in enumerate(split_blocks(stored, -(-n // layout.DIGEST_ROWS))):
        rows = min(layout.DIGEST_ROWS, n - number * layout.DIGEST_ROWS)
        if not plain:
            data = from_f32(codec.unpack(data, (rows, width), dtype), dtype).tobytes()
        if len(data) != rows * width * layout.DTYPES[dtype]:
            raise ValueError(f"block {number} of {len(data)} bytes, expected {rows} x {width} values")
        out.append(data)
    return b"".join(out)

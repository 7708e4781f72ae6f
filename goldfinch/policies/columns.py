"""Columns of whole numbers as bytes, and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

_COUNT = struct.Struct("<B")
# Numbers in a column, bytes of each.
_COLUMN = struct.Struct("<IB")
_WIDTHS = (1, 2, 4)


def pack_columns(columns: Sequence[np.ndarray]) -> bytes:
    """Columns of numbers below 2^32, each in the fewest bytes per number that hold its largest."""
    widths = [_width(column) for column in columns]
    head = [_COLUMN.pack(len(column), width) for column, width in zip(columns, widths, strict=True)]
    parts = [column.astype(f"<u{width}").tobytes() for column, width in zip(columns, widths, strict=True)]
    return b"".join((_COUNT.pack(len(columns)), *head, *parts))


def unpack_columns(data: bytes | memoryview, count: int) -> list[np.ndarray]:
    """So many columns, read-only, from bytes, whoever wrote them.

    Raises:
        ValueError: they are not those of `pack_columns`.
    """
    at = _COUNT.size + count * _COLUMN.size
    if len(data) < at or _COUNT.unpack_from(data)[0] != count:
        raise ValueError(f"{len(data)} bytes that do not begin with {count} columns")
    rows = [_COLUMN.unpack_from(data, _COUNT.size + n * _COLUMN.size) for n in range(count)]
    if not {width for _, width in rows} <= set(_WIDTHS) or at + sum(n * width for n, width in rows) != len(data):
        raise ValueError(f"{len(data)} bytes for columns of {rows}")
    columns = []
    for numbers, width in rows:
        columns.append(np.frombuffer(data, f"<u{width}", numbers, at))
        at += numbers * width
    return columns


def _width(column: np.ndarray) -> int:
    most = int(column.max()) if len(column) else 0
    return next(width for width in _WIDTHS if most < 1 << 8 * width)

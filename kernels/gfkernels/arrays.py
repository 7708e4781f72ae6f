"""Rows of either library: torch's tensors, or numpy's arrays, for which torch is never loaded.

The C kernels take addresses, so one implementation serves both. What numpy and torch do under different names stands
here; a result is of the library of what was given. Rows of bfloat16 are torch's alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# dtypes of rows, as the C functions' names begin.
_ROW_TYPES = {"torch.float32": "f32", "torch.bfloat16": "bf16", "float32": "f32"}


class Host:
    """The CPU, as where numpy's arrays lie."""

    type = "cpu"

    def __str__(self) -> str:
        return self.type


HOST = Host()


def is_numpy(rows: object) -> bool:
    """Whether rows are numpy's."""
    return isinstance(rows, np.ndarray)


def row_type(dtype: object) -> str | None:
    """How the names of C functions for rows of a dtype begin, "f32" or "bf16"; None where there are none."""
    return _ROW_TYPES.get(str(dtype))


def count(rows: Any) -> int:
    """Numbers in them."""
    return math.prod(rows.shape)


def address(rows: Any) -> int | None:
    """Where contiguous rows lie in the memory of the CPU; None for None."""
    if rows is None:
        return None
    if isinstance(rows, np.ndarray):
        assert rows.flags.c_contiguous
        return int(rows.ctypes.data)
    assert rows.is_contiguous()
    assert rows.device.type == "cpu"
    return rows.data_ptr()


def contiguous(rows: Any) -> Any:
    """The same, in one piece."""
    return np.ascontiguousarray(rows) if isinstance(rows, np.ndarray) else rows.contiguous()


def copied(rows: Any) -> Any:
    """A copy in one piece."""
    return np.array(rows, order="C") if isinstance(rows, np.ndarray) else rows.contiguous().clone()


def empty(shape: Sequence[int], like: Any, *, f32: bool = False) -> Any:
    """Rows that hold nothing yet, of the dtype of others, or float32."""
    if isinstance(like, np.ndarray):
        return np.empty(shape, np.float32 if f32 else like.dtype)
    return like.new_empty(shape, dtype=_torch().float32) if f32 else like.new_empty(shape)


def zeros(shape: Sequence[int], like: Any, *, f32: bool = False) -> Any:
    """Rows of zeros, of the dtype of others, or float32."""
    rows = empty(shape, like, f32=f32)
    rows[...] = 0
    return rows


def as_f32(rows: Any) -> Any:
    """The same in float32 and in one piece, without gradients."""
    if isinstance(rows, np.ndarray):
        return np.ascontiguousarray(rows, np.float32)
    return rows.detach().to(_torch().float32).contiguous()


def as_rows(rows: Any, like: Any) -> Any:
    """The same in the dtype of others and in one piece."""
    if isinstance(rows, np.ndarray):
        return np.ascontiguousarray(rows, like.dtype)
    return rows.to(like.dtype).contiguous()


def detached(rows: Any) -> Any:
    """The same without gradients."""
    return rows if isinstance(rows, np.ndarray) else rows.detach()


def joined(parts: Sequence[Any], axis: int = 0) -> Any:
    """Parts behind each other."""
    return np.concatenate(parts, axis) if is_numpy(parts[0]) else _torch().cat(list(parts), axis)


def stacked(parts: Sequence[Any]) -> Any:
    """Parts along a new first axis."""
    return np.stack(parts) if is_numpy(parts[0]) else _torch().stack(list(parts))


def indices(places: np.ndarray, like: Any) -> Any:
    """Places (n,) as rows on the CPU of that library are indexed with."""
    places = places.astype(np.int64, copy=False)
    return places if is_numpy(like) else _torch().from_numpy(places)


def places_on(places: np.ndarray, like: Any) -> Any:
    """Places (n,) as rows of that library, where they lie, are indexed with."""
    return places if is_numpy(like) else _torch().from_numpy(places).to(like.device)


def positions(ranges: Sequence[tuple[int, int]], like: Any) -> Any:
    """(n,) int64, the positions in ranges, where the others lie."""
    if is_numpy(like):
        return np.concatenate([np.arange(start, end) for start, end in ranges])
    torch = _torch()
    return torch.cat([torch.arange(start, end, device=like.device) for start, end in ranges])


def pick(rows: Any, places: Any, out: Any) -> None:
    """out = rows[places]: (N, C), (n,), (n, C)."""
    if isinstance(rows, np.ndarray):
        np.take(rows, places, 0, out)
    else:
        _torch().index_select(rows, 0, places, out=out)


def records_gradients(rows: Any) -> bool:
    """Whether what is computed with rows is noted for gradients."""
    return False if isinstance(rows, np.ndarray) else bool(_torch().is_grad_enabled())


def _torch() -> Any:
    import torch

    return torch

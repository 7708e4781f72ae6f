"""The codecs that this version knows, by name."""

from __future__ import annotations

import math

import numpy as np

from gfcache import layout

from . import blocks
from .base import Codec, RowCodec
from .casts import Cast
from .groups import FlexGen, Kivi
from .lzma1 import Lzma
from .raw import Raw
from .scaled import ScaledRows
from .step import Step
from .zstd import Zstd, worth_it

RAW, ZSTD, LZMA = Raw(), Zstd(), Lzma()
_LOSSLESS: dict[str, Codec] = {codec.name: codec for codec in (RAW, ZSTD, LZMA)}
_LOSSY: dict[str, RowCodec] = {
    codec.name: codec
    for codec in (
        Cast("bf16"),
        Cast("f16"),
        ScaledRows(8),
        ScaledRows(4),
        Step("step4", 2),
        Step("step3.5", 1.5),
        Step("step3", 1),
        Step("step2.5", 0.5),
        Step("step2", 0),
        Step("step1.5", -0.5),
        Kivi("kivi4", 4),
        Kivi("kivi2", 2),
        FlexGen("flexgen4", 4, padded=False),
        FlexGen("flexgen4padded", 4, padded=True),
    )
}
NAMES = (*_LOSSLESS, *_LOSSY)
# Those that change values.
LOSSY = tuple(_LOSSY)


def serving(kind: str) -> tuple[str, ...]:
    """The lossy codecs that sections of a kind may have."""
    return tuple(name for name, codec in _LOSSY.items() if kind in codec.kinds)


def rounded(array: np.ndarray, dtype: str, wanted: str) -> np.ndarray:
    """The values that a section of codec `wanted` stores exactly, as close to the given ones as it can.

    Args:
        array: the values of one section; bf16 as 16-bit words.
        dtype: as the table names it.
        wanted: a lossless codec leaves them as they are.
    """
    codec = _LOSSY.get(_known(wanted))
    return array if codec is None else blocks.rounded(codec, array, dtype)


def encode(array: np.ndarray, dtype: str, wanted: str) -> tuple[str, bytes | memoryview]:
    """The codec used and the bytes to store, from which the very same values are read: raw where that wins.

    Args:
        array: the values, C order.
        dtype: as the table names it.
        wanted: the codec to try. Of a lossy one, what it has not `rounded` is stored as it is.
    """
    raw = array.data.cast("B") if array.size else memoryview(b"")
    stored: bytes | memoryview | None
    if _known(wanted) in _LOSSLESS:
        stored = _LOSSLESS[wanted].encode(raw)
    else:
        stored = blocks.encode(_LOSSY[wanted], array, dtype) if array.size else None
        if stored is not None and not worth_it(len(stored), len(raw)):
            stored = None
    return (RAW.name, raw) if stored is None else (wanted, stored)


def decode(name: str, stored: bytes, dtype: str, shape: tuple[int, ...]) -> bytes:
    """Undo `encode`.

    Raises:
        ValueError: an unknown codec; the stored bytes do not decode to exactly such an array.
    """
    if _known(name) in _LOSSLESS:
        return _LOSSLESS[name].decode(stored, math.prod(shape) * layout.DTYPES[dtype])
    return blocks.decode(_LOSSY[name], stored, dtype, shape)


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"codec {name!r}, known: {', '.join(NAMES)}")
    return name

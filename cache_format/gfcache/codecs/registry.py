"""The codecs that this version knows, by name."""

from __future__ import annotations

import math

import numpy as np

from gfcache import layout

from . import blocks, tokens
from .base import Codec, Raw, RowCodec
from .basis.codes import InBasis
from .casts import Cast
from .groups import FlexGen, Kivi, OfTokens, beyond_groups, latest
from .ids import Ids
from .lzma1 import Lzma
from .planes import Planes
from .scaled import ScaledRows
from .step import Step
from .tokens import Where
from .zstd import Zstd, worth_it

RAW, ZSTD, LZMA, IDS = Raw(), Zstd(), Lzma(), Ids()
_LOSSLESS: dict[str, Codec] = {codec.name: codec for codec in (RAW, ZSTD, LZMA, IDS)}
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
# Halvings by which the step of keys is finer than that of values: errors of both then cost about as much each bit.
KEYS_FINER = -0.25


def _alike(codec: tokens.TokenCodec) -> tokens.Pair:
    """One codec for keys and for values."""
    return {tokens.KEYS: codec, tokens.VALUES: codec}


# Of keys, and of values.
_OF_TOKENS: dict[str, tokens.Pair] = {
    **{name: _alike(OfTokens(_LOSSY[name], by_head=False)) for name in ("bf16", "f16")},
    **{name: _alike(OfTokens(_LOSSY[name], by_head=True)) for name in ("int8", "int4", "flexgen4", "flexgen4padded")},
    **{
        f"step{h + 2:g}": {tokens.KEYS: Planes(h + KEYS_FINER), tokens.VALUES: Planes(h)}
        for h in (2, 1.5, 1, 0.5, 0, -0.5)
    },
    **{
        f"kivi{bits}": {
            tokens.KEYS: OfTokens(_LOSSY[f"kivi{bits}"], by_head=False, left=beyond_groups),
            tokens.VALUES: OfTokens(FlexGen("values", bits, padded=False), by_head=True, left=latest),
        }
        for bits in (4, 2)
    },
}
# Of keys and values in a basis of the model, by the step in its unit.
_BASED: dict[str, tokens.Pair] = {
    f"basis{bits:g}": _alike(InBasis(step))
    for bits, step in ((4, 0.5), (3.5, 0.75), (3, 1), (2.5, 1.5), (2, 2), (1.5, 3))
}
_OF_TOKENS |= _BASED
# Those that need a basis.
BASED = tuple(_BASED)
NAMES = (*_LOSSLESS, *_LOSSY, *BASED)
# Those that change values.
LOSSY = (*_LOSSY, *BASED)
_ANYWHERE = Where()


def serving(kind: str) -> tuple[str, ...]:
    """The lossy codecs that sections of a kind may have."""
    if kind in tokens.KINDS:
        based = () if kind == layout.ATTENTION_KV else BASED
        return (*(name for name in _LOSSY if name in _OF_TOKENS), *based)
    return tuple(name for name, codec in _LOSSY.items() if kind in codec.kinds)


def rounded(array: np.ndarray, dtype: str, wanted: str, where: Where = _ANYWHERE) -> np.ndarray:
    """The values that a section of codec `wanted` stores exactly, as close to the given ones as it can.

    Args:
        array: the values of one section; bf16 as 16-bit words.
        dtype: as the table names it.
        wanted: a lossless codec leaves them as they are.
        where: of the section.
    """
    if _known(wanted) in _LOSSLESS:
        return array
    if where.kind in tokens.KINDS:
        return tokens.rounded(_OF_TOKENS[wanted], array, dtype, where)
    return blocks.rounded(_of_rows(wanted), array, dtype)


def encode(array: np.ndarray, dtype: str, wanted: str, where: Where = _ANYWHERE) -> tuple[str, bytes | memoryview]:
    """The codec used and the bytes to store, from which the very same values are read: raw where that wins.

    Args:
        array: the values, C order.
        dtype: as the table names it.
        wanted: the codec to try. Of a lossy one, what it has not `rounded` is stored as it is.
        where: of the section.
    """
    raw = array.data.cast("B") if array.size else memoryview(b"")
    stored: bytes | memoryview | None
    if wanted == IDS.name:
        return _encoded_ids(raw, dtype)
    if _known(wanted) in _LOSSLESS:
        stored = _LOSSLESS[wanted].encode(raw)
    else:
        stored = _encoded(array, dtype, wanted, where) if array.size else None
        if stored is not None and not worth_it(len(stored), len(raw)):
            stored = None
    return (RAW.name, raw) if stored is None else (wanted, stored)


def _encoded_ids(raw: memoryview, dtype: str) -> tuple[str, bytes | memoryview]:
    """Token ids in the codec that makes them smallest."""
    found: list[tuple[str, bytes | memoryview]] = [(RAW.name, raw)]
    for codec in (IDS, LZMA) if dtype == "u16" else (LZMA,):
        stored = codec.encode(raw)
        if stored is not None and worth_it(len(stored), len(raw)):
            found.append((codec.name, stored))
    return min(found, key=lambda one: len(one[1]))


def _encoded(array: np.ndarray, dtype: str, wanted: str, where: Where) -> bytes:
    if where.kind in tokens.KINDS:
        return tokens.encode(_OF_TOKENS[wanted], array, dtype, where)
    return blocks.encode(_of_rows(wanted), array, dtype)


def decode(name: str, stored: bytes, dtype: str, shape: tuple[int, ...], where: Where = _ANYWHERE) -> bytes:
    """Undo `encode`.

    Raises:
        ValueError: an unknown codec; the stored bytes do not decode to exactly such an array.
    """
    if _known(name) in _LOSSLESS:
        return _LOSSLESS[name].decode(stored, math.prod(shape) * layout.DTYPES[dtype])
    if where.kind in tokens.KINDS:
        return tokens.decode(_OF_TOKENS[name], stored, dtype, shape, where)
    return blocks.decode(_of_rows(name), stored, dtype, shape)


def _of_rows(name: str) -> RowCodec:
    if name in _BASED:
        raise ValueError(f"codec {name!r} is of keys and values alone")
    return _LOSSY[name]


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"codec {name!r}, known: {', '.join(NAMES)}")
    return name

"""The codecs that this version knows, by name."""

from __future__ import annotations

from .base import Codec
from .raw import Raw
from .zstd import Zstd

RAW, ZSTD = Raw(), Zstd()
_CODECS: dict[str, Codec] = {codec.name: codec for codec in (RAW, ZSTD)}
NAMES = tuple(_CODECS)


def codec(name: str) -> Codec:
    """The codec of that name.

    Raises:
        ValueError: none has it.
    """
    try:
        return _CODECS[name]
    except KeyError:
        raise ValueError(f"codec {name!r}, known: {', '.join(NAMES)}") from None


def encode(raw: bytes | memoryview, wanted: str) -> tuple[str, bytes | memoryview]:
    """The codec used and the bytes to store: raw where the one that is wanted does not win."""
    stored = codec(wanted).encode(raw)
    return (RAW.name, raw) if stored is None else (wanted, stored)


def decode(name: str, stored: bytes, raw_bytes: int) -> bytes:
    """Undo `encode`.

    Raises:
        ValueError: an unknown codec; the stored bytes do not decode to exactly raw_bytes.
    """
    return codec(name).decode(stored, raw_bytes)

"""What a codec is. A new one is a file beside this one and a line in registry.py.

Two kinds: of bytes (lossless, for any section), and of rows (lossy, for values that may be rounded). A section is
always stored exactly as it was given: who wants to lose something rounds the values first (`RowCodec.rounded`), and
what does not decode to the very same bits is stored as it is.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Codec(Protocol):
    """How the bytes of a section are stored.

    Attributes:
        name: in the table of sections.
    """

    name: str

    def encode(self, raw: bytes | memoryview) -> bytes | memoryview | None:
        """The bytes to store; None where the section is better stored raw."""
        ...

    def decode(self, stored: bytes, raw_bytes: int) -> bytes:
        """Undo `encode`; never allocates more than raw_bytes.

        Raises:
            ValueError: the stored bytes do not decode to exactly raw_bytes.
        """
        ...


class RowCodec(Protocol):
    """How rows of values are rounded, and stored once they are. Rows are (n, width) float32.

    Attributes:
        name: in the table of sections.
        kinds: of sections that it may serve.
    """

    name: str
    kinds: frozenset[str]

    def rounded(self, rows: np.ndarray, dtype: str, like: np.ndarray | None) -> np.ndarray:
        """The values that `pack` can store, one block of rows at a time.

        Args:
            rows: of one block.
            dtype: of the section that they go into.
            like: the first rows of the section, which the scale of all of it may follow from.
        """
        ...

    def pack(self, rows: np.ndarray, dtype: str) -> bytes | None:
        """The bytes of a block of rounded rows; None where they cannot be stored so."""
        ...

    def unpack(self, data: bytes, shape: tuple[int, int], dtype: str) -> np.ndarray:
        """Undo `pack`; allocates in proportion to the shape.

        Raises:
            ValueError: these bytes are no rows of that shape.
        """
        ...


class Raw:
    """The `Codec` that changes nothing: what it stores can be mapped as it is."""

    name = "raw"

    def encode(self, raw: bytes | memoryview) -> bytes | memoryview | None:
        """The same bytes."""
        return raw

    def decode(self, stored: bytes, raw_bytes: int) -> bytes:
        """The same bytes; ValueError where they are not raw_bytes."""
        if len(stored) != raw_bytes:
            raise ValueError(f"{len(stored)} bytes stored for {raw_bytes}")
        return stored

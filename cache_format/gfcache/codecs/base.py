"""What a codec is. A new one is a file beside this one and a line in registry.py."""

from __future__ import annotations

from typing import Protocol


class Codec(Protocol):
    """How the bytes of a section are stored.

    Attributes:
        name: in the table of sections.
        lossy: decoding gives other values than were encoded.
        kinds: of sections that it may serve; None for all.
    """

    name: str
    lossy: bool
    kinds: frozenset[str] | None

    def encode(self, raw: bytes | memoryview) -> bytes | memoryview | None:
        """The bytes to store; None where the section is better stored raw."""
        ...

    def decode(self, stored: bytes, raw_bytes: int) -> bytes:
        """Undo `encode`; never allocates more than raw_bytes.

        Raises:
            ValueError: the stored bytes do not decode to exactly raw_bytes.
        """
        ...

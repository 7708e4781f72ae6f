"""Bytes as they are."""

from __future__ import annotations


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

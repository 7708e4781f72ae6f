"""Token ids in a raw LZMA stream, whose coder knows that they are 16-bit words."""

from __future__ import annotations

import lzma

from .zstd import worth_it

# A decoder allocates no more than this for what it has seen, whatever the stream says.
DICTIONARY_BYTES = 1 << 20
# lc 0, lp 1, pb 1: a byte is predicted from its place in the word, not from the byte before it.
_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 6, "lc": 0, "lp": 1, "pb": 1, "dict_size": DICTIONARY_BYTES}]


class Lzma:
    """The `Codec` of token ids: raw LZMA1 with fixed parameters and an end marker."""

    name = "lzma"

    def encode(self, raw: bytes | memoryview) -> bytes | memoryview | None:
        """A stream; None where it saves too little, or so much that a reader would take it for a bomb (R11)."""
        if not len(raw):
            return None
        packed = lzma.compress(raw, lzma.FORMAT_RAW, filters=_FILTERS)
        return packed if worth_it(len(packed), len(raw)) else None

    def decode(self, stored: bytes, raw_bytes: int) -> bytes:
        """The content; ValueError where it is not exactly one stream of raw_bytes."""
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
        try:
            found = decoder.decompress(stored, max_length=raw_bytes)
            # The end marker follows the last byte, and nothing follows the end marker.
            extra = b"" if decoder.eof else decoder.decompress(b"", max_length=1)
        except (lzma.LZMAError, EOFError) as error:
            raise ValueError(str(error) or "no LZMA stream") from error
        if len(found) != raw_bytes or extra or not decoder.eof or decoder.unused_data:
            raise ValueError(f"{len(found)} bytes decoded, expected {raw_bytes} and the end")
        return found

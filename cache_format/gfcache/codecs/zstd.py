"""Compression with zstandard."""

from __future__ import annotations

from gfcache import layout

LEVEL = 3
# Compression must save at least this share, or the section stays raw (SPEC W3).
MIN_SAVING = 0.03


class Zstd:
    """The `Codec` that compresses with zstandard; one frame, which declares its size."""

    name = "zstd"
    lossy = False
    kinds: frozenset[str] | None = None

    def encode(self, raw: bytes | memoryview) -> bytes | memoryview | None:
        """A frame; None where it saves too little, or so much that a reader would take it for a bomb (R11)."""
        if not len(raw):
            return None
        import zstandard

        packed = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(raw)
        readable = len(raw) <= layout.MAX_EXPANSION * len(packed) + layout.EXPANSION_SLACK_BYTES
        return packed if readable and len(packed) <= len(raw) * (1 - MIN_SAVING) else None

    def decode(self, stored: bytes, raw_bytes: int) -> bytes:
        """The content of the frame; ValueError where it is not exactly one frame of raw_bytes."""
        import zstandard

        if raw_bytes == 0:
            raise ValueError("an empty section is never compressed")
        try:
            parameters = zstandard.get_frame_parameters(stored)
            if parameters.content_size != raw_bytes:
                raise ValueError(f"the frame declares {parameters.content_size} bytes, the table {raw_bytes}")
            return zstandard.ZstdDecompressor().decompress(stored, max_output_size=raw_bytes, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error

"""Compression with zstandard."""

from __future__ import annotations

from gfcache import layout

LEVEL = 3
# Compression must save at least this share, or the section stays raw (SPEC W3).
MIN_SAVING = 0.03
# Bits per byte of a code of frequencies alone below which repetitions are worth searching for.
_SEARCHED_BITS = 2.5


def worth_it(stored_bytes: int, raw_bytes: int) -> bool:
    """Whether a section is better stored compressed: it saves enough, and no reader takes it for a bomb (R11)."""
    readable = raw_bytes <= layout.MAX_EXPANSION * stored_bytes + layout.EXPANSION_SLACK_BYTES
    return readable and stored_bytes <= raw_bytes * (1 - MIN_SAVING)


class Zstd:
    """The `Codec` that compresses with zstandard; one frame, which declares its size."""

    name = "zstd"

    def encode(self, raw: bytes | memoryview) -> bytes | memoryview | None:
        """A frame; None where it saves too little, or so much that a reader would take it for a bomb (R11)."""
        if not len(raw):
            return None
        packed = compressed(raw, LEVEL)
        return packed if worth_it(len(packed), len(raw)) else None

    def decode(self, stored: bytes, raw_bytes: int) -> bytes:
        """The content of the frame; ValueError where it is not exactly one frame of raw_bytes."""
        if raw_bytes == 0:
            raise ValueError("an empty section is never compressed")
        return decompressed(stored, raw_bytes)


def compressed(raw: bytes | memoryview, level: int) -> bytes:
    """A frame that declares its size."""
    import zstandard

    return zstandard.ZstdCompressor(level=level, write_content_size=True).compress(raw)


def entropy_coded(raw: bytes | memoryview) -> bytes:
    """A frame of bytes that hardly repeat each other, whose frequencies are all there is to gain.

    What costs the high levels their time is the search for repetitions. Where bytes cost more than `_SEARCHED_BITS`
    each, it gains next to nothing (0.3 % of 3 bits, of int8 nothing), and a code of their frequencies comes over ten
    times as fast. Below, runs of zeros are cheaper as repetitions (by 5 to 8 % at 2 bits): the strategy of level 16,
    with next to no search, is as small there as level 19, several times as fast.
    """
    plain = _frame(raw, "STRATEGY_FAST", 0)
    if 8 * len(plain) >= _SEARCHED_BITS * len(raw):
        return plain
    return min(plain, _frame(raw, "STRATEGY_BTOPT", 8), key=len)


def _frame(raw: bytes | memoryview, strategy: str, target_length: int) -> bytes:
    import zstandard

    parameters = zstandard.ZstdCompressionParameters(
        strategy=getattr(zstandard, strategy),
        window_log=18,
        hash_log=6,
        chain_log=6,
        min_match=7,
        search_log=1,
        target_length=target_length,
        write_content_size=True,
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(raw)


def decompressed(stored: bytes, raw_bytes: int) -> bytes:
    """The content of a frame; ValueError where it is not exactly one frame of raw_bytes."""
    import zstandard

    try:
        parameters = zstandard.get_frame_parameters(stored)
        if parameters.content_size != raw_bytes:
            raise ValueError(f"the frame declares {parameters.content_size} bytes, expected {raw_bytes}")
        return zstandard.ZstdDecompressor().decompress(stored, max_output_size=raw_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error

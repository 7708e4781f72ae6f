"""How a section's bytes are stored: as they are, or compressed with zstandard where that wins; what they may hold."""

from __future__ import annotations

import numpy as np

from gfcache import layout

ZSTD_LEVEL = 3
# Compression must save at least this share, or the section stays raw (and can be mapped as it is).
MIN_SAVING = 0.03


def encode(raw: bytes | memoryview, try_zstd: bool) -> tuple[str, bytes | memoryview]:
    """The codec chosen and the bytes to store."""
    if try_zstd and len(raw):
        import zstandard

        packed = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True).compress(raw)
        # What a reader would refuse as a decompression bomb (rule R11) is stored raw.
        readable = len(raw) <= layout.MAX_EXPANSION * len(packed) + layout.EXPANSION_SLACK_BYTES
        if readable and len(packed) <= len(raw) * (1 - MIN_SAVING):
            return "zstd", packed
    return "raw", raw


def decode(codec: str, stored: bytes, raw_bytes: int) -> bytes:
    """Undo `encode`; never allocates more than raw_bytes.

    Raises:
        ValueError: the stored bytes do not decode to exactly raw_bytes.
    """
    if codec == "raw":
        if len(stored) != raw_bytes:
            raise ValueError(f"{len(stored)} bytes stored for {raw_bytes}")
        return stored
    if codec != "zstd":
        raise ValueError(f"codec {codec!r}, known: {', '.join(layout.CODECS)}")
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


def all_finite(array: np.ndarray, dtype: str) -> bool:
    """Whether an array holds no NaN or infinity (rule R16); bf16 as 16-bit words."""
    if dtype == "bf16":  # the exponent bits of NaN and infinity are all ones
        return not bool(((array & 0x7F80) == 0x7F80).any())
    return dtype not in layout.FLOAT_DTYPES or bool(np.isfinite(array).all())

"""Codecs: known by name, raw where they do not win, and as SPEC lists them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from gfcache import layout
from gfcache.codecs import registry

SPEC = Path(__file__).parents[3] / "cache_format" / "SPEC.md"
NOISE = np.random.default_rng(0).bytes(10_000)
LOSSLESS = tuple(name for name in registry.NAMES if name not in registry.LOSSY)


def test_spec_lists_these_codecs() -> None:
    text = SPEC.read_text()
    row = re.search(r"^\| codec \| (.*?) \|", text, re.MULTILINE)
    assert row is not None
    later = re.findall(r"^\| (`.*?`) \|", text.partition("### Codecs")[2].partition("### Models")[0], re.MULTILINE)
    assert tuple(re.findall(r"`([\w.]+)`", " ".join([row[1], *later]))) == registry.NAMES


def bytes_of(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, np.uint8)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize(
    "raw", [b"", b"a", b"ab" * 5000, bytes(100_000), NOISE], ids=["none", "one", "two", "0", "any"]
)
def test_what_is_encoded_is_decoded(name: str, raw: bytes) -> None:
    chosen, stored = registry.encode(bytes_of(raw), "u8", name)
    assert registry.decode(chosen, bytes(stored), "u8", (len(raw),)) == raw
    assert len(stored) <= len(raw)
    with pytest.raises(ValueError, match="bytes"):
        registry.decode(chosen, bytes(stored), "u8", (len(raw) + 1,))


@pytest.mark.parametrize("name", ["zstd", "lzma"])
def test_compression_that_saves_too_little_or_too_much_is_not_used(name: str) -> None:
    assert registry.encode(bytes_of(NOISE), "u8", name)[0] == "raw"
    assert registry.encode(bytes_of(b"ab" * 5000), "u8", name)[0] == name
    zeros = np.zeros(32 << 20, np.uint8)  # in some thousand bytes: a reader would take it for a bomb (R11)
    assert registry.encode(zeros, "u8", name)[0] == "raw"
    assert len(registry.encode(zeros[: layout.EXPANSION_SLACK_BYTES], "u8", name)[1]) < 1000


def test_only_known_codecs_are_decoded() -> None:
    import zstandard

    with pytest.raises(ValueError, match="'lz4', known: raw, zstd"):
        registry.decode("lz4", zstandard.compress(b"abc"), "u8", (3,))


@pytest.mark.parametrize("change", [lambda s: s[:-1], lambda s: s + b"\0", lambda s: s[:9] + b"\xff" + s[10:]])
def test_a_damaged_lzma_stream_is_told(change: object) -> None:
    ids = np.random.default_rng(0).integers(0, 50, 3000).astype("<u2")
    name, stored = registry.encode(ids, "u16", "lzma")
    assert name == "lzma"
    assert registry.decode(name, bytes(stored), "u16", ids.shape) == ids.tobytes()
    assert callable(change)
    try:
        again = registry.decode(name, change(bytes(stored)), "u16", ids.shape)
    except ValueError:
        return
    assert again != ids.tobytes()  # a changed byte may be another stream; the checksum of the section finds it

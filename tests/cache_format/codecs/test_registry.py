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


def test_spec_lists_these_codecs() -> None:
    row = re.search(r"^\| codec \| (.*?) \|", SPEC.read_text(), re.MULTILINE)
    assert row is not None
    assert tuple(re.findall(r"`(\w+)`", row[1])) == registry.NAMES


@pytest.mark.parametrize("name", registry.NAMES)
@pytest.mark.parametrize(
    "raw", [b"", b"a", b"ab" * 5000, bytes(100_000), NOISE], ids=["none", "one", "two", "0", "any"]
)
def test_what_is_encoded_is_decoded(name: str, raw: bytes) -> None:
    chosen, stored = registry.encode(raw, name)
    assert registry.decode(chosen, bytes(stored), len(raw)) == raw
    assert len(stored) <= len(raw)
    with pytest.raises(ValueError, match="bytes"):
        registry.decode(chosen, bytes(stored), len(raw) + 1)


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_lossless_codec_says_so(name: str) -> None:
    assert not registry.codec(name).lossy
    assert registry.codec(name).name == name


def test_compression_that_saves_too_little_or_too_much_is_not_used() -> None:
    assert registry.encode(NOISE, "zstd") == ("raw", NOISE)
    assert registry.encode(b"ab" * 5000, "zstd")[0] == "zstd"
    zeros = bytes(8 << 20)  # 8 MiB in some hundred bytes: a reader would take it for a bomb (R11)
    assert registry.encode(zeros, "zstd") == ("raw", zeros)
    assert len(registry.ZSTD.encode(zeros[: layout.EXPANSION_SLACK_BYTES]) or b"") < 1000


def test_only_known_codecs_are_decoded() -> None:
    import zstandard

    with pytest.raises(ValueError, match="'lz4', known: raw, zstd"):
        registry.decode("lz4", zstandard.compress(b"abc"), 3)

"""Token ids in an arithmetic code: what is decoded is what was coded, and nothing else is taken."""

from __future__ import annotations

import numpy as np
import pytest
from gfcache.codecs import registry
from gfcache.codecs.ids import MOST_IDS, Ids

CODEC = Ids()


def drawn(count: int, V: int, seed: int = 0) -> np.ndarray:
    """Ids of which small ones are frequent, as those of tokenizers are, and some pairs go together."""
    rng = np.random.default_rng(seed)
    ids = np.minimum(np.floor(np.exp(rng.uniform(0, np.log(V), count))), V - 1).astype("<u2")
    again = rng.random(count) < 0.3
    ids[1:][again[1:]] = (7 * ids[:-1][again[1:]].astype(np.int64) + 3) % V
    return ids


@pytest.mark.parametrize("count", [1, 2, 3, 100, 2000])
@pytest.mark.parametrize("V", [1, 2, 300, 4096, 32_000, 1 << 16])
def test_what_is_coded_is_decoded(count: int, V: int) -> None:
    for ids in (drawn(count, V), np.zeros(count, "<u2"), np.full(count, V - 1, "<u2")):
        code = CODEC.encode(ids.tobytes())
        if code is None:
            assert count * V > 1 << 26
            continue
        assert CODEC.decode(code, 2 * count) == ids.tobytes()


def test_codes_are_smaller_than_those_of_a_general_compressor() -> None:
    for count in (500, 4000):
        ids = drawn(count, 4096)
        name, stored = registry.encode(ids, "u16", "ids")
        assert name == "ids"
        assert registry.decode(name, bytes(stored), "u16", ids.shape) == ids.tobytes()
        assert len(stored) < 0.97 * len(registry.encode(ids, "u16", "lzma")[1])


def test_the_smallest_code_is_taken() -> None:
    long = np.tile(drawn(300, 4096), 40)
    assert registry.encode(long, "u16", "ids")[0] == "lzma"
    assert registry.encode(long.astype("<u4"), "u32", "ids")[0] == "lzma"
    assert registry.encode(np.arange(2, dtype="<u2"), "u16", "ids")[0] == "raw"
    assert CODEC.encode(bytes(2 * MOST_IDS + 2)) is None
    assert CODEC.encode(b"") is None
    assert CODEC.encode(b"abc") is None


def test_no_other_code_is_taken() -> None:
    ids, rng = drawn(400, 4096), np.random.default_rng(1)
    code = CODEC.encode(ids.tobytes())
    assert code is not None
    larger = (int.from_bytes(code[:4], "little") + 1).to_bytes(4, "little") + code[4:]
    for change in (code[:-1], code + b"\0", code + b"\1", code[:3], b"", larger, b"\0" * 4 + code[4:], b"\xff" * 20):
        with pytest.raises(ValueError, match=r".+"):
            CODEC.decode(change, 800)
    for _ in range(60):
        at = int(rng.integers(len(code)))
        changed = code[:at] + bytes([code[at] ^ int(rng.integers(1, 256))]) + code[at + 1 :]
        try:
            found = CODEC.decode(changed, 800)
        except ValueError:
            continue
        assert found != ids.tobytes()
        assert CODEC.encode(found) == changed
    for claimed in (0, 799, 2 * MOST_IDS + 2, 1 << 40):
        with pytest.raises(ValueError, match="bytes of ids"):
            CODEC.decode(code, claimed)

"""The seed corpus of the fuzz target, and random changes of it, without the fuzzer."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz import fuzz_reader

CORPUS = sorted((Path(__file__).parents[2] / "fuzz" / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.name)
def test_corpus(path: Path) -> None:
    data = path.read_bytes()
    fuzz_reader.test_one_input(data)
    rng = Random(path.name)
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        fuzz_reader.test_one_input(bytes(changed))


def test_repair_reaches_the_rules_behind_the_checksums() -> None:
    """A valid file stays valid, and one with a wrong checksum becomes valid: so mutations get past R5 and R14."""
    import gfcache

    seeds = [p for p in CORPUS if p.name.startswith("valid")]
    assert seeds
    for seed in seeds:
        data = fuzz_reader.repaired(seed.read_bytes()[1:])
        Path(fuzz_reader._PATH).write_bytes(data)
        assert gfcache.verify_cache(fuzz_reader._PATH).tokens > 0


def test_every_kind_of_section_that_gf_writes_and_every_kind_of_codec_is_a_seed() -> None:
    """What no seed holds, the fuzzer hardly finds."""
    import gfcache
    from gfcache import layout
    from gfcache.codecs import registry

    kinds, codecs = set(), set()
    for seed in CORPUS:
        Path(fuzz_reader._PATH).write_bytes(fuzz_reader.repaired(seed.read_bytes()[1:]))
        with gfcache.read_cache(fuzz_reader._PATH) as file:
            kinds |= {section.kind for section in file.header.sections}
            codecs |= {section.codec.rstrip("0123456789.") for section in file.header.sections}
    written = {layout.DOCUMENT_INDEX, layout.ROW_DIGESTS, layout.KV_KEYS, layout.WINDOW_KEYS, layout.LAYER_STATE}
    written |= {layout.BLOCK_KEYS, layout.BLOCK_STATE}
    assert written <= kinds
    assert codecs >= {name.rstrip("0123456789.") for name in registry.NAMES if name not in ("bf16", "f16")}


def test_memory_stays_within_the_stated_bound() -> None:
    """SPEC section 4, for files that claim as much as they may: c * n + constant."""
    import tracemalloc

    for path in CORPUS:
        data = path.read_bytes()
        fuzz_reader.test_one_input(data)  # imports happen before measuring
        tracemalloc.start()
        fuzz_reader.test_one_input(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= fuzz_reader.BOUND_FACTOR * len(data) + fuzz_reader.BOUND_BYTES

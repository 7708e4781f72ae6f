"""Makes the files of tests/golden/v1_1/codecs, as long as 1.1 is a draft: `python -m tests.cache_format.codecs.golden`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import gfcache
import numpy as np
from gfcache import Coding, Header, SectionData, layout
from gfcache.codecs import registry
from gfcache.format.families.transformers import TRANSFORMERS

from tests.cache_format.small_cache import header, sections

FOLDER = Path(__file__).parents[2] / "golden" / "v1_1" / "codecs"


def coding_of(name: str) -> Coding:
    """The rows in one codec, the states in the same where it may serve them."""
    return Coding(name, name if name in registry.serving("wkv_state") else "int4")


def values_in(path: Path) -> dict[str, str]:
    """SHA-256 of the decoded bytes of each section."""
    with gfcache.read_cache(path) as file:
        return {s.name: hashlib.sha256(file.array(s).tobytes()).hexdigest() for s in file.header.sections}


PAIRS = "pairs-"
_LAYER = {"kind": "full", "kv_heads": 2, "head_dim": 8, "value_dim": 8}


def pairs() -> tuple[Header, list[SectionData]]:
    """A cache of a model of others: two layers, 140 tokens."""
    rng, T = np.random.default_rng(0), 140
    config = {"n_layer": 2, "d_model": 16, "vocab_size": 64, "head_dim": 8, "layer_ratio": 1, "compression_ratio": 1}
    model = {
        "name": "m", "model_type": "llama", "config": config, "layers": [_LAYER, _LAYER], "rotary": [1.0, 0.1, 0.01, 0.001],
        "prefill_fingerprint": "a" * 64, "model_fingerprint": "a" * 64,
    }  # fmt: skip
    head = header(
        tokens=T, model=model, tokenizer={"fingerprint": None, "vocab_size": 64}, writer="golden files",
        template={"prefix_fingerprint": "d" * 64, "document_start": 0, "document_end": T},
    )  # fmt: skip
    described = TRANSFORMERS.sections(model, T, "f32")
    values = [
        rng.integers(0, 50, T).astype(np.uint16) if s.dtype == "u16" else 3 * rng.standard_normal(s.shape) + 1
        for s in described
    ]
    return head, [SectionData.of(section, array) for section, array in zip(described, values, strict=True)]


def make() -> None:
    """All files and what is expected of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    expected = {}
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.gfc"
        gfcache.write_cache(plain, replace(header(), writer="golden files"), sections())
        for name in registry.LOSSY:
            path = FOLDER / f"{name}.gfc"
            digest = gfcache.convert_cache(plain, path, coding_of(name)).digest
            expected[path.name] = {"digest": digest, "values": values_in(path)}
        gfcache.write_cache(plain, *pairs())
        for name in registry.serving(layout.KV_KEYS):
            path = FOLDER / f"{PAIRS}{name}.gfc"
            digest = gfcache.convert_cache(plain, path, Coding(name)).digest
            expected[path.name] = {"digest": digest, "values": values_in(path)}
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    make()

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

from tests.cache_format.small_basis import small_basis
from tests.cache_format.small_cache import header, sections

FOLDER = Path(__file__).parents[2] / "golden" / "v1_1" / "codecs"


def coding_of(name: str) -> Coding:
    """The rows in one codec, the states in the same where it may serve them."""
    return Coding(name, name if name in registry.serving("wkv_state") else "int4")


def values_in(path: Path) -> dict[str, str]:
    """SHA-256 of the decoded bytes of each section."""
    with gfcache.read_cache(path) as file:
        return {s.name: hashlib.sha256(file.array(s).tobytes()).hexdigest() for s in file.header.sections}


def pairs_coding(name: str) -> Coding:
    """Keys and values in one codec, in the basis of the golden files where it needs one."""
    return Coding(name, basis=gfcache.offer_basis(BASIS)) if name in registry.BASED else Coding(name)


BASIS = FOLDER / "pairs.gfb"
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
    """The files that are missing, and what is expected of them; those that are there stay."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    noted = FOLDER / "expected.json"
    expected = json.loads(noted.read_text()) if noted.exists() else {}
    if not BASIS.exists():
        BASIS.write_bytes(small_basis((0, 1)).to_bytes())
    with TemporaryDirectory() as folder:
        plain, paired = Path(folder) / "plain.gfc", Path(folder) / "paired.gfc"
        gfcache.write_cache(plain, replace(header(), writer="golden files"), sections())
        gfcache.write_cache(paired, *pairs())
        wanted = [(plain, name, coding_of(name)) for name in registry.serving(layout.COMPRESSED_K)]
        wanted += [(paired, f"{PAIRS}{name}", pairs_coding(name)) for name in registry.serving(layout.KV_KEYS)]
        for source, name, coding in wanted:
            path = FOLDER / f"{name}.gfc"
            if not path.exists():
                digest = gfcache.convert_cache(source, path, coding).digest
                expected[path.name] = {"digest": digest, "values": values_in(path)}
    noted.write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    make()

"""A small cache file with every kind of state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
from gfcache import Header, SectionData, layout

CONFIG = {
    "n_layer": 3, "d_model": 64, "vocab_size": 512, "time_mix": "finch_c2", "upper_time_mix": "gold", "head_dim": 64,
    "layer_ratio": 3, "compression_ratio": 16,
}  # fmt: skip


T = 300
RECURRENT_KINDS = (layout.WKV_STATE, layout.TIME_SHIFT_STATE, layout.CHANNEL_SHIFT_STATE)
STATE_KINDS = (*RECURRENT_KINDS, layout.TAIL_HIDDEN)


def header(**changes: Any) -> Header:
    values: dict[str, Any] = {
        "tokens": T,
        "model": {
            "name": "m", "model_type": "goldfinch", "config": CONFIG,
            "prefill_fingerprint": "a" * 64, "model_fingerprint": "b" * 64,
        },
        "tokenizer": {"fingerprint": "c" * 64, "vocab_size": 512},
        "template": {"prefix_fingerprint": "d" * 64, "document_start": 1, "document_end": T},
        "numerics": {"device": "cpu", "compute_dtype": "f32"},
        "created_at": "2026-01-01T00:00:00+00:00",
        "writer": "test",
    }  # fmt: skip
    return Header(**(values | changes))


def sections() -> list[SectionData]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    ids = rng.integers(0, 50, T).astype(np.uint16)
    return [
        SectionData(layout.TOKEN_IDS, layout.TOKEN_IDS, "u16", ids, token_start=0, codec="zstd"),
        SectionData("compressed_k/0", layout.COMPRESSED_K, "f32", normal(T, 4), token_start=0),
        SectionData(layout.WKV_STATE, layout.WKV_STATE, "f32", normal(2, 1, 64, 64), position=T),
        SectionData(layout.TIME_SHIFT_STATE, layout.TIME_SHIFT_STATE, "f32", normal(2, 64), position=T),
        SectionData(layout.CHANNEL_SHIFT_STATE, layout.CHANNEL_SHIFT_STATE, "f32", normal(2, 64), position=T),
        SectionData(layout.TAIL_HIDDEN, layout.TAIL_HIDDEN, "f32", normal(3, 64), position=T),
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    gfcache.write_cache(tmp_path / "doc.gfc", header(), sections())
    return tmp_path / "doc.gfc"


def expect_unwritable(tmp_path: Path, items: list[SectionData], rule: str, **fields: Any) -> None:
    with pytest.raises(gfcache.UnwritableCache, match="allowed") as caught:
        gfcache.write_cache(tmp_path / "unwritable.gfc", header(**fields), items)
    assert caught.value.rule == rule
    assert not (tmp_path / "unwritable.gfc").exists()

"""Caches as safetensors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gfcache
import numpy as np
from gfcache import SectionData, layout

from tests.cache_format.craft import sections_of
from tests.cache_format.small_store import GOLDEN


def test_safetensors_hold_every_section(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    out = tmp_path / "x.safetensors"
    gfcache.export_safetensors(GOLDEN / "goldfinch.gfc", out)
    tensors = load_file(out)
    with gfcache.read_cache(GOLDEN / "goldfinch.gfc") as file:
        ids, _ = gfcache.whole_array(file, layout.TOKEN_IDS)
        assert np.array_equal(tensors["token_ids"], ids)
        assert np.array_equal(tensors["wkv_state"], file.array(file.section("wkv_state")))
    assert out.stat().st_mode & 0o777 == 0o600
    gfcache.export_safetensors(GOLDEN / "child.gfc", tmp_path / "child.safetensors")
    assert (
        len(load_file(tmp_path / "child.safetensors")["token_ids"])
        == gfcache.inspect_cache(GOLDEN / "child.gfc")["tokens"]
    )


def test_tensors_named_like_others_keep_apart(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    path, out = tmp_path / "x.gfc", tmp_path / "x.safetensors"
    header, data = sections_of(GOLDEN / "goldfinch.gfc")
    for name in ("compressed_k", "__metadata__"):
        data.append(SectionData(name, layout.SOURCE_TEXT, "u8", np.arange(3), required=False))
    gfcache.write_cache(path, dataclasses.replace(header, sections=()), data)
    gfcache.export_safetensors(path, out)
    tensors = load_file(out)
    assert tensors["compressed_k"].shape == (700, 4)
    assert tensors["compressed_k'"].tolist() == tensors["__metadata__'"].tolist() == [0, 1, 2]

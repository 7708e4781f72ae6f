"""Where two cache files differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
from gfcache import layout
from gfcache.format.compare import compare_caches, first_divergent_token

from tests.cache_format.craft import craft, sections_of
from tests.cache_format.small_store import GOLDEN

EQUAL = {"equal": True, "first_divergent_token": None, "identity": [], "numerics": [], "sections": []}


def compared(a: Path, b: Path) -> dict[str, Any]:
    with gfcache.read_cache(a) as one, gfcache.read_cache(b) as other:
        return compare_caches(one, other)


@pytest.mark.parametrize("name", ["goldfinch", "child", "llama"])
def test_a_file_equals_itself(name: str) -> None:
    path = GOLDEN / f"{name}.gfc"
    tokens = gfcache.inspect_cache(path)["tokens"]
    assert compared(path, path) == EQUAL | {"tokens": [tokens, tokens]}


def test_what_differs_is_named(tmp_path: Path) -> None:
    path = GOLDEN / "goldfinch.gfc"
    header, rows = sections_of(path)
    arrays = {row.name: np.array(row.array) for row in rows}
    arrays["token_ids"][17] ^= 1
    arrays["tail_hidden"][0, 0] += 1
    changed = craft(path, tmp_path / "a.gfc", arrays={n: arrays[n] for n in ("token_ids", "tail_hidden")})
    found = compared(path, changed)
    assert found["first_divergent_token"] == 17
    assert found["sections"] == ["tail_hidden", "token_ids"]
    assert not found["equal"]
    model = header.model | {"model_fingerprint": "e" * 64}
    other = craft(path, tmp_path / "b.gfc", model=model, tokenizer=header.tokenizer | {"fingerprint": "f" * 64})
    assert compared(path, other)["identity"] == ["model.model_fingerprint", "tokenizer.fingerprint"]
    elsewhere = craft(path, tmp_path / "c.gfc", numerics=header.numerics | {"threads": 7}, writer="another")
    assert compared(path, elsewhere) == EQUAL | {"tokens": [header.tokens] * 2, "numerics": ["threads"]}


def test_a_child_and_the_same_document_alone(tmp_path: Path) -> None:
    whole = tmp_path / "whole.gfc"
    gfcache.flatten_cache(GOLDEN / "child.gfc", whole)
    found = compared(GOLDEN / "child.gfc", whole)
    assert found["first_divergent_token"] is None
    kinds = {name.split("/")[0] for name in found["sections"]}
    assert kinds == {layout.TOKEN_IDS, layout.COMPRESSED_K}  # the child's own part against the whole


@pytest.mark.parametrize(
    ("a", "b", "first"), [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2), ([4], [], 0)]
)
def test_the_first_token_that_differs(a: list[int], b: list[int], first: int | None) -> None:
    assert first_divergent_token(np.array(a), np.array(b)) == first
    assert first_divergent_token(np.array(b), np.array(a)) == first

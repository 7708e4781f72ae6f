"""The frozen files of format 1.0 are read for ever: bytes, values and answers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
import torch

import goldfinch
from tests.cache_format.craft import sections_of

HERE = Path(__file__).parents[2] / "golden" / "v1"
SPEC = Path(__file__).parents[3] / "cache_format" / "SPEC.md"
EXPECTED: dict[str, dict[str, Any]] = json.loads((HERE / "expected.json").read_text())


def test_every_file_is_expected() -> None:
    assert {p.name for p in HERE.glob("*.gfc")} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_frozen_files_are_valid(name: str) -> None:
    header = gfcache.verify_cache(HERE / name)
    assert header.digest == EXPECTED[name]["digest"]
    assert header.tokens == EXPECTED[name]["tokens"]
    assert header.format_version == (1, 0)
    assert gfcache.inspect_cache(HERE / name)["tokens"] == header.tokens


@pytest.mark.parametrize("name", sorted(n for n, e in EXPECTED.items() if e["model"]))
def test_frozen_files_answer_as_they_did(name: str, imported: Callable[[str], Path]) -> None:
    expected = EXPECTED[name]
    model = goldfinch.load_model(imported(expected["model"]), dtype=getattr(torch, expected["dtype"]))
    cache = goldfinch.open_cache(HERE / name, model)
    digest = hashlib.sha256(cache.token_ids.astype(np.int32).tobytes()).hexdigest()
    assert digest == expected["token_ids_sha256"]
    session = goldfinch.Session(model, cache)
    if expected["dtype"] == "bfloat16":  # its rounding differs between processors: close logits may change places
        assert len(session.generate(expected["question"], max_tokens=6)) == 6
        return
    assert session.generate(expected["question"], max_tokens=6) == expected["generated"]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_frozen_files_are_written_as_they_were(name: str, tmp_path: Path) -> None:
    """Read and written again, by the same zstandard or one that packs the same, a file has the same bytes."""
    header, rows = sections_of(HERE / name)
    written = gfcache.write_cache(tmp_path / name, dataclasses.replace(header, sections=()), rows)
    assert written.digest == EXPECTED[name]["digest"]
    assert (tmp_path / name).read_bytes() == (HERE / name).read_bytes()


def test_the_worked_example_of_the_specification_is_a_file() -> None:
    """The hex dump of SPEC.md, byte for byte, is minimal.gfc."""
    rows = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?){1,16}) ", SPEC.read_text(), re.MULTILINE)
    data = bytes.fromhex("".join(row for _, row in rows))
    assert [int(offset, 16) for offset, _ in rows] == list(range(0, len(data), 16))
    assert data == (HERE / "minimal.gfc").read_bytes()
    with gfcache.read_cache(HERE / "minimal.gfc") as file:
        assert file.arrays_of_kind("token_ids")[0].tolist() == [7, 39]
        assert file.arrays_of_kind("compressed_k")[0].tolist() == [[0.5], [-2.0]]

"""Hostile headers: any change of the JSON, with a checksum made to fit, gives a typed error or a consistent file."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import gfcache
import numpy as np
import pytest
from gfcache import SectionData, layout
from gfcache.format.writer import build_file

from gfcli.app import run
from tests.cache_format.craft import assemble
from tests.cache_format.small_cache import CONFIG, header, sections
from tests.fuzz.mutations import changed


def test_changed_headers_give_typed_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, parts = build_file(header(source={"name": "n", "path": None, "sha256": "e" * 64, "bytes": 5}), sections())
    original, payload = json.loads(bytes(parts[2])), b"".join(bytes(p) for p in parts[4:])
    path = tmp_path / "x.gfc"
    refused = 0
    for seed in range(3000):
        values = changed(original, Random(seed))
        path.write_bytes(assemble(json.dumps(values).encode(), payload))
        try:
            gfcache.verify_cache(path)
            gfcache.inspect_cache(path)
        except gfcache.CacheFormatError:
            refused += 1
            continue
        if seed % 10 == 0:  # what is accepted can be shown
            assert run(["inspect", str(path)]) == 0
            assert run(["inspect", "--json", str(path)]) == 0
            capsys.readouterr()
    assert refused > 1500


@pytest.mark.parametrize("changes", [{"source": {"bytes": None}}, {"source": {}}, {"numerics": {}}])
def test_what_is_not_known_is_shown_as_such(changes: dict[str, Any], tmp_path: Path) -> None:
    gfcache.write_cache(tmp_path / "x.gfc", header(**changes), sections())
    for command in (["verify"], ["inspect"], ["inspect", "--json"]):
        assert run([*command, str(tmp_path / "x.gfc")]) == 0


def test_a_long_table_is_gone_through_a_few_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where neither numerics nor a section tell the compute dtype: not once for every row."""
    rows = 300
    config = CONFIG | {"n_layer": 1, "d_model": 1, "head_dim": 1, "compression_ratio": 1, "upper_time_mix": None}
    states = [SectionData(str(n), layout.WKV_STATE, "f32", np.zeros((1, 1, 1, 1)), position=n + 1) for n in range(rows)]
    gfcache.write_cache(
        tmp_path / "x.gfc", header(model=header().model | {"config": config}, numerics={}), [sections()[0], *states]
    )
    seen: list[str] = []
    known = gfcache.Section.is_known.fget
    monkeypatch.setattr(gfcache.Section, "is_known", property(lambda s: [seen.append(s.name), known(s)][1]))
    with pytest.raises(gfcache.DamagedCache, match="R13"):
        gfcache.read_cache(tmp_path / "x.gfc")
    assert rows < len(seen) < 10 * rows


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    _, parts = build_file(header(), sections())
    data = b"".join(bytes(p) for p in parts)
    path = tmp_path / "x.gfc"
    edges = {len(b"".join(bytes(p) for p in parts[:n])) for n in range(len(parts))}
    for end in sorted(edges | set(range(0, 130)) | set(range(130, len(data), 977))):
        if end == len(data):  # the last piece may be empty padding
            continue
        path.write_bytes(data[:end])
        with pytest.raises(gfcache.CacheFormatError):
            gfcache.verify_cache(path)

"""Hostile headers: any change of the JSON, with a checksum made to fit, gives a typed error or a consistent file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import gfcache
import pytest
from gfcache.writer import build_file

from gfcli.app import run
from tests.cache_format.test_format import assemble, header, sections

STRANGE: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**200, 1.5, 1e300, "", "x", "a" * 64, [], [1], [[]], {}, {"a": 1},
    "f32", "u16", "zstd", "raw", "prefill", "model", "token_ids", "wkv_state", [0], [300], [2**62, 2**62], [1] * 100,
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value."""
    out = [path] if path else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        out += places(child, (*path, key))
    return out


def changed(values: Any, rng: Random) -> Any:
    """A copy with one to three places replaced, removed or copied from elsewhere."""
    values = copy.deepcopy(values)
    for _ in range(rng.randint(1, 3)):
        found = places(values)
        *parents, key = rng.choice(found)
        target = values
        for parent in parents:
            target = target[parent]
        kind = rng.random()
        if kind < 0.15:
            del target[key]
        elif kind < 0.3 and isinstance(target, list):
            target.append(copy.deepcopy(target[key]))
        else:
            target[key] = copy.deepcopy(rng.choice(STRANGE))
    return values


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

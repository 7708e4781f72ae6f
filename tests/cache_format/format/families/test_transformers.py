"""Caches of models of others: what is described is written, read, joined and checked; a reader of 1.0 refuses by name."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
from gfcache import Header, SectionData, layout
from gfcache.format.compare import compare_caches
from gfcache.format.families.registry import family_of
from gfcache.format.families.transformers import TRANSFORMERS, block_state_bytes
from safetensors.numpy import load_file

from tests.cpu_time import PATIENCE_S

# gfcache as it was when format 1.0 was frozen, as data.
READER_1_0 = Path(__file__).parents[3] / "golden" / "gfcache-1.0.zip"
FULL = {"kind": "full", "kv_heads": 2, "head_dim": 4, "value_dim": 6}
SLIDING = {"kind": "sliding", "kv_heads": 1, "head_dim": 4, "value_dim": 4, "window": 8}
STATES = {
    "conv": {"shape": [5, 3], "dtype": "f32"},
    "recurrent": {"shape": [2, 3, 4], "dtype": "f64"},
}
LAYERS: list[dict[str, Any]] = [
    FULL,
    SLIDING,
    {"kind": "linear", "states": STATES},
    FULL | {"states": {"conv": STATES["conv"]}},
    {"kind": "none"},
    FULL | {"kv_heads": 1},
    SLIDING,
]
T = 4100


def model_of(layers: list[dict[str, Any]]) -> dict[str, Any]:
    config = {"n_layer": len(layers), "d_model": 8, "vocab_size": 300, "head_dim": 4}
    return {
        "name": "other", "model_type": "llama", "config": config | {"layer_ratio": 1, "compression_ratio": 1},
        "layers": copy.deepcopy(layers), "prefill_fingerprint": "a" * 64, "model_fingerprint": "a" * 64,
    }  # fmt: skip


def header_of(layers: list[dict[str, Any]] | None = None, **changes: Any) -> Header:
    values: dict[str, Any] = {
        "tokens": T,
        "model": model_of(LAYERS if layers is None else layers),
        "tokenizer": {"fingerprint": "c" * 64, "vocab_size": 300},
        "template": {"prefix_fingerprint": "d" * 64, "document_start": 1, "document_end": T},
        "numerics": {"device": "cpu", "compute_dtype": "f32"},
        "created_at": "2026-01-01T00:00:00+00:00",
        "writer": "test",
    }
    return Header(**(values | changes))


def rows_of(header: Header, seed: int = 0, **place: Any) -> list[SectionData]:
    """Every section that is described, with random values."""
    rng = np.random.default_rng(seed)
    described = TRANSFORMERS.sections(header.model, header.tokens, "f32", **place)
    rows = []
    for row in described:
        values = rng.standard_normal(row.shape).astype(layout.NUMPY_DTYPES[row.dtype])
        if row.kind == layout.TOKEN_IDS:
            values = np.arange(row.token_start or 0, header.tokens, dtype=np.uint16) % 300
        rows.append(SectionData.of(row, values))
    return rows


def written(path: Path, header: Header | None = None, rows: list[SectionData] | None = None) -> Path:
    header = header or header_of()
    gfcache.write_cache(path, header, rows_of(header) if rows is None else rows)
    return path


def test_layers_of_one_shape_share_a_section_and_ranges_have_4096_tokens() -> None:
    rows = TRANSFORMERS.sections(model_of(LAYERS), T, "bf16", checkpoints=[100])
    found = {row.name: (row.shape, row.dtype, row.rotated) for row in rows}
    assert found["kv_keys/0/0"] == ((2, 2, 4096, 4), "bf16", True)
    assert found["kv_values/0/4096"] == ((2, 2, 4, 6), "bf16", None)
    assert found["kv_keys/5/4096"] == ((1, 1, 4, 4), "bf16", True)
    assert found["window_keys/1"] == ((2, 1, 7, 4), "bf16", True)
    assert found["layer_state/2/conv"] == ((2, 5, 3), "f32", None)
    assert found["layer_state/2/recurrent@100"] == ((1, 2, 3, 4), "f64", None)
    assert found["window_values/1@100"][0] == (2, 1, 7, 4)
    assert len(rows) == 1 + 2 * 2 * 2 + 2 * 2 + 2 * 2


def in_blocks(layers: list[dict[str, Any]], **changes: Any) -> Header:
    """A header of 40 tokens in two blocks, behind a prompt of one."""
    header = header_of(layers, tokens=41)
    header.model.update({"blocks": [1, 18, 22]} | changes)
    return dataclasses.replace(header, template=header.template | {"document_end": 41})


def test_a_state_stands_behind_each_block() -> None:
    header = in_blocks(LAYERS)
    rows = TRANSFORMERS.sections(header.model, 41, "f32")
    found = {row.name: (row.shape, row.dtype, row.token_start) for row in rows if row.kind == layout.BLOCK_STATE}
    assert found["block_state/2/conv/19"] == ((2, 5, 3), "f32", 19)
    assert found["block_state/2/recurrent/0"] == ((1, 2, 3, 4), "f64", 0)
    assert len(found) == 3 * 2
    assert not [row for row in rows if row.kind in (layout.LAYER_STATE, layout.WINDOW_KEYS, layout.KV_KEYS)]
    assert block_state_bytes(header.model) == 2 * 15 * 4 + 24 * 8
    assert block_state_bytes(header_of().model) == 0


@pytest.mark.parametrize(
    ("name", "changes", "rule"),
    [
        ("block_state/2/conv/19", None, "R13"),
        ("block_state/2/conv/19", {"token_start": 20}, "R13"),
        ("block_state/2/conv/19", {"role": "recurrent"}, "R12"),
        ("block_state/2/conv/19", {"role": None}, "R12"),
        ("block_state/2/recurrent/0", {"dtype": "f32"}, "R12"),
        ("block_state/2/recurrent/0", {"kind": "layer_state", "position": 41, "token_start": None}, "R13"),
    ],
)
def test_states_that_are_not_those_of_the_blocks_are_refused(
    tmp_path: Path, name: str, changes: dict[str, Any] | None, rule: str
) -> None:
    header = in_blocks(LAYERS)
    rows = {row.name: row for row in rows_of(header)}
    if changes is None:
        del rows[name]
    else:
        rows[name] = dataclasses.replace(rows[name], **changes)
    path = written(tmp_path / "a.gfc", header, list(rows.values()))
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.read_cache(path)
    assert caught.value.rule == rule


def test_a_short_document_fills_no_window() -> None:
    rows = TRANSFORMERS.sections(model_of(LAYERS), 3, "f32")
    assert {row.shape for row in rows if row.kind == layout.WINDOW_KEYS} == {(2, 1, 3, 4)}


@pytest.mark.parametrize("layers", [LAYERS, [FULL], [SLIDING, SLIDING], [{"kind": "linear", "states": STATES}]])
def test_what_is_written_is_read(tmp_path: Path, layers: list[dict[str, Any]]) -> None:
    header = header_of(layers)
    rows = rows_of(header, checkpoints=[50, 4096])
    path = written(tmp_path / "a.gfc", header, rows)
    assert gfcache.verify_cache(path, complete=True).model["layers"] == layers
    with gfcache.read_cache(path) as file:
        assert family_of(file.header.model) is TRANSFORMERS
        for row in rows:
            section = file.section(row.name)
            assert (section.layer, section.role, section.rotated) == (row.layer, row.role, row.rotated)
            assert file.array(section).tobytes() == np.ascontiguousarray(row.array).tobytes()
    assert gfcache.inspect_cache(path)["checkpoints"] == ([] if layers == [FULL] else [50, 4096])


def test_export_joins_the_ranges_of_each_group(tmp_path: Path) -> None:
    header = header_of()
    rows = {row.name: row.array for row in rows_of(header)}
    gfcache.export_safetensors(written(tmp_path / "a.gfc"), tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    keys = np.concatenate([rows["kv_keys/0/0"], rows["kv_keys/0/4096"]], axis=2)
    assert (tensors["kv_keys/0"] == keys).all()
    assert (tensors["layer_state/2/recurrent"] == rows["layer_state/2/recurrent"]).all()
    assert set(tensors) == {
        "token_ids", "kv_keys/0", "kv_values/0", "kv_keys/5", "kv_values/5", "window_keys/1", "window_values/1",
        "layer_state/2/conv", "layer_state/2/recurrent",
    }  # fmt: skip


def test_a_base_holds_the_first_rows_of_every_group(tmp_path: Path) -> None:
    whole = header_of()
    base = written(tmp_path / "base.gfc", header_of(tokens=4099, template=whole.template | {"document_end": 4099}))
    rows = {row.name: row.array for row in rows_of(whole)}
    with gfcache.read_cache(base) as file:
        held = {s.name: file.array(s) for s in file.header.sections}
        parent = gfcache.parent_reference(file, 4097, tmp_path / "child.gfc")
    child = dataclasses.replace(whole, parent=parent)
    own = rows_of(child, seed=1, first_token=4097)
    written(tmp_path / "child.gfc", child, own)
    gfcache.verify_cache(tmp_path / "child.gfc", complete=True)
    gfcache.flatten_cache(tmp_path / "child.gfc", tmp_path / "flat.gfc")
    with gfcache.read_cache(tmp_path / "flat.gfc") as flat:
        assert [s.name for s in flat.header.sections] == list(rows)
        keys = gfcache.whole_array(flat, layout.KV_KEYS, 0)[0]
    expected = [held["kv_keys/0/0"], held["kv_keys/0/4096"][:, :, :1], own[1].array]
    assert own[1].name == "kv_keys/0/4097"
    assert (keys == np.concatenate(expected, axis=2)).all()


def test_differences_are_named(tmp_path: Path) -> None:
    header = header_of()
    a, rows = written(tmp_path / "a.gfc"), rows_of(header)
    rows[1] = dataclasses.replace(rows[1], array=rows[1].array + 1)
    b = written(tmp_path / "b.gfc", header, rows)
    other = header_of([*LAYERS[:-1], {"kind": "none"}])
    c = written(tmp_path / "c.gfc", other)
    with gfcache.read_cache(a) as one, gfcache.read_cache(b) as two, gfcache.read_cache(c) as three:
        assert compare_caches(one, one)["equal"]
        assert compare_caches(one, two)["sections"] == [rows[1].name]
        assert compare_caches(one, three)["identity"] == ["model.layers"]


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda m: m["layers"].pop(), "model.layers"),
        (lambda m: m.update(layers={}), "model.layers"),
        (lambda m: m.update(layers=[{"kind": "none"}] * 7), "keeps something"),
        (lambda m: m["layers"][0].update(kind="dense"), "kind"),
        (lambda m: m["layers"][0].update(kv_heads=0), "kv_heads"),
        (lambda m: m["layers"][0].update(head_dim=1 << 40), "head_dim"),
        (lambda m: m["layers"][0].update(value_dim=True), "value_dim"),
        (lambda m: m["layers"][1].pop("window"), "window"),
        (lambda m: m["layers"][1].update(window=1), "window"),
        (lambda m: m["layers"][2].update(states=[]), "states"),
        (lambda m: m["layers"][2]["states"].update({"../x": STATES["conv"]}), "role"),
        (lambda m: m["layers"][2]["states"]["conv"].update(shape=[0, 3]), "shape"),
        (lambda m: m["layers"][2]["states"]["conv"].update(shape=[1, 1, 1, 1, 1]), "shape"),
        (lambda m: m["layers"][2]["states"]["conv"].update(dtype="u8"), "u8"),
    ],
)
def test_layers_that_no_model_has_are_refused(tmp_path: Path, change: Change, named: str) -> None:
    header, rows = header_of(), rows_of(header_of())
    change(header.model)
    with pytest.raises(gfcache.UnwritableCache, match=named) as caught:
        gfcache.write_cache(tmp_path / "a.gfc", header, rows)
    assert caught.value.rule == "R7"


@pytest.mark.parametrize(
    ("name", "changes", "rule"),
    [
        ("kv_keys/0/0", {"rotated": None}, "R12"),
        ("kv_values/0/0", {"rotated": True}, "R12"),
        ("kv_keys/0/0", {"layer": 3}, "R12"),  # of the group, but not its first
        ("kv_keys/0/0", {"layer": None}, "R12"),
        ("kv_keys/0/4096", {"token_start": 4095}, "R12"),
        ("kv_keys/0/0", {"dtype": "f64"}, "R12"),
        ("kv_keys/0/0", {"depends_on": "prefill"}, "R12"),
        ("window_keys/1", {"position": 7}, "R13"),
        ("layer_state/2/conv", {"role": "recurrent"}, "R12"),
        ("layer_state/2/recurrent", {"role": None}, "R12"),
        ("kv_keys/5/4096", None, "R13"),
        ("kv_values/5/0", None, "R13"),
        ("window_values/1", None, "R13"),
        ("layer_state/2/conv", None, "R13"),
    ],
)
def test_sections_that_do_not_fit_the_layers_are_refused(
    tmp_path: Path, name: str, changes: dict[str, Any] | None, rule: str
) -> None:
    rows = {row.name: row for row in rows_of(header_of())}
    if changes is None:
        del rows[name]
    else:
        rows[name] = dataclasses.replace(rows[name], **changes)
    path = written(tmp_path / "a.gfc", rows=list(rows.values()))
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.read_cache(path)
    assert caught.value.rule == rule


def test_a_file_without_its_states_is_incomplete(tmp_path: Path) -> None:
    kept = (layout.TOKEN_IDS, layout.KV_KEYS, layout.KV_VALUES)
    path = written(tmp_path / "a.gfc", rows=[row for row in rows_of(header_of()) if row.kind in kept])
    gfcache.verify_cache(path)
    with pytest.raises(gfcache.DamagedCache, match="R13"):
        gfcache.verify_cache(path, complete=True)


@pytest.mark.parametrize(
    ("layers", "kind"),
    [
        ([FULL], layout.KV_KEYS),
        ([SLIDING], layout.WINDOW_KEYS),
        ([{"kind": "linear", "states": STATES}], "layer_state"),
    ],
)
def test_a_reader_of_format_1_0_refuses_by_name(tmp_path: Path, layers: list[dict[str, Any]], kind: str) -> None:
    path = written(tmp_path / "a.gfc", header_of(layers))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gfcache; assert 'zip' in gfcache.__file__\n"
        "try: gfcache.read_cache(sys.argv[2])\n"
        "except gfcache.UnsupportedSection as error: print(error.field, error.found)"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script, READER_1_0, path],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == (f"kind {kind}\n", "")

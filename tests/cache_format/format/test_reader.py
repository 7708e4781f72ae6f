"""The .gfc file: what is written is read, and one rejection per numbered reading rule of SPEC.md."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
from gfcache import SectionData, layout
from gfcache.format import writer
from gfcache.format.families.registry import COMPUTE_KINDS, PER_TOKEN_KINDS
from gfcache.format.writer import build_file

from tests.cache_format.craft import assemble
from tests.cache_format.small_cache import RECURRENT_KINDS, STATE_KINDS, T, expect_unwritable, header, sections


def test_round_trip(path: Path) -> None:
    with gfcache.read_cache(path) as cache:
        for item in sections():
            section = cache.section(item.name)
            np.testing.assert_array_equal(cache.array(section), item.array)
            assert section.raw_bytes == item.array.nbytes
        assert cache.section(layout.TOKEN_IDS).codec == "zstd"  # 50 symbols in 16 bits do compress
        assert cache.header == dataclasses.replace(header(), sections=cache.header.sections)
    assert gfcache.verify_cache(path).tokens == T


def test_file_is_private_and_deterministic(path: Path, tmp_path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    gfcache.write_cache(tmp_path / "again.gfc", header(), sections())
    assert (tmp_path / "again.gfc").read_bytes() == path.read_bytes()


def test_bfloat16_travels_as_words(tmp_path: Path) -> None:
    words = np.arange(3 * 64, dtype=np.uint16).reshape(3, 64) + 0x3F80
    items = [
        dataclasses.replace(s, dtype="bf16", array=np.resize(words, s.array.shape)) if s.kind in COMPUTE_KINDS else s
        for s in sections()
    ]
    numerics = {"device": "cpu", "compute_dtype": "bf16"}
    gfcache.write_cache(tmp_path / "doc.gfc", header(numerics=numerics), items)
    with gfcache.read_cache(tmp_path / "doc.gfc") as cache:
        np.testing.assert_array_equal(cache.array(cache.section(layout.TAIL_HIDDEN)), words)


def test_the_reader_needs_no_torch(path: Path) -> None:
    code = (
        "import sys, gfcache; c = gfcache.read_cache(sys.argv[1]); gfcache.verify_cache(sys.argv[1]);"
        "gfcache.inspect_cache(sys.argv[1]); assert 'torch' not in sys.modules; print(c.header.tokens)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(T)


def test_summary_counts_every_byte(path: Path) -> None:
    summary = gfcache.inspect_cache(path)
    with gfcache.read_cache(path) as cache:
        per_token = sum(s.stored_bytes for s in cache.header.sections if s.kind in PER_TOKEN_KINDS)
    assert summary["bytes_total"] == path.stat().st_size
    assert summary["fixed_bytes"] == summary["bytes_total"] - per_token
    assert summary["bytes_per_token"] == pytest.approx(per_token / T, abs=1e-3)
    assert summary["llama_bytes_per_token"] == 2 * 3 * 64 * 2


def test_unknown_optional_section_is_skipped_and_unknown_required_refused(tmp_path: Path) -> None:
    extra = SectionData("later/0", "later_kind", "u8", np.arange(10, dtype=np.uint8), required=False)
    gfcache.write_cache(tmp_path / "a.gfc", header(), [*sections(), extra])
    assert gfcache.verify_cache(tmp_path / "a.gfc").tokens == T
    gfcache.write_cache(tmp_path / "b.gfc", header(), [*sections(), dataclasses.replace(extra, required=True)])
    with pytest.raises(gfcache.UnsupportedSection, match="later_kind"):
        gfcache.read_cache(tmp_path / "b.gfc")


@pytest.mark.parametrize("field", ["kind", "dtype", "codec"])
def test_optional_sections_of_a_later_version_are_left_out(field: str, tmp_path: Path) -> None:
    """By everything that reads, joins or exports; refused by name when they are required."""
    logits = SectionData("later", layout.LAST_LOGITS, "f32", np.zeros(512), "model", required=False)
    _, parts = build_file(header(), [*sections(), logits])
    values, payload = json.loads(bytes(parts[2])), b"".join(bytes(p) for p in parts[4:])
    values["sections"][-1][field] = "i64"
    path, flat, tensors = tmp_path / "a.gfc", tmp_path / "b.gfc", tmp_path / "c.safetensors"
    path.write_bytes(assemble(json.dumps(values).encode(), payload))
    gfcache.verify_cache(path, complete=True)
    assert "later" in [row["name"] for row in gfcache.inspect_cache(path)["sections"]]
    assert len(gfcache.flatten_cache(path, flat).sections) == len(sections())
    gfcache.export_safetensors(path, tensors)
    assert b"later" not in tensors.read_bytes()
    values["sections"][-1]["required"] = True
    path.write_bytes(assemble(json.dumps(values).encode(), payload))
    with pytest.raises(gfcache.UnsupportedSection, match="i64"):
        gfcache.read_cache(path)


@pytest.mark.parametrize(
    "changes",
    [{"kind": "later", "shape": [1] * 6}, {"kind": "later", "raw_bytes": 7}, {"codec": "later", "raw_bytes": 1 << 50}],
)
def test_r11_does_not_look_at_sections_of_a_later_version(changes: dict[str, Any], tmp_path: Path) -> None:
    logits = SectionData("later", layout.LAST_LOGITS, "f32", np.zeros(512), "model", required=False)
    _, parts = build_file(header(), [*sections(), logits])
    values, payload = json.loads(bytes(parts[2])), b"".join(bytes(p) for p in parts[4:])
    values["sections"][-1] |= changes
    path = tmp_path / "a.gfc"
    path.write_bytes(assemble(json.dumps(values).encode(), payload))
    assert gfcache.verify_cache(path, complete=True).tokens == T
    values["sections"][-1]["required"] = True
    path.write_bytes(assemble(json.dumps(values).encode(), payload))
    with pytest.raises(gfcache.UnsupportedSection, match="later"):
        gfcache.read_cache(path)


# Rejection tests: one change per rule.


def rebuilt(change: Callable[[dict[str, Any]], None]) -> bytes:
    """A file whose header was changed and whose checksum was made to fit again."""
    _, parts = build_file(header(), sections())
    values = json.loads(bytes(parts[2]))
    change(values)
    return assemble(json.dumps(values).encode(), b"".join(bytes(p) for p in parts[4:]))


def patched(path: Path, offset: int, data: bytes) -> bytes:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(data)] = data
    return bytes(raw)


def expect_damage(tmp_path: Path, data: bytes, rule: str) -> None:
    file = tmp_path / "bad.gfc"
    file.write_bytes(data)
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.verify_cache(file)
    assert caught.value.rule == rule
    assert rule in str(caught.value)


def test_r1_magic(path: Path, tmp_path: Path) -> None:
    for data in (b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(100), path.read_bytes().replace(b"\r\n", b"\n", 1)):
        (tmp_path / "foreign").write_bytes(data)
        with pytest.raises(gfcache.NotACacheFile):
            gfcache.read_cache(tmp_path / "foreign")


def test_r2_prefix(path: Path, tmp_path: Path) -> None:
    expect_damage(tmp_path, path.read_bytes()[:40], "R2")
    expect_damage(tmp_path, patched(path, 24, b"\x01"), "R2")
    expect_damage(tmp_path, patched(path, 8, b"\0\0"), "R2")
    newer = tmp_path / "newer.gfc"
    newer.write_bytes(patched(path, 8, struct.pack("<H", 2)))
    with pytest.raises(gfcache.UnsupportedVersion) as caught:
        gfcache.read_cache(newer)
    assert (caught.value.found, caught.value.supported) == (2, 1)


def test_r3_length(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    for cut in (data[:-1], data[: len(data) // 2], data[:64], data + b"\0"):
        expect_damage(tmp_path, cut, "R3")


def test_r4_header_length(path: Path, tmp_path: Path) -> None:
    expect_damage(tmp_path, patched(path, 12, struct.pack("<I", 2**32 - 1)), "R4")
    expect_damage(tmp_path, patched(path, 12, struct.pack("<I", path.stat().st_size)), "R4")


def test_r5_header_checksum_catches_every_bit(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    header_bytes = struct.unpack_from("<I", data, 12)[0]
    for at in range(32, layout.align(layout.HEADER_OFFSET + header_bytes)):
        raw = bytearray(data)
        raw[at] ^= 1 << (at % 8)
        expect_damage(tmp_path, bytes(raw), "R5")


def test_r6_json(tmp_path: Path) -> None:
    for body in (
        b"\xff",
        b"[1]",
        b"{",
        b'{"tokens":1,"tokens":2}',
        b'{"tokens":NaN}',
        b'{"tokens":1e999}',
        b"[" * 100_000,
    ):
        expect_damage(tmp_path, assemble(body, b""), "R6")
    for depth, rule in ((layout.MAX_NESTING + 1, "R6"), (layout.MAX_NESTING, "R7")):  # R7: it lacks every field
        expect_damage(tmp_path, assemble(b'{"a":' * depth + b"1" + b"}" * depth, b""), rule)


@pytest.mark.parametrize(
    ("keys", "value", "rule"),
    [
        (["tokens"], "many", "R7"),
        (["tokens"], True, "R7"),
        (["model", "prefill_fingerprint"], "xyz", "R7"),
        (["tokenizer", "vocab_size"], -1, "R7"),
        (["template", "prefix_fingerprint"], None, "R7"),
        (["tokens"], 0, "R8"),
        (["tokens"], 1 << 63, "R8"),
        (["template", "document_end"], T + 1, "R8"),
        (["sections", 1, "name"], "token_ids", "R9"),
        (["sections", 1, "depends_on"], "luck", "R9"),
        (["sections", 1, "shape"], [T, "4"], "R9"),
        (["sections", 1, "offset"], 64, "R10"),
        (["sections", 1, "offset"], 1 << 63, "R10"),
        (["sections", 1, "offset"], 7, "R10"),
        (["sections", 0, "stored_bytes"], 1 << 62, "R10"),
        (["sections", 1, "shape"], [T, 4, 1, 1, 1, 1], "R11"),
        (["sections", 1, "raw_bytes"], 5, "R11"),
        (["sections", 0, "dtype"], "f16", "R12"),
        (["sections", 2, "shape"], [2, 1, 32, 128], "R12"),
        (["model", "config", "d_model"], 128, "R12"),
        (["numerics", "compute_dtype"], "f64", "R12"),
        (["sections", 1, "dtype"], "bf16", "R11"),
        (["sections", 1, "depends_on"], "model", "R12"),
        (["sections", 1, "required"], False, "R12"),
        (["sections", 2, "position"], 0, "R12"),
        (["sections", 2, "position"], T + 1, "R12"),
        (["sections", 2, "position"], None, "R12"),
        (["sections", 0, "stored_bytes"], 0, "R10"),
        (["model", "config", "n_layer"], "three", "R7"),
        (["model", "config", "compression_ratio"], 0, "R7"),
        (["model", "name"], 5, "R7"),
        (["model", "name"], "\ud800", "R7"),
        (["model", "config", "\ud800"], 1, "R7"),
        (["writer"], "a\0b", "R7"),
        (["tokenizer", "vocab_size"], 513, "R7"),
        (["numerics", "compute_dtype"], {"a": 1}, "R7"),
        (["numerics", "compute_dtype"], "f16", "R7"),
        (["numerics", "threads"], 1.5, "R7"),
        (["numerics", "backend"], 10**30, "R7"),
        (["source"], {"bytes": "many"}, "R7"),
        (["source"], {"path": "a\0b"}, "R7"),
        (["sections", 1, "token_start"], 5, "R12"),
    ],
)
def test_r7_to_r12_fields(keys: list[Any], value: Any, rule: str, tmp_path: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    expect_damage(tmp_path, rebuilt(change), rule)


def test_r11_decompression_bomb(tmp_path: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        values["tokens"] = values["template"]["document_end"] = 1 << 39
        values["sections"][0] |= {"shape": [1 << 39], "raw_bytes": 1 << 40}

    expect_damage(tmp_path, rebuilt(change), "R11")


def with_ids_stored_as(stored: bytes) -> bytes:
    """A file whose compressed token ids were replaced by other bytes."""
    _, parts = build_file(header(), [*sections()[1:], sections()[0]])
    values, payload = json.loads(bytes(parts[2])), b"".join(bytes(p) for p in parts[4:-2])
    values["sections"][-1] |= {"stored_bytes": len(stored), "sha256": hashlib.sha256(stored).hexdigest()}
    return assemble(json.dumps(values).encode(), payload + stored + bytes(layout.align(len(stored)) - len(stored)))


def test_r11_nothing_is_not_decoded(tmp_path: Path) -> None:
    expect_damage(tmp_path, with_ids_stored_as(b""), "R11")


def test_r11_an_empty_shape_of_endless_axes(tmp_path: Path) -> None:
    at_the_last = {"kind": layout.ERROR_RECEIPT, "shape": [0, 1 << 62, 1 << 62], "raw_bytes": 0, "stored_bytes": 0}

    def change(values: dict[str, Any]) -> None:
        rows = values["sections"]
        rows.insert(-1, rows[-1] | {"name": "e"} | at_the_last)

    expect_damage(tmp_path, rebuilt(change), "R11")


def without(*kinds: str) -> list[SectionData]:
    return [item for item in sections() if item.kind not in kinds]


def doubled(kind: str) -> list[SectionData]:
    return [*sections(), *(dataclasses.replace(s, name="second") for s in sections() if s.kind == kind)]


@pytest.mark.parametrize(
    "items",
    [
        *(without(kind) for kind in (layout.TOKEN_IDS, layout.COMPRESSED_K, *RECURRENT_KINDS, layout.TAIL_HIDDEN)),
        *(doubled(kind) for kind in (layout.TOKEN_IDS, *RECURRENT_KINDS, layout.TAIL_HIDDEN)),
        without(layout.COMPRESSED_K, *STATE_KINDS),
        [dataclasses.replace(s, position=100 if s.position else None) for s in sections()],  # none at the end
        [*sections(), dataclasses.replace(sections()[2], name="lonely", position=100)],
        [*sections(), SectionData("kv", layout.ATTENTION_KV, "f32", np.zeros((2, T, 64)), "model", layer=2)],
    ],
)  # fmt: skip
def test_r13_complete(items: list[SectionData], tmp_path: Path) -> None:
    gfcache.write_cache(tmp_path / "x.gfc", header(), items)
    expect_damage(tmp_path, (tmp_path / "x.gfc").read_bytes(), "R13")


def test_r13_a_file_without_states_is_only_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "x.gfc"
    gfcache.write_cache(path, header(), without(*STATE_KINDS))
    gfcache.verify_cache(path)
    with pytest.raises(gfcache.DamagedCache, match="R13"):
        gfcache.verify_cache(path, complete=True)


def test_r14_section_checksum(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    with gfcache.read_cache(path) as cache:
        start = cache._payload_start
        places = [
            start + s.offset + n for s in cache.header.sections for n in (0, s.stored_bytes // 2, s.stored_bytes - 1)
        ]
        places += [start + s.offset + s.stored_bytes for s in cache.header.sections if s.stored_bytes % 64]  # padding
    assert len(places) > 18
    for at in places:
        raw = bytearray(data)
        raw[at] ^= 0x10
        expect_damage(tmp_path, bytes(raw), "R14")


def test_r15_decodes_to_the_table(tmp_path: Path) -> None:
    import zstandard

    for stored in (b"not zstandard at all, really", zstandard.compress(sections()[0].array.tobytes()[:-2])):
        expect_damage(tmp_path, with_ids_stored_as(stored), "R15")


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_r16_finite(poison: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = sections()
    items[1].array[17, 2] = poison
    expect_unwritable(tmp_path, items, "R16")
    with monkeypatch.context() as patch:
        patch.setattr(writer, "all_finite", lambda array, dtype: True)  # a careless writer
        gfcache.write_cache(tmp_path / "x.gfc", header(), items)
    expect_damage(tmp_path, (tmp_path / "x.gfc").read_bytes(), "R16")


def test_r17_vocabulary(tmp_path: Path) -> None:
    items = sections()
    items[0].array[-1] = 512
    gfcache.write_cache(tmp_path / "x.gfc", header(), items)
    expect_damage(tmp_path, (tmp_path / "x.gfc").read_bytes(), "R17")


def test_spec_lists_exactly_these_rules() -> None:
    spec = (Path(__file__).parents[3] / "cache_format" / "SPEC.md").read_text()
    listed = set(re.findall(r"^\| (R\d+) \|", spec, re.MULTILINE))
    assert listed == {f"R{n}" for n in range(1, 18)}

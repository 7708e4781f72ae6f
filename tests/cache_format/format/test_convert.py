"""A cache with other codecs: which values are rounded, what is noted, and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import gfcache
import numpy as np
import pytest
from gfcache import Coding, layout
from gfcache.codecs import registry

from tests.cache_format.craft import assemble
from tests.cache_format.small_cache import STATE_KINDS, T, header, path, sections

__all__ = ["path"]
SMALL = Coding("step3", "int4")


def arrays(file: Path) -> dict[str, np.ndarray]:
    with gfcache.read_cache(file) as cache:
        return {s.name: cache.array(s) for s in cache.header.sections if s.kind != layout.ROW_DIGESTS}


def test_values_are_rounded_and_the_rest_stays(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.gfc"
    before, written = arrays(path), gfcache.convert_cache(path, out, SMALL)
    assert gfcache.verify_cache(out, complete=True) == written
    after = arrays(out)
    assert np.array_equal(after[layout.TOKEN_IDS], before[layout.TOKEN_IDS])
    assert np.array_equal(after["compressed_k/0"], registry.rounded(before["compressed_k/0"], "f32", "step3"))
    for kind in STATE_KINDS:
        assert np.array_equal(after[kind], registry.rounded(before[kind], "f32", "int4"))
        assert not np.array_equal(after[kind], before[kind])
    assert written.numerics == header().numerics | {"rows_codec": "step3", "state_codec": "int4"}
    assert not written.of_kind(layout.ROW_DIGESTS)
    assert out.stat().st_size < 0.25 * path.stat().st_size
    assert out.stat().st_mode & 0o777 == 0o600


def test_one_half_alone(path: Path, tmp_path: Path) -> None:
    gfcache.convert_cache(path, tmp_path / "rows.gfc", Coding(rows="int8"))
    gfcache.convert_cache(path, tmp_path / "state.gfc", Coding(state="int8"))
    before, rows, state = arrays(path), arrays(tmp_path / "rows.gfc"), arrays(tmp_path / "state.gfc")
    for name, values in before.items():
        assert np.array_equal(rows[name], values) == (name != "compressed_k/0")
        assert np.array_equal(state[name], values) == (name not in STATE_KINDS)
    with gfcache.read_cache(tmp_path / "state.gfc") as file:
        assert file.has_digests()
    with gfcache.read_cache(tmp_path / "rows.gfc") as file:
        assert not file.has_digests()


def test_what_was_lost_stays_lost_and_noted(path: Path, tmp_path: Path) -> None:
    gfcache.convert_cache(path, tmp_path / "small.gfc", SMALL)
    plain = gfcache.convert_cache(tmp_path / "small.gfc", tmp_path / "plain.gfc", Coding())
    assert Coding.of(plain.numerics) == SMALL
    assert {s.codec for s in plain.sections} == {"raw", "zstd"}
    for name, values in arrays(tmp_path / "small.gfc").items():
        assert np.array_equal(arrays(tmp_path / "plain.gfc")[name], values)


def test_converting_twice_is_converting_once(path: Path, tmp_path: Path) -> None:
    for name, source in (("once", path), ("twice", tmp_path / "once.gfc")):
        gfcache.convert_cache(source, tmp_path / f"{name}.gfc", SMALL)
    assert (tmp_path / "once.gfc").read_bytes() == (tmp_path / "twice.gfc").read_bytes()


@pytest.mark.parametrize("rows", registry.serving(layout.COMPRESSED_K))
def test_a_continued_file_is_joined_with_its_base_whatever_their_codecs(rows: str, path: Path, tmp_path: Path) -> None:
    with gfcache.read_cache(path) as base:
        reference = gfcache.parent_reference(base, 256, tmp_path / "child.gfc")
    own = [
        item
        if item.kind in STATE_KINDS
        else gfcache.SectionData(
            item.name.replace("/0", "/256"), item.kind, item.dtype, item.array[256:], token_start=256, codec=item.codec
        )
        for item in sections()
    ]
    gfcache.write_cache(tmp_path / "child.gfc", header(parent=reference), own)
    gfcache.convert_cache(tmp_path / "child.gfc", tmp_path / "small.gfc", Coding(rows, "int8"))
    assert gfcache.verify_cache(tmp_path / "small.gfc").parent == reference
    gfcache.flatten_cache(tmp_path / "small.gfc", tmp_path / "flat.gfc")
    flat, own_rows = arrays(tmp_path / "flat.gfc")["compressed_k/0"], arrays(tmp_path / "small.gfc")["compressed_k/256"]
    assert np.array_equal(flat, np.concatenate([arrays(path)["compressed_k/0"][:256], own_rows]))
    assert len(flat) == T


def forged(path: Path, out: Path, name: str, **fields: object) -> Path:
    """The file with other fields of one section's row; every checksum right."""
    data = path.read_bytes()
    length = int.from_bytes(data[12:16], "little")
    head = json.loads(data[layout.HEADER_OFFSET : layout.HEADER_OFFSET + length])
    for row in head["sections"]:
        if row["name"] == name:
            row.update(fields)
    payload = data[layout.align(layout.HEADER_OFFSET + length) :]
    out.write_bytes(assemble(json.dumps(head, sort_keys=True, separators=(",", ":")).encode(), payload))
    return out


def test_a_codec_on_what_it_may_not_serve_is_refused(path: Path, tmp_path: Path) -> None:
    for name, codec in ((layout.TOKEN_IDS, "int8"), (layout.WKV_STATE, "step3"), (layout.TAIL_HIDDEN, "kivi4")):
        with pytest.raises(gfcache.DamagedCache, match="R12"):
            gfcache.read_cache(forged(path, tmp_path / "x.gfc", name, codec=codec))


@pytest.mark.parametrize("codec", registry.serving(layout.COMPRESSED_K))
def test_a_few_bytes_that_claim_gigabytes_are_refused(codec: str, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.gfc"
    written = gfcache.convert_cache(path, out, Coding(codec, "int4"))
    rows = next(s for s in written.sections if s.kind == layout.COMPRESSED_K)
    with pytest.raises(gfcache.DamagedCache, match=r"R11|R12"):
        gfcache.read_cache(forged(out, tmp_path / "x.gfc", rows.name, shape=[1 << 28, 4], raw_bytes=1 << 32))
    # Stored under another codec's name, the bytes are refused when they are read, or are other values.
    for other in registry.serving(layout.COMPRESSED_K):
        file = forged(out, tmp_path / "y.gfc", rows.name, codec=other)
        with gfcache.read_cache(file) as cache, contextlib.suppress(gfcache.DamagedCache):
            assert cache.array(cache.section(rows.name)).shape == rows.shape


def test_infinity_from_a_scale_is_refused(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.gfc"
    written = gfcache.convert_cache(path, out, Coding("raw", "int8"))
    state = next(s for s in written.sections if s.kind == layout.WKV_STATE)
    data = bytearray(out.read_bytes())
    start = layout.align(layout.HEADER_OFFSET + int.from_bytes(data[12:16], "little")) + state.offset
    data[start + 4 : start + 6] = b"\x80\x7f"  # the first scale: infinity as bf16
    stored = bytes(data[start : start + state.stored_bytes])
    out.write_bytes(data)
    with (
        gfcache.read_cache(
            forged(out, tmp_path / "x.gfc", state.name, sha256=hashlib.sha256(stored).hexdigest())
        ) as file,
        pytest.raises(gfcache.DamagedCache, match="R16"),
    ):
        file.array(file.section(state.name))

"""Files that continue a base cache: joined, refused by name when the base is missing or replaced, made to stand alone."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
from gfcache import SectionData, layout

from tests.cache_format.craft import assemble
from tests.cache_format.small_cache import T, header, sections

FIRST = 120


def child_sections(first: int = FIRST, tokens: int = T) -> list[SectionData]:
    """The sections of the whole file, those per token cut at `first`."""
    out = []
    for item in sections():
        if item.kind in (layout.TOKEN_IDS, layout.COMPRESSED_K):
            item = replace(item, array=item.array[first:], token_start=first, name=item.name.replace("/0", f"/{first}"))
        out.append(item)
    return out


def make_child(folder: Path, base: Path) -> Path:
    child = folder / "child.gfc"
    with gfcache.read_cache(base) as parent:
        reference = gfcache.parent_reference(parent, FIRST, child)
    gfcache.write_cache(child, header(parent=reference), child_sections())
    return child


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "kb").mkdir()
    path = tmp_path / "kb" / "base.gfc"
    gfcache.write_cache(path, header(writer="base"), sections())
    return path


def test_the_parents_part_is_joined(base: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path, base)
    assert gfcache.verify_cache(child).first_token == FIRST
    with gfcache.read_cache(child) as file:
        for item in sections():
            if item.kind in (layout.TOKEN_IDS, layout.COMPRESSED_K):
                whole, dtype = gfcache.whole_array(file, item.kind)
                np.testing.assert_array_equal(whole, item.array)
                assert dtype == item.dtype
    assert child.stat().st_size < base.stat().st_size


def test_a_chain_of_parents(base: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path, base)
    grandchild = tmp_path / "grandchild.gfc"
    with gfcache.read_cache(child) as parent:
        reference = gfcache.parent_reference(parent, 200, grandchild)
    gfcache.write_cache(grandchild, header(parent=reference), child_sections(200))
    with gfcache.read_cache(grandchild) as file:
        np.testing.assert_array_equal(gfcache.whole_array(file, layout.TOKEN_IDS)[0], sections()[0].array)
    flat = tmp_path / "flat.gfc"
    gfcache.flatten_cache(grandchild, flat)
    base.unlink()
    assert gfcache.verify_cache(flat).parent is None
    with pytest.raises(gfcache.ParentMissing):
        gfcache.verify_cache(grandchild)


def test_flatten_gives_the_sections_of_a_whole_file(base: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat.gfc"
    gfcache.flatten_cache(make_child(tmp_path, base), flat)
    with gfcache.read_cache(flat) as file:
        for item in sections():
            np.testing.assert_array_equal(file.array(file.section(item.name)), item.array)
        assert len(file.header.sections) == len(sections())


def test_a_missing_parent_is_named(base: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path, base)
    base.unlink()
    with pytest.raises(gfcache.ParentMissing, match=r"base\.gfc") as caught:
        gfcache.verify_cache(child)
    assert caught.value.parent == os.path.join("kb", "base.gfc")


def test_a_changed_parent_is_named(base: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path, base)
    gfcache.write_cache(base, header(writer="another"), sections())
    with pytest.raises(gfcache.ParentChanged, match=r"base\.gfc"):
        gfcache.verify_cache(child)


def test_a_moved_parent_is_found_beside_the_child(base: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path, base)
    base.rename(tmp_path / "base.gfc")
    gfcache.verify_cache(child)


def test_a_foreign_file_does_not_hide_the_parent_beside_the_child(base: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path, base)
    base.rename(tmp_path / "base.gfc")
    base.write_bytes(b"something else")
    gfcache.verify_cache(child)
    (tmp_path / "base.gfc").unlink()
    with pytest.raises(gfcache.NotACacheFile, match="kb"):
        gfcache.verify_cache(child)


@pytest.mark.parametrize("linked", ["child", "base"])
def test_a_parent_is_found_through_linked_folders(linked: str, base: Path, tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    if linked == "child":
        gfcache.verify_cache(make_child(tmp_path / "link", base))
    else:
        gfcache.write_cache(tmp_path / "link" / "other.gfc", header(writer="other"), sections())
        gfcache.verify_cache(make_child(tmp_path, tmp_path / "link" / "other.gfc"))


def test_a_damaged_parent_is_refused(base: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path, base)
    data = bytearray(base.read_bytes())
    data[-200] ^= 1  # a section's payload: the digest of the header still fits
    base.write_bytes(data)
    with pytest.raises(gfcache.DamagedCache, match=r"base\.gfc"):
        gfcache.verify_cache(child)


def test_a_parent_of_another_model_is_refused(tmp_path: Path) -> None:
    other = header()
    other = replace(other, model=other.model | {"prefill_fingerprint": "0" * 64})
    base = tmp_path / "base.gfc"
    gfcache.write_cache(base, other, sections())
    with pytest.raises(gfcache.DamagedCache, match="another model"):
        gfcache.verify_cache(make_child(tmp_path, base))


def test_a_parent_of_another_dtype_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base.gfc"
    data = [replace(s, dtype="f64") if s.array.dtype == np.float32 else s for s in sections()]
    gfcache.write_cache(base, header(numerics={"compute_dtype": "f64"}), data)
    with pytest.raises(gfcache.DamagedCache, match="dtype"):
        gfcache.verify_cache(make_child(tmp_path, base))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"digest": "x"}, "R7"),
        ({"path": ""}, "R7"),
        ({"path": "a\0b"}, "R7"),
        ({"name": None}, "R7"),
        ({"tokens": 0}, "R8"),
        ({"tokens": T}, "R8"),
        ({"tokens": -1}, "R8"),
        ({"tokens": FIRST + 1}, "R12"),
    ],
)
def test_strange_references_are_refused(base: Path, tmp_path: Path, changes: dict[str, Any], rule: str) -> None:
    child = make_child(tmp_path, base)
    data = child.read_bytes()
    body_bytes = layout.PREFIX.unpack(data[: layout.PREFIX.size])[3]
    body, payload = data[layout.HEADER_OFFSET :][:body_bytes], data[layout.align(layout.HEADER_OFFSET + body_bytes) :]
    values = json.loads(body)
    values["parent"] |= changes
    child.write_bytes(assemble(json.dumps(values).encode(), payload))
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.verify_cache(child)
    assert caught.value.rule == rule


def test_a_child_whose_part_begins_elsewhere_is_refused(base: Path, tmp_path: Path) -> None:
    child = tmp_path / "child.gfc"
    with gfcache.read_cache(base) as parent:
        reference = gfcache.parent_reference(parent, FIRST, child)
    data = [replace(s, token_start=0) if s.kind == layout.TOKEN_IDS else s for s in child_sections()]
    gfcache.write_cache(child, header(parent=reference), data)
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.read_cache(child)
    assert caught.value.rule == "R13"


def test_devices_and_folders_are_not_cache_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gfc")
    for name in (tmp_path / "pipe.gfc", tmp_path, Path("/dev/zero")):
        with pytest.raises(gfcache.NotACacheFile):
            gfcache.read_cache(name)


def test_damage_is_named_before_the_base_is_missed(base: Path, tmp_path: Path) -> None:
    child = make_child(tmp_path, base)
    data = bytearray(child.read_bytes())
    data[-70] ^= 1
    child.write_bytes(data)
    base.unlink()
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.verify_cache(child)
    assert caught.value.rule == "R14"

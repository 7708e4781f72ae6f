"""Rows of compressed_k read a few at a time: the same as the whole, checked by their digests, bases included."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import gfcache
import numpy as np
import pytest
from gfcache import SectionData, layout
from gfcache.format.rules import row_digests
from gfcache.format.stored_rows import StoredRows

from tests.cache_format.small_cache import header, sections

TOKENS, FIRST = 2 * layout.DIGEST_ROWS + 300, 1500
ROWS = np.random.default_rng(1).standard_normal((TOKENS, 4)).astype(np.float32)


def long_sections(first: int = 0, tokens: int = TOKENS, *, digests: bool = True) -> list[SectionData]:
    ids = np.arange(first, tokens, dtype=np.uint16) % 500
    states = [replace(item, position=tokens) for item in sections() if item.position is not None]
    found = [
        SectionData(layout.TOKEN_IDS, layout.TOKEN_IDS, "u16", ids, token_start=first),
        SectionData(f"compressed_k/{first}", layout.COMPRESSED_K, "f32", ROWS[first:tokens], token_start=first),
        *states,
    ]
    if digests:
        made = row_digests([ROWS[first:tokens]])
        found.append(SectionData(layout.ROW_DIGESTS, layout.ROW_DIGESTS, "u8", made, required=False))
    return found


def write(path: Path, first: int = 0, parent: Path | None = None, *, digests: bool = True) -> Path:
    template = {"prefix_fingerprint": "d" * 64, "document_start": 1, "document_end": TOKENS}
    reference = None
    if parent is not None:
        with gfcache.read_cache(parent) as file:
            reference = gfcache.parent_reference(file, first, path)
    made = header(tokens=TOKENS, template=template, parent=reference)
    gfcache.write_cache(path, made, long_sections(first, digests=digests))
    return path


def stored_rows(path: Path) -> StoredRows:
    with gfcache.read_cache(path) as file:
        found = StoredRows.of(file)
    assert found is not None
    return found


RANGES = [(0, 1), (0, TOKENS), (1023, 1025), (FIRST - 1, FIRST + 1), (TOKENS - 7, TOKENS), (5, 5), (700, 2100)]


@pytest.mark.parametrize("child", [False, True])
def test_ranges_are_those_of_the_whole(child: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "doc.gfc")
    if child:
        path = write(tmp_path / "child.gfc", FIRST, path)
    gfcache.verify_cache(path, complete=True)
    rows = stored_rows(path)
    assert rows.shape == ROWS.shape
    for first, last in RANGES:
        np.testing.assert_array_equal(rows.read(first, last), ROWS[first:last])


def test_what_has_no_digests_is_read_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "doc.gfc", digests=False)
    with gfcache.read_cache(path) as file:
        assert StoredRows.of(file) is None
        np.testing.assert_array_equal(gfcache.whole_array(file, layout.COMPRESSED_K)[0], ROWS)
    child = write(tmp_path / "child.gfc", FIRST, path)
    with gfcache.read_cache(child) as file:
        assert StoredRows.of(file) is None


def test_only_what_is_read_is_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "doc.gfc")
    data = bytearray(path.read_bytes())
    at = data.index(ROWS[1200].tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    rows = stored_rows(path)
    np.testing.assert_array_equal(rows.read(0, 1024), ROWS[:1024])
    with pytest.raises(gfcache.DamagedCache) as caught:
        rows.read(1100, 1101)
    assert caught.value.rule == "R18"
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.verify_cache(path)
    assert caught.value.rule == "R14"


def test_rows_that_are_not_finite_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = ROWS.copy()
    changed[1200, 2] = np.inf
    monkeypatch.setattr("tests.cache_format.format.test_stored_rows.ROWS", changed)
    monkeypatch.setattr("gfcache.format.writer.all_finite", lambda array, dtype: True)
    rows = stored_rows(write(tmp_path / "doc.gfc"))
    with pytest.raises(gfcache.DamagedCache) as caught:
        rows.read(1100, 1101)
    assert caught.value.rule == "R16"


def test_digests_of_other_rows_are_found_by_verifying(tmp_path: Path) -> None:
    path = tmp_path / "doc.gfc"
    template = {"prefix_fingerprint": "d" * 64, "document_start": 1, "document_end": TOKENS}
    items = long_sections()
    items[-1] = replace(items[-1], array=row_digests([ROWS[::-1]]))
    gfcache.write_cache(path, header(tokens=TOKENS, template=template), items)
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.verify_cache(path)
    assert caught.value.rule == "R18"


@pytest.mark.parametrize("change", ["shape", "twice"])
def test_digests_of_another_shape_are_refused(change: str, tmp_path: Path) -> None:
    template = {"prefix_fingerprint": "d" * 64, "document_start": 1, "document_end": TOKENS}
    items = long_sections()
    if change == "shape":
        items[-1] = replace(items[-1], array=items[-1].array[:-1])
    else:
        items.append(replace(items[-1], name="again"))
    gfcache.write_cache(tmp_path / "doc.gfc", header(tokens=TOKENS, template=template), items)
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.read_cache(tmp_path / "doc.gfc")
    assert caught.value.rule == "R12"


def test_a_file_that_was_replaced_or_cut_meanwhile(tmp_path: Path) -> None:
    path = write(tmp_path / "doc.gfc")
    rows = stored_rows(path)
    path.unlink()
    np.testing.assert_array_equal(rows.read(2, 9), ROWS[2:9])
    path = write(tmp_path / "other.gfc")
    rows = stored_rows(path)
    os.truncate(path, 4096)
    with pytest.raises(gfcache.DamagedCache) as caught:
        rows.read(1100, 1101)
    assert caught.value.rule == "R3"


def test_a_file_made_to_stand_alone_has_digests_of_all_its_rows(tmp_path: Path) -> None:
    base = write(tmp_path / "doc.gfc")
    child = write(tmp_path / "child.gfc", FIRST, base)
    gfcache.flatten_cache(child, tmp_path / "flat.gfc")
    gfcache.verify_cache(tmp_path / "flat.gfc", complete=True)
    np.testing.assert_array_equal(stored_rows(tmp_path / "flat.gfc").read(0, TOKENS), ROWS)


def test_files_are_closed_with_the_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "doc.gfc")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    rows = stored_rows(path)
    rows.read(0, 5)
    del rows
    if before:
        assert len(os.listdir("/proc/self/fd")) == before

"""Files that keep some of their rows: which those are, the rules that hold, and what a reader of 1.0 makes of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gfcache
import numpy as np
import pytest
from gfcache import SectionData, layout
from gfcache.format.compare import compare_caches
from gfcache.format.kept import stretches, tokens_stored
from gfcache.format.stored_rows import StoredRows, kept_in
from gfcache.format.writer import digests_of

from tests.cache_format.craft import craft
from tests.cache_format.small_cache import T, expect_unwritable, header, sections
from tests.cpu_time import PATIENCE_S

GOLDEN = Path(__file__).parents[2] / "golden"
READER_1_0, FILE = GOLDEN / "gfcache-1.0.zip", GOLDEN / "v1_1" / "dropped" / "kept.gfc"
DIGEST = "14c901d093306b11e42fa7bd0fbe560a1fc5273f488e826be76cb9cfbd5ca981"
RUNS = ((0, 4), (9, 10), (11, 12), (50, 120), (290, T))


def small(runs: tuple[tuple[int, int], ...] = RUNS, rows: int | None = None) -> list[SectionData]:
    """The small cache with these rows; `rows` of them where a file lies."""
    stored = tokens_stored(runs)[:rows]
    kept = SectionData(layout.KEPT_POSITIONS, layout.KEPT_POSITIONS, "u32", np.array(runs), codec="zstd")
    found = [
        replace(item, array=item.array[stored]) if item.kind == layout.COMPRESSED_K else item for item in sections()
    ]
    return [kept, *found, *digests_of(found)]


def write(path: Path, items: list[SectionData], **fields: Any) -> Path:
    gfcache.write_cache(path, header(**({"numerics": {"compute_dtype": "f32", "dropping": "h2o 0.2"}} | fields)), items)
    return path


def test_a_run_is_stored_with_the_row_before_it() -> None:
    assert stretches(RUNS) == ((0, 4), (8, 10), (10, 12), (49, 120), (289, T))
    assert stretches(((5, 7),)) == ((4, 7),)
    assert tokens_stored(((0, 2), (5, 7))).tolist() == [0, 1, 4, 5, 6]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "doc.gfc", small())
    gfcache.verify_cache(path, complete=True)
    whole = sections()[1].array
    with gfcache.read_cache(path) as file:
        assert kept_in(file) == RUNS
        assert file.header.kept_rows == len(tokens_stored(RUNS)) == 90
        rows, _ = gfcache.whole_array(file, layout.COMPRESSED_K)
        np.testing.assert_array_equal(rows, whole[tokens_stored(RUNS)])
        lazy = StoredRows.of(file)
        assert lazy is not None
        np.testing.assert_array_equal(lazy.read(70, 90), rows[70:])
        assert len(gfcache.whole_array(file, layout.TOKEN_IDS)[0]) == T
    shown = gfcache.inspect_cache(path)["kept"]
    assert shown == {"policy": "h2o 0.2", "rows": 86, "sets": 1, "runs": 5, "stored_rows": 90}
    plain = write(tmp_path / "plain.gfc", sections())
    assert gfcache.inspect_cache(plain)["kept"] is None


def test_it_is_rounded_joined_and_exported_as_others_are(tmp_path: Path) -> None:
    path = write(tmp_path / "doc.gfc", small())
    gfcache.convert_cache(path, tmp_path / "round.gfc", gfcache.Coding("int8"))
    gfcache.verify_cache(tmp_path / "round.gfc", complete=True)
    gfcache.flatten_cache(path, tmp_path / "flat.gfc")
    gfcache.verify_cache(tmp_path / "flat.gfc", complete=True)
    gfcache.export_safetensors(path, tmp_path / "doc.safetensors")
    for name in ("round.gfc", "flat.gfc"):
        with gfcache.read_cache(tmp_path / name) as file:
            assert kept_in(file) == RUNS
    with gfcache.read_cache(path) as one, gfcache.read_cache(tmp_path / "flat.gfc") as other:
        assert compare_caches(one, other)["equal"]


@pytest.mark.parametrize(
    "runs",
    [
        ((0, 4), (4, 10), (290, T)),  # touch
        ((0, 4), (3, 10), (290, T)),
        ((0, 4), (9, 9), (290, T)),
        ((9, 10), (0, 4), (290, T)),
        ((0, 4), (290, T - 1)),  # not to the end
        ((0, 4), (290, T + 1)),
        ((0, 4), (T - 2, T)),  # the tail has three rows
    ],
)
def test_runs_that_are_none_are_damage(runs: tuple[tuple[int, int], ...], tmp_path: Path) -> None:
    path = write(tmp_path / "doc.gfc", small())
    other = np.array([*runs, *((290, T) for _ in range(len(RUNS) - len(runs)))])
    craft(path, tmp_path / "bad.gfc", arrays={layout.KEPT_POSITIONS: other[: len(RUNS)]})
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.verify_cache(tmp_path / "bad.gfc")
    assert caught.value.rule == "R19"


def test_as_many_rows_as_the_runs_have(tmp_path: Path) -> None:
    write(tmp_path / "bad.gfc", small(rows=89))
    with pytest.raises(gfcache.DamagedCache, match="runs of 90 rows") as caught:
        gfcache.verify_cache(tmp_path / "bad.gfc")
    assert caught.value.rule == "R19"


def test_a_table_that_breaks_the_rules_is_damage(tmp_path: Path) -> None:
    kept, *others = small()
    states = [item for item in others if item.position is not None]
    earlier = [replace(item, name=f"{item.name}@100", position=100) for item in states]
    parent = {"digest": "e" * 64, "tokens": 10, "name": "base.gfc", "path": "base.gfc"}
    own = [
        replace(item, array=item.array[10:], token_start=10) if item.kind == layout.TOKEN_IDS else item
        for item in others
    ]
    for rule, items, fields in (
        ("R13", [kept, replace(kept, name="again"), *others], {}),
        ("R12", [replace(kept, required=False), *others], {}),
        ("R12", [replace(kept, array=np.array([0, T])), *others], {}),
        ("R12", [replace(kept, dtype="u16"), *others], {}),
        ("R12", others, {}),  # some rows, and nothing that says which
        ("R13", [kept, *others, *earlier], {}),
        ("R13", [kept, *own], {"parent": parent}),
    ):
        path = write(tmp_path / "bad.gfc", items, **fields)
        with pytest.raises(gfcache.DamagedCache) as caught:
            gfcache.read_cache(path)
        assert caught.value.rule == rule
    expect_unwritable(tmp_path, small(), "R7", numerics={"dropping": 3})


def test_nothing_continues_it(tmp_path: Path) -> None:
    path = write(tmp_path / "doc.gfc", small())
    with gfcache.read_cache(path) as file:
        parent = gfcache.parent_reference(file, 100, tmp_path / "child.gfc")
    items = [
        replace(item, array=item.array[100:], token_start=100) if item.token_start == 0 else item for item in sections()
    ]
    items = [replace(item, name="compressed_k/100") if item.kind == layout.COMPRESSED_K else item for item in items]
    child = write(tmp_path / "child.gfc", items, parent=parent)
    with pytest.raises(gfcache.DamagedCache) as caught:
        gfcache.verify_cache(child)
    assert caught.value.rule == "R13"


def test_the_golden_file_is_read() -> None:
    header = gfcache.verify_cache(FILE, complete=True)
    assert header.digest == DIGEST
    with gfcache.read_cache(FILE) as file:
        assert kept_in(file) == RUNS
        rows = gfcache.whole_array(file, layout.COMPRESSED_K)[0]
    np.testing.assert_array_equal(rows, sections()[1].array[tokens_stored(RUNS)])


def test_a_reader_of_1_0_refuses_it_by_name() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gfcache\n"
        "try: gfcache.read_cache(sys.argv[2])\n"
        "except gfcache.UnsupportedSection as error: print(error.field, error.found)"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script, READER_1_0, FILE],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (ran.stdout, ran.stderr) == ("kind kept_positions\n", "")

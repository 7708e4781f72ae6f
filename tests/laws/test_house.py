"""The laws of the house hold in the tree as it is: ARCHITECTURE section 3 as code."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laws import rules
from tests.laws.rules import Law
from tests.laws.sources import read_sources

ROOT = Path(__file__).parents[2]
PRODUCT = read_sources(
    {
        "gfcli": ROOT / "gfcli",
        "goldfinch": ROOT / "goldfinch",
        "gfkernels": ROOT / "kernels" / "gfkernels",
        "gfcache": ROOT / "cache_format" / "gfcache",
        "bench": ROOT / "bench",
    }
)
TESTS = read_sources({"tests": ROOT / "tests"})


@pytest.mark.parametrize("law", rules.PRODUCT_LAWS, ids=lambda law: law.__name__)
def test_what_is_shipped(law: Law) -> None:
    assert list(law(PRODUCT)) == []


@pytest.mark.parametrize("law", rules.TEST_LAWS, ids=lambda law: law.__name__)
def test_the_tests(law: Law) -> None:
    assert list(law(TESTS)) == []


def test_every_package_is_read() -> None:
    """A law over no files would hold for ever."""
    read = {source.place for source in PRODUCT}
    for place in ("gfcli/app.py", "goldfinch/models/gold.py", "gfkernels/dispatch.py", "gfcache/layout.py"):
        assert place in read
    imported = [one.target for source in PRODUCT for one in source.imports]
    assert "goldfinch.models.config" in imported
    assert "torch" in imported


def too_large(sizes: dict[str, int]) -> Iterator[str]:
    """40 MB for the tree; 250 kB a file outside the assets and the golden sets."""
    if sum(sizes.values()) >= 40_000_000:
        yield "the tree"
    for place, size in sizes.items():
        if size > 250_000 and "assets" not in Path(place).parts and not place.startswith("tests/golden/"):
            yield place


def test_the_tree_is_small_enough() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("an unpacked source archive does not say which files are the project's")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    sizes = {name: (ROOT / name).stat().st_size for name in listed.split("\0") if name and (ROOT / name).is_file()}
    assert len(sizes) > 100
    assert list(too_large(sizes)) == []


def test_a_large_file_is_noticed() -> None:
    assert list(too_large({"docs/film.bin": 250_001, "tests/golden/a/w.bin": 300_000, "goldfinch/assets/m": 1})) == [
        "docs/film.bin"
    ]
    assert list(too_large({"goldfinch/assets/m": 40_000_000})) == ["the tree"]

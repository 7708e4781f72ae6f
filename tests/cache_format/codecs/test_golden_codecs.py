"""Files of every codec, format 1.1, give the values that they were written with, and a reader of 1.0 refuses them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gfcache
import pytest
from gfcache import Coding, layout
from gfcache.codecs import registry

from tests.cpu_time import PATIENCE_S

from .golden import FOLDER, PAIRS, coding_of, pairs_coding, values_in

READER_1_0 = FOLDER.parents[1] / "gfcache-1.0.zip"
# Of our own models, and of models of others.
NAMES = (*registry.serving(layout.COMPRESSED_K), *(f"{PAIRS}{name}" for name in registry.serving(layout.KV_KEYS)))
EXPECTED = json.loads((FOLDER / "expected.json").read_text())


def test_there_is_a_file_of_every_lossy_codec() -> None:
    assert {path.stem for path in FOLDER.glob("*.gfc")} == set(NAMES)
    assert set(EXPECTED) == {f"{name}.gfc" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_values_are_those_that_were_written(name: str, tmp_path: Path) -> None:
    path = FOLDER / f"{name}.gfc"
    coding = pairs_coding(name.removeprefix(PAIRS)) if name.startswith(PAIRS) else coding_of(name)
    header = gfcache.verify_cache(path, complete=True)
    assert header.digest == EXPECTED[path.name]["digest"]
    assert values_in(path) == EXPECTED[path.name]["values"]
    assert Coding.of(header.numerics) == coding
    # With any zstandard, what is read and written again has the same values.
    gfcache.convert_cache(path, tmp_path / "again.gfc", coding)
    assert values_in(tmp_path / "again.gfc") == EXPECTED[path.name]["values"]


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_of_1_0_refuses_by_name(name: str) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import gfcache\n"
        "try: gfcache.read_cache(sys.argv[2])\n"
        "except gfcache.UnsupportedSection as error: print(error.field, error.found)"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script, READER_1_0, FOLDER / f"{name}.gfc"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert ran.stdout in ("codec lzma\n", "codec ids\n")
    assert ran.stderr == ""

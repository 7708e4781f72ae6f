"""The files of format 1.1 are read, and answered from, as they were when they were made."""

from __future__ import annotations

import dataclasses
import json

import gfcache
import pytest

from bench.others.tiny_models import config_json
from goldfinch.foreign import library
from goldfinch.foreign.configuration import clean_config
from tests.cache_format.craft import sections_of
from tests.goldfinch.foreign.running.golden import ANSWER, FOLDER, NAMES, QUESTION, engine_for

EXPECTED = json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("kind", NAMES)
def test_files_answer_as_they_did(kind: str, tmp_path) -> None:
    expected, path = EXPECTED[kind], FOLDER / kind / "document.gfc"
    assert gfcache.verify_cache(path, complete=True).digest == expected["digest"]
    assert path.stat().st_size < 250_000
    name = expected["architecture"]
    weights = library.read_tensors([FOLDER / kind / "model.safetensors"])
    engine = engine_for(kind, library.network_of(clean_config(config_json(name)), weights))
    cache = engine.open(path)
    assert engine.session(cache).generate(QUESTION, max_tokens=ANSWER) == expected["generated"]
    header, rows = sections_of(path)
    written = gfcache.write_cache(tmp_path / "again.gfc", dataclasses.replace(header, sections=()), rows)
    assert written.digest == expected["digest"]

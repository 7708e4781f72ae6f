"""Caches from strangers, every checksum right: each command answers, or refuses with words and a documented exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfcli.app import run
from tests.cache_format.craft import craft, sections_of
from tests.gfcli.conftest import TEXT

ASK = ["ask", "-n", "3", "What?", "--cache"]


@pytest.mark.parametrize("numerics", [{}, {"compute_dtype": None, "threads": None}])
def test_a_cache_that_does_not_say_how_it_was_computed_is_asked(
    numerics: dict[str, Any], cache: Path, tiny_model: Path, tmp_path: Path, capsys
) -> None:
    assert run([*ASK, str(cache), "-m", str(tiny_model)]) == 0
    expected = capsys.readouterr().out
    assert run([*ASK, str(craft(cache, tmp_path / "x.gfc", numerics=numerics)), "-m", str(tiny_model)]) == 0
    assert capsys.readouterr().out == expected


def test_a_cache_of_another_shape_is_refused_by_every_command(cache: Path, tiny_model: Path, capsys) -> None:
    """Where it stands in the place of the document's own, that is recomputed."""
    document = cache.with_suffix(".txt")
    source = sections_of(cache)[0].source | {"sha256": "0" * 64}
    craft(cache, cache, config={"head_dim": 32}, arrays={"wkv_state": np.zeros((2, 2, 32, 32))}, source=source)
    assert run([*ASK, str(cache), "-m", str(tiny_model)]) == 5
    assert "config.head_dim is 32, this model has 64" in capsys.readouterr().err
    assert run(["verify", "--replay", "100%", str(cache), "-m", str(tiny_model)]) == 5
    assert run(["prefill", str(document), "-m", str(tiny_model)]) == 0
    assert run(["verify", "--replay", "100%", str(cache), "-m", str(tiny_model)]) == 0


def test_values_beyond_the_dtype_of_the_run_are_refused(document: Path, tiny_model: Path, capsys) -> None:
    options = ["-m", str(tiny_model)]
    assert run(["prefill", str(document), *options, "--dtype", "float64"]) == 0
    cache = document.with_suffix(".gfc")
    craft(cache, cache, arrays={"compressed_k/0": np.full((sections_of(cache)[0].tokens, 4), 1e300)})
    assert run([*ASK, str(cache), *options, "--dtype", "float32"]) == 6
    assert "compressed_k beyond what float32 can hold" in capsys.readouterr().err


def test_checkpoints_are_not_read_for_questions(document: Path, tiny_model: Path, monkeypatch) -> None:
    """A small file may hold thousands that decompress to hundreds of megabytes."""
    from gfcache import CacheFile

    options = ["-m", str(tiny_model)]
    document.write_text(TEXT * 2)
    assert run(["prefill", str(document), *options, "--checkpoints", "512"]) == 0
    cache, read = document.with_suffix(".gfc"), CacheFile.array
    assert sum(row.kind == "tail_hidden" for row in sections_of(cache)[1]) > 1
    seen: list[str] = []
    monkeypatch.setattr(CacheFile, "array", lambda file, section: [seen.append(section.name), read(file, section)][1])
    assert run([*ASK, str(cache), *options]) == 0
    assert "tail_hidden" in seen
    assert not [name for name in seen if "@" in name]
    assert run(["verify", "--replay", "100%", str(cache), *options]) == 0
    assert [name for name in seen if "@" in name]


def test_a_replay_of_everything_needs_no_share(
    cache: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (["verify", "--replay", str(cache)], ["verify", str(cache), "--replay"]):
        assert run([*line, "-m", str(tiny_model)]) == 0
        assert "replayed" in capsys.readouterr().out

"""Replay finds one flipped weight, one swapped token, one altered vector."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gfcli.app import run
from goldfinch import load_model, open_cache, prefill
from goldfinch.caching.document_cache import DocumentCache
from goldfinch.engine.replay import replay_cache
from goldfinch.models.executor import BLOCK_TOKENS
from goldfinch.models.language_model import LanguageModel
from tests.conftest import golden_folders
from tests.goldfinch.states import document


def opened(model: LanguageModel, path: Path, checkpoints: list[int]) -> DocumentCache:
    prefill(model, document(model, 2000), checkpoints=checkpoints).save(path)
    return open_cache(path, model)


@pytest.mark.parametrize("name", sorted(golden_folders()))
def test_an_honest_cache_replays_exactly(name: str, imported: Callable[[str], Path], tmp_path: Path) -> None:
    model = load_model(imported(name))
    report = replay_cache(model, opened(model, tmp_path / "a.gfc", []))
    assert (report.tokens, report.windows, report.exact, report.difference) == (2000, 1, True, None)


def test_every_alteration_is_found(imported: Callable[[str], Path], tmp_path: Path) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    honest = opened(model, tmp_path / "a.gfc", [512, 1024, 1536])
    assert replay_cache(model, honest).windows == 4

    for token in (0, 511, 512, 1700, 1999):
        cache = copy.deepcopy(honest)
        cache.token_ids[token] = (cache.token_ids[token] + 1) % model.config.vocab_size
        found = str(replay_cache(model, cache).difference)
        assert found.startswith("compressed_k differs first at token ")
        # Rounding inside a block may depend on all of its tokens, so an earlier row of the block may differ too.
        assert token // BLOCK_TOKENS * BLOCK_TOKENS <= int(found.split()[-1]) <= token
        cache = copy.deepcopy(honest)
        assert cache.compressed_k is not None
        cache.compressed_k[0, token, 2] *= 1 + 1e-6
        assert replay_cache(model, cache).difference == f"compressed_k differs first at token {token}"
    cache = copy.deepcopy(honest)
    cache.state.layers[1].wkv_state[0, 0, 5, 5] += 1e-6
    assert "wkv_state of layer 1" in str(replay_cache(model, cache).difference)
    cache = copy.deepcopy(honest)
    cache.tail_hidden[0, 0, 0] += 1e-6
    assert "tail_hidden" in str(replay_cache(model, cache).difference)
    cache = copy.deepcopy(honest)
    cache.checkpoints[1].state.layers[0].time_shift_state[0, 7] += 1e-6
    assert "time_shift_state of layer 0 differs at token 1024" in str(replay_cache(model, cache).difference)


@torch.no_grad()
def test_one_flipped_weight_is_found(imported: Callable[[str], Path], tmp_path: Path) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    cache = opened(model, tmp_path / "a.gfc", [])
    model.blocks[1].ffn.value.weight[3, 5] += 1e-3
    assert replay_cache(model, cache).difference is not None


def test_a_share_finds_with_at_least_that_probability(imported: Callable[[str], Path], tmp_path: Path) -> None:
    model = load_model(imported("goldfinch_ratio2"))
    cache = opened(model, tmp_path / "a.gfc", [512, 1024, 1536])
    for token in (100, 1990):
        altered = copy.deepcopy(cache)
        altered.token_ids[token] = (altered.token_ids[token] + 1) % model.config.vocab_size
        reports = [replay_cache(model, altered, share=0.4, seed=seed) for seed in range(60)]
        found = sum(report.difference is not None for report in reports) / len(reports)
        # Two windows of four are drawn: a half; three standard deviations below is 0.31.
        assert found > 0.31
        assert any(report.difference is None for report in reports)


def test_other_numerics_are_compared_within_rounding(imported: Callable[[str], Path], tmp_path: Path) -> None:
    cache = opened(load_model(imported("goldfinch_ratio2")), tmp_path / "a.gfc", [512])
    model = load_model(imported("goldfinch_ratio2"), dtype=torch.float64)
    cache = open_cache(tmp_path / "a.gfc", model)
    report = replay_cache(model, cache)
    assert not report.exact
    cache.token_ids[900] = (cache.token_ids[900] + 1) % model.config.vocab_size
    assert replay_cache(model, cache).difference is not None


def test_the_command(tiny_model: Path, other_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import jsonschema

    path = tmp_path / "doc.txt"
    path.write_text("Some words, and some more. " * 100)
    assert run(["prefill", str(path), "-m", str(tiny_model), "-q"]) == 0
    cache = str(path.with_suffix(".gfc"))
    capsys.readouterr()
    assert run(["verify", cache]) == 0
    assert "ok" in capsys.readouterr().out
    assert run(["verify", "--replay", "100%", "--json", "-m", str(tiny_model), cache]) == 0
    result = json.loads(capsys.readouterr().out)
    schema = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "verify.json").read_text())
    jsonschema.validate(result, schema)
    assert result["tokens_replayed"] == result["tokens"]
    assert run(["verify", "--replay", "100%", "-m", str(other_model), cache]) == 5
    assert run(["verify", "--replay", "none", cache]) == 2
    data = bytearray(path.with_suffix(".gfc").read_bytes())
    data[-100] ^= 1
    bad = tmp_path / "bad.gfc"
    bad.write_bytes(bytes(data))
    assert run(["verify", str(bad)]) == 6
    assert run(["verify", cache, str(bad)]) == 3

"""The trainer at toy size: it learns, survives being cut, and its data is what it should be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from goldfinch import load_model
from goldfinch.errors import CheckpointError, ConfigError
from goldfinch.measure.conditions import processor_features
from goldfinch.models.presets import presets
from goldfinch.train import throughput, trainer
from goldfinch.train.checkpoint import read_checkpoint, write_checkpoint
from goldfinch.train.recipe import Recipe, Stage, read_recipe
from goldfinch.train.trainer import train


def test_a_cut_run_ends_with_the_same_weights(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    assert recipe.total_steps == 8
    whole = train(recipe, corpora, tmp_path / "whole", compile_model=False)
    for stop in (1, 3, 6, None):
        cut = train(recipe, corpora, tmp_path / "cut", compile_model=False, stop_after=stop)
    a, b = load_model(whole), load_model(cut)
    assert a.card.model_fingerprint == b.card.model_fingerprint
    assert a.tokenizer is not None
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 3, 6, 8]
    other = replace(recipe, model=replace(recipe.model, d_ffn=128))
    with pytest.raises(CheckpointError, match="another recipe"):
        train(other, corpora, tmp_path / "cut", compile_model=False)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_with_workers_and_any_optimizer_is_the_same_when_cut(
    optimizer: str, recipe: Recipe, corpora: Path, tmp_path: Path
) -> None:
    recipe = replace(recipe, optimizer=optimizer)
    whole = train(recipe, corpora, tmp_path / "whole", compile_model=False)
    for stop in (3, None):
        cut = train(recipe, corpora, tmp_path / "cut", compile_model=False, stop_after=stop, workers=2)
    assert load_model(whole).card.model_fingerprint == load_model(cut).card.model_fingerprint
    entry = json.loads((tmp_path / "cut" / "log.jsonl").read_text().splitlines()[-1])
    assert entry["tokens"] == 4 * 96 * 2 + 4 * 128 * 2
    assert 0 < entry["peak_share"] < 1
    other = replace(recipe, optimizer="muon" if optimizer == "adamw" else "adamw")
    with pytest.raises(CheckpointError, match="another recipe"):
        train(other, corpora, tmp_path / "cut", compile_model=False)


@pytest.mark.parametrize("preset", ["llama-tiny", "finch-tiny", "finch_c2-tiny", "gptalpha-tiny"])
def test_baselines_are_trained_alike(preset: str, recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    model = replace(presets()[preset], vocab_size=300)
    stages = (Stage(30 * 96 * 4, 96, 4, {"text": 1.0}),)
    entries: list[dict[str, float]] = []
    path = train(
        replace(recipe, model=model, stages=stages),
        corpora,
        tmp_path / "run",
        compile_model=False,
        report=entries.append,
    )
    assert entries[-1]["loss"] < entries[0]["loss"] - 0.2
    assert load_model(path).config.model_type == model.model_type


def test_a_run_goes_on_with_its_own_recipe_only(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    train(recipe, corpora, tmp_path, compile_model=False, stop_after=2)
    for changed in (replace(recipe, seed=2), replace(recipe, learning_rate=1e-3)):
        with pytest.raises(CheckpointError, match="another recipe"):
            train(changed, corpora, tmp_path, compile_model=False, stop_after=3)
    train(replace(recipe, save_seconds=1.0), corpora, tmp_path, compile_model=False, stop_after=3)


def test_a_run_can_start_from_a_model(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    first = train(recipe, corpora, tmp_path / "first", compile_model=False)
    second = replace(recipe, start=(str(first),), learning_rate=0.0, final_learning_rate=0.0)
    again = train(second, corpora, tmp_path / "second", compile_model=False)
    assert load_model(again).card.model_fingerprint == load_model(first).card.model_fingerprint


def test_a_recipe_without_a_stage_writes_the_mean_of_models(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    paths = [
        train(replace(recipe, seed=seed), corpora, tmp_path / f"{seed}", compile_model=False, stop_after=None)
        for seed in (1, 2)
    ]
    mean = replace(recipe, start=tuple(map(str, paths)), stages=())
    models = [load_model(path).state_dict() for path in (*paths, train(mean, corpora, tmp_path / "mean"))]
    for name, tensor in models[2].items():
        expected = ((models[0][name] + models[1][name]) / 2).to(torch.bfloat16).float()
        assert torch.equal(tensor, expected), name
    path = tmp_path / "empty.toml"
    path.write_text('name = "x"\ntokenizer = ""\n')
    with pytest.raises(ConfigError, match="stage"):
        read_recipe(path)


WITHOUT_BF16 = pytest.mark.skipif(not processor_features(), reason="no bf16 instructions here: it takes minutes")


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=WITHOUT_BF16)])
def test_the_loss_falls(precision: str, recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    longer = replace(recipe, stages=(Stage(40 * 96 * 4, 96, 4, {"text": 1.0}),), precision=precision)
    entries: list[dict[str, float]] = []
    train(longer, corpora, tmp_path / "run", compile_model=False, report=entries.append)
    assert entries[-1]["loss"] < entries[0]["loss"] - 0.3


def test_steps_in_bfloat16_are_close_to_those_in_float32(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    losses, weights = {}, {}
    for precision in ("float32", "bfloat16"):
        short = replace(recipe, stages=(Stage(3 * 32 * 2, 32, 2, {"text": 1.0}),), precision=precision)
        train(short, corpora, tmp_path / precision, compile_model=False)
        lines = (tmp_path / precision / "log.jsonl").read_text().splitlines()
        losses[precision] = json.loads(lines[-1])["loss"]
        weights[precision] = load_file(next((tmp_path / precision).rglob("*.safetensors")))
    assert any(not torch.equal(value, weights["float32"][key]) for key, value in weights["bfloat16"].items())
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


def test_a_run_ends_in_the_precision_in_which_it_began(
    recipe: Recipe, corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may begin on a processor with instructions for bf16 and be gone on with on one without, or the other way."""
    short = replace(recipe, stages=(Stage(4 * 32 * 2, 32, 2, {"text": 1.0}),), precision="auto")
    found = {}
    for name, begun, other in (("f32", "f32", "bf16"), ("bf16", "bf16", "f32")):
        for quickest, stop in ((begun, 2), (other, None)):
            monkeypatch.setattr(trainer, "quickest_dtype", lambda device, quickest=quickest: quickest)
            path = train(short, corpora, tmp_path / name, compile_model=False, stop_after=stop)
        found[name] = load_model(path).card.model_fingerprint
    for name, precision in (("f32", "float32"), ("bf16", "bfloat16")):
        path = train(replace(short, precision=precision), corpora, tmp_path / precision, compile_model=False)
        assert load_model(path).card.model_fingerprint == found[name]
    assert found["f32"] != found["bf16"]


def test_a_checkpoint_of_another_precision_is_refused(recipe: Recipe, corpora: Path, tmp_path: Path) -> None:
    auto = replace(recipe, precision="auto")
    checkpoint = train(auto, corpora, tmp_path, compile_model=False, stop_after=1)
    write_checkpoint(checkpoint, read_checkpoint(checkpoint) | {"precision": "float8"})
    with pytest.raises(CheckpointError, match="'float8', allowed: float32 or bfloat16"):
        train(auto, corpora, tmp_path, compile_model=False)


def test_a_slow_matrix_product_is_timed_at_a_small_size(monkeypatch) -> None:
    seen = []

    def seconds(side: int, device: torch.device, dtype: torch.dtype, repeats: int) -> float:
        seen.append(side)
        return side**3 * 1e-9

    monkeypatch.setattr(throughput, "_product_seconds", seconds)
    assert throughput.matrix_rate.__wrapped__(torch.device("cpu"), torch.bfloat16) == pytest.approx(2e9)
    assert seen == [256, 512, 512]

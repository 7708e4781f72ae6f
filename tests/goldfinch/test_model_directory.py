"""Configurations, importing, fingerprints, lookup by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from gfcli.app import run
from goldfinch.errors import CheckpointError, ConfigError, ModelDamaged, ModelNotFound
from goldfinch.models.config import ModelConfig, presets
from goldfinch.models.language_model import LanguageModel
from goldfinch.text.tokenizer import read_tokenizer
from goldfinch.weights.directory import find_model, list_models, read_card, weights_bytes_of
from goldfinch.weights.files import read_weights
from goldfinch.weights.fingerprints import fingerprints, prefill_keys
from goldfinch.weights.loading import load_model, verify_model
from goldfinch.weights.published import config_from_published
from goldfinch.weights.writing import import_model, write_model_directory
from tests.conftest import SMALL_GOLDEN


def test_presets_have_the_paper_s_proportions() -> None:
    shapes = presets()
    large = shapes["goldfinch-24x2048"]
    assert (large.n_prefill, large.n_gold, large.tail_length, large.d_compressed) == (16, 8, 17, 128)
    small = shapes["goldfinch-12x768"]
    assert (small.n_prefill, small.n_gold, small.d_ffn, small.vocab_size) == (8, 4, 2688, 65536)
    assert shapes["llama-12x768"].d_ffn == 2048


@pytest.mark.parametrize(
    "change",
    [
        {"d_model": 100}, {"n_layer": 0}, {"time_mix": "mamba"}, {"upper_time_mix": "silver"}, {"layer_ratio": 1},
        {"compression_ratio": 7}, {"time_mix": "llama"}, {"n_layer": "six"}, {"colour": "gold"}, {"rope": {"bass": 1}},
        {"rope": {"base": "x"}}, {"rope": 1}, {"context_length": None}, {"group_norm_divisor": 0}, {"one_minus_w": 1}, {"n_layer": True},
    ],
)  # fmt: skip
def test_impossible_configurations(change: dict[str, object]) -> None:
    values = presets()["goldfinch-tiny"].to_dict()
    ModelConfig.from_dict(values)
    with pytest.raises(ConfigError):
        ModelConfig.from_dict(values | change)


def test_published_configuration() -> None:
    values = json.loads((SMALL_GOLDEN / "finch_gold" / "config.json").read_text())
    config = config_from_published(values)
    assert (config.model_type, config.n_prefill, config.n_gold) == ("finch_gold", 5, 1)
    with pytest.raises(ConfigError, match="dim_att"):
        config_from_published(values | {"dim_att": 32})
    with pytest.raises(ConfigError):
        config_from_published({"n_embd": 64})


def test_fingerprints_see_what_prefill_reads_and_nothing_else() -> None:
    torch.manual_seed(0)
    config = presets()["goldfinch-tiny"]
    weights = dict(LanguageModel(config).state_dict())
    prefill, model = fingerprints(config, weights)
    keys = set(prefill_keys(config, weights))
    assert "emb.weight" in keys
    assert "w_kv_cache_a.weight" in keys
    assert "w_kv_cache_b.weight" not in keys
    assert not any(key.startswith("blocks.2.") for key in keys)  # the GOLD layer
    for key in ("emb.weight", "blocks.0.ln0.weight", "blocks.1.att.time_decay", "w_kv_cache_a.weight", "head.weight"):
        changed = weights | {key: weights[key] + 1e-3}
        new_prefill, new_model = fingerprints(config, changed)
        assert new_model != model
        assert (new_prefill != prefill) == (key in keys), key
    half = {key: tensor.bfloat16() for key, tensor in weights.items()}
    assert fingerprints(config, half) == fingerprints(config, {key: t.float() for key, t in half.items()})


def test_weights_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(SMALL_GOLDEN / "finchc2" / "weights.safetensors")
    config = str(SMALL_GOLDEN / "goldfinch_ratio2" / "config.json")
    out = tmp_path / "out"
    assert run(["model", "import", weights, "--config", config, "-o", str(out)]) == 2
    assert "do not fit" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run(["model", "import", str(tmp_path / "no.pth"), "--config", config, "-o", str(out)]) == 4
    assert run(["model", "import", weights, "--config", str(tmp_path / "no.json"), "-o", str(out)]) == 4
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(Path(weights).read_bytes()[:1000])
    assert run(["model", "import", str(damaged), "--config", config, "-o", str(out)]) == 2


class Payload:
    """An object whose unpickling would leave a trace."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("open('executed', 'w')",))


def test_a_pth_never_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open("evil.pth", "wb") as stream:
        pickle.dump({"emb.weight": Payload()}, stream)
    torch.save({"emb.weight": Payload()}, "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(CheckpointError):
            read_weights(Path(name))
    assert not Path("executed").exists()


def test_tied_weights_are_imported(tiny_model: Path, tmp_path: Path) -> None:
    weights = read_weights(tiny_model / "model.safetensors")
    weights["head.weight"] = weights["emb.weight"]
    torch.save(weights, tmp_path / "tied.pth")
    command = ["model", "import", str(tmp_path / "tied.pth"), "--config", str(tiny_model / "config.json"), "-o"]
    assert run([*command, str(tmp_path / "out")]) == 0
    found = read_weights(tmp_path / "out" / "model.safetensors")
    assert torch.equal(found["head.weight"], weights["emb.weight"])


def test_weights_that_are_not_finite(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = read_weights(tiny_model / "model.safetensors")
    weights["head.weight"] = torch.full_like(weights["head.weight"], float("nan"))
    torch.save(weights, tmp_path / "nan.pth")
    command = ["model", "import", str(tmp_path / "nan.pth"), "--config", str(tiny_model / "config.json"), "-o"]
    assert run([*command, str(tmp_path / "out")]) == 2
    assert "NaN or infinity: head.weight" in capsys.readouterr().err
    config = read_card(tiny_model).config
    card = write_model_directory(tmp_path / "written", "nan", config, weights)
    assert run(["model", "verify", str(card.path)]) == 2
    assert "NaN or infinity: head.weight" in capsys.readouterr().err


def test_a_vocabulary_with_gaps_needs_rows_for_its_highest_id(tiny_model: Path, tmp_path: Path) -> None:
    values = json.loads((tiny_model / "tokenizer.json").read_text())
    last = max(values["model"]["vocab"], key=values["model"]["vocab"].get)
    values["model"]["vocab"][last] = 900
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert read_tokenizer(tmp_path / "tokenizer.json").vocab_size == 901


def test_lookup(tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        find_model("tiny")
    monkeypatch.setenv("GF_MODELS_DIR", str(tiny_model.parent))
    assert find_model("tiny").path == tiny_model
    assert find_model(str(tiny_model)).name == "tiny"
    assert "tiny" in [card.name for card in list_models()]
    (tmp_path / "user-models" / "broken").mkdir(parents=True)
    (tmp_path / "user-models" / "broken" / "config.json").write_text("{")
    monkeypatch.setenv("GF_MODELS_DIR", str(tmp_path / "user-models"))
    assert "broken" not in [card.name for card in list_models()]
    with pytest.raises(ModelDamaged):
        read_card(tmp_path / "user-models" / "broken")


def test_a_swapped_tokenizer_is_noticed(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    text = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").write_text(text + "\n")
    with pytest.raises(ModelDamaged, match="tokenizer"):
        load_model(copy)


@pytest.mark.parametrize("preset", ["goldfinch-tiny", "llama-6x512"])
def test_random_models_are_random_everywhere(preset: str, tmp_path: Path) -> None:
    from goldfinch.weights.writing import init_model

    init_model(preset, 3, tmp_path / "m")
    for key, tensor in read_weights(tmp_path / "m" / "model.safetensors").items():
        if tensor.dim() == 2 and key.endswith(".weight"):
            assert float(tensor.std()) > 1e-3, key


def test_a_missing_gpu_is_named(tiny_model: Path) -> None:
    from goldfinch.errors import DeviceError

    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="not available"):
            load_model(tiny_model, device="cuda")
    else:
        with pytest.raises(DeviceError, match="not available"):
            load_model(tiny_model, device="cuda:99")


def test_loading_computes_no_initial_values() -> None:
    """They would be thrown away, and the orthogonal ones of a large model take seconds."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        load_model("gf-mini")
    ran = {event.key for event in profile.key_averages()}
    assert "aten::_to_copy" in ran or "aten::to" in ran  # the profiler saw the loading
    assert not ran & {"aten::linalg_qr", "aten::normal_", "aten::uniform_"}


def test_weights_in_several_files(tiny_model: Path, tmp_path: Path) -> None:
    """No file is larger than asked for; the model, its fingerprints and its size are the same, however it is read."""
    card = find_model(tiny_model)
    weights = read_weights(tiny_model / "model.safetensors")
    largest = max(tensor.nbytes for tensor in weights.values())
    most = 3 * largest
    out = tmp_path / "parts"
    write_model_directory(
        out, "parts", card.config, weights, card.template, tiny_model / "tokenizer.json", max_shard_bytes=most
    )
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert len(files) >= 3
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    for name in files:
        assert sum(tensor.nbytes for tensor in read_weights(out / name).values()) <= most
    assert not (out / "model.safetensors").exists()
    a, b = load_model(tiny_model), load_model(out)
    assert a.card.model_fingerprint == b.card.model_fingerprint
    assert all(torch.equal(value, b.state_dict()[key]) for key, value in a.state_dict().items())
    assert verify_model(b.card) == []
    (out / "model-stray-of-others.safetensors").write_bytes(b"x" * 999)
    assert weights_bytes_of(out) == sum((out / name).stat().st_size for name in files)
    config = tmp_path / "config.json"
    config.write_text((out / "config.json").read_text())
    again = import_model(out / "model.safetensors.index.json", config, None, tmp_path / "whole")
    assert again.model_fingerprint == card.model_fingerprint
    assert (tmp_path / "whole" / "model.safetensors").is_file()
    (out / files[1]).unlink()
    assert weights_bytes_of(out) is None
    with pytest.raises(FileNotFoundError):
        load_model(out)
    (out / "model.safetensors.index.json").unlink()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_model(out)


@pytest.mark.parametrize(
    "index", ["{", "[" * 90_000, "[]", "{}", '{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": {"a": 3}}']
)
def test_an_index_names_files_beside_it_only(index: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(CheckpointError, match="index"):
        read_weights(path)

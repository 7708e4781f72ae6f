"""Model directories are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gfcli.app import run
from goldfinch.weights.directory import read_card
from goldfinch.weights.files import read_weights
from goldfinch.weights.writing import init_model, write_model_directory
from tests.conftest import SMALL_GOLDEN


def test_weights_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(SMALL_GOLDEN / "finchc2" / "weights.safetensors")
    config = str(SMALL_GOLDEN / "goldfinch_ratio2" / "config.json")
    out = tmp_path / "out"
    assert run(["model", "import", weights, "--config", config, "-o", str(out)]) == 5
    assert "do not fit" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run(["model", "import", str(tmp_path / "no.pth"), "--config", config, "-o", str(out)]) == 4
    assert run(["model", "import", weights, "--config", str(tmp_path / "no.json"), "-o", str(out)]) == 4
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(Path(weights).read_bytes()[:1000])
    assert run(["model", "import", str(damaged), "--config", config, "-o", str(out)]) == 6


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
    assert run([*command, str(tmp_path / "out")]) == 6
    assert "NaN or infinity: head.weight" in capsys.readouterr().err
    config = read_card(tiny_model).config
    card = write_model_directory(tmp_path / "written", "nan", config, weights)
    assert run(["model", "verify", str(card.path)]) == 6
    assert "NaN or infinity: head.weight" in capsys.readouterr().err


@pytest.mark.parametrize("preset", ["goldfinch-tiny", "llama-6x512"])
def test_random_models_are_random_everywhere(preset: str, tmp_path: Path) -> None:
    init_model(preset, 3, tmp_path / "m")
    for key, tensor in read_weights(tmp_path / "m" / "model.safetensors").items():
        if tensor.dim() == 2 and key.endswith(".weight"):
            assert float(tensor.std()) > 1e-3, key

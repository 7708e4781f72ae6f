"""Models are found by name and by folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from goldfinch.errors import ModelDamaged, ModelNotFound
from goldfinch.weights.directory import find_model, list_models, read_card


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


def test_folders_that_are_no_model_of_ours_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFound, match=r"the folder of that name has no config\.json"):
        find_model(str(tmp_path / "empty"))
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    with pytest.raises(ModelNotFound, match="Hugging Face folder") as refused:
        find_model(str(hub))
    assert refused.value.hint == f"gf model import {hub}"

"""A directory becomes a model, or says why not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from goldfinch.errors import DeviceError, ModelDamaged
from goldfinch.weights.loading import load_model


def test_a_swapped_tokenizer_is_noticed(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    text = (copy / "tokenizer.json").read_text()
    (copy / "tokenizer.json").write_text(text + "\n")
    with pytest.raises(ModelDamaged, match="tokenizer"):
        load_model(copy)


def test_a_missing_gpu_is_named(tiny_model: Path) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="not available"):
            load_model(tiny_model, device="cuda")
    else:
        with pytest.raises(DeviceError, match="not available"):
            load_model(tiny_model, device="cuda:99")


def test_loading_computes_no_initial_values() -> None:
    """They would be thrown away, and the orthogonal ones of a large model take seconds."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        load_model()
    ran = {event.key for event in profile.key_averages()}
    assert "aten::_to_copy" in ran or "aten::to" in ran  # the profiler saw the loading
    assert not ran & {"aten::linalg_qr", "aten::normal_", "aten::uniform_"}

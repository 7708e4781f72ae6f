"""Every model type reproduces the reference outputs, through the real importer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from goldfinch import load_model
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.state import ModelState
from tests import tolerances
from tests.conftest import SMALL_GOLDEN, golden_folders
from tests.goldfinch.states import assert_states_equal

NAMES = sorted(golden_folders())
PRECISIONS = [(torch.float32, tolerances.GOLDEN_FP32), (torch.float64, tolerances.GOLDEN_FP64)]


@pytest.fixture(params=NAMES)
def golden(request: pytest.FixtureRequest) -> tuple[str, dict[str, Tensor]]:
    return request.param, load_file(golden_folders()[request.param] / "vectors.safetensors")


def largest_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).abs().max())


def test_the_small_selection_is_in_the_tree() -> None:
    expected = {"goldfinch_ratio2", "finch_gold", "finchc2", "finchc2_gptalpha", "llama_rope"}
    assert expected <= {path.parent.name for path in SMALL_GOLDEN.glob("*/vectors.safetensors")}


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@torch.no_grad()
def test_full_forward_and_decode(
    golden: tuple[str, dict[str, Tensor]], imported: Callable[[str], Path], dtype: torch.dtype, tolerance: float
) -> None:
    name, vectors = golden
    model = load_model(imported(name), dtype=dtype)
    logits, state = model(vectors["tokens"])
    assert largest_error(logits, vectors["logits_f64"]) <= tolerance
    for i in range(vectors["decode_tokens"].shape[1]):
        logits, state = model(vectors["decode_tokens"][:, i : i + 1], state)
        assert largest_error(logits[:, 0], vectors["decode_logits_f64"][:, i]) <= tolerance


@torch.no_grad()
def test_states_and_intermediate_tensors(
    golden: tuple[str, dict[str, Tensor]], imported: Callable[[str], Path]
) -> None:
    name, vectors = golden
    # The stored tensors are float32: ours in float64 must equal them up to their own rounding.
    model = load_model(imported(name), dtype=torch.float64)
    tokens = vectors["tokens"]
    x, after_prefill = model.run_prefill_layers(tokens, model.empty_state())
    _, state = model(tokens)
    found = named_tensors(model, tokens, x, state)
    checked = set()
    for key, expected in vectors.items():
        if key in found:
            scale = float(expected.abs().max())
            assert largest_error(found[key], expected) <= tolerances.GOLDEN_INTERMEDIATE * scale, key
            checked.add(key)
    outside = {"tokens", "decode_tokens", "logits", "logits_f64", "decode_logits", "decode_logits_f64"}
    assert checked == set(vectors) - outside
    lower = slice(model.config.n_prefill)
    assert_states_equal(after_prefill.layers[lower], state.layers[lower])


def named_tensors(model: LanguageModel, tokens: Tensor, x: Tensor, state: ModelState) -> dict[str, Tensor]:
    """Our tensors by the names of the golden files."""
    out = {}
    if model.config.n_gold:
        compressed_k = model.compress_keys(x)
        out |= {
            "x_after_last_finch": x,
            "compressed_k": compressed_k,
            "k_cache": model.k_cache_rows(model.embed(tokens), compressed_k),
        }
        assert torch.equal(state.memory.compressed_k.rows, compressed_k)
    for i, layer in enumerate(state.layers):
        if layer.wkv_state is not None:
            out[f"blocks.{i}.wkv_state"] = layer.wkv_state
        if layer.time_shift_state is not None:
            out[f"blocks.{i}.att_shift"] = layer.time_shift_state
        if layer.channel_shift_state is not None:
            out[f"blocks.{i}.ffn_shift"] = layer.channel_shift_state
        if layer.keys.length:
            out[f"blocks.{i}.kv_cache"] = torch.stack([layer.keys.rows, layer.values.rows])
    return out


@torch.no_grad()
def test_pth_and_safetensors_are_one_model(imported: Callable[[str], Path], tmp_path: Path) -> None:
    """The bf16 .pth holds the same values: same fingerprints, same logits."""
    from gfcli.app import run

    folder, out = SMALL_GOLDEN / "goldfinch_ratio2", tmp_path / "from-pth"
    config = str(folder / "config.json")
    assert run(["model", "import", str(folder / "weights.pth"), "--config", config, "-o", str(out)]) == 0
    a, b = load_model(imported("goldfinch_ratio2")), load_model(out)
    assert a.card.prefill_fingerprint == b.card.prefill_fingerprint
    assert a.card.model_fingerprint == b.card.model_fingerprint
    tokens = load_file(folder / "vectors.safetensors")["tokens"]
    assert torch.equal(a(tokens)[0], b(tokens)[0])

"""Decoding in C calls against the torch twins: every recurrent model type, other shapes, threads, document and tail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gfkernels.decode import native as native_decode
from gfkernels.native import build as native
from torch import Tensor

import goldfinch
from goldfinch import Session
from goldfinch.backends.choose import choose_executor
from goldfinch.engine.session import decode_one_token
from goldfinch.models.config import ModelConfig, RopeConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.state import ModelState
from tests import tolerances
from tests.conftest import golden_folders
from tests.executors import run_with
from tests.goldfinch.states import assert_states_equal
from tests.poison import poison_outputs

RECURRENT = sorted(n for n in golden_folders() if "gptalpha" not in n and "llama" not in n)
SHAPES = {
    "rope": dict(rope=RopeConfig(), layer_ratio=2),
    "narrow heads, odd feed-forward": dict(d_model=48, head_dim=16, d_ffn=51),
    "wide heads": dict(d_model=256, head_dim=128, d_ffn=100, time_mix="finch"),
    "feed-forward wider than all else": dict(d_model=64, head_dim=32, d_ffn=1000),
}
pytestmark = pytest.mark.skipif(native.unavailable() is not None, reason=str(native.unavailable()))


def random_model(shape: dict) -> LanguageModel:
    """Every weight random: those that start at zero would hide what they multiply."""
    defaults = dict(n_layer=4, d_model=64, d_ffn=160, vocab_size=80, head_dim=64)
    torch.manual_seed(0)
    model = LanguageModel(ModelConfig(**(defaults | shape))).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape) * (0.3 if p.dim() > 1 else 0.5))
    model.choose_executor(choose_executor)
    return model


def decoded(model: LanguageModel, state: ModelState, count: int = 12) -> tuple[Tensor, ModelState]:
    out = []
    for token in range(count):
        logits, state = decode_one_token(model, (7 * token + 3) % model.config.vocab_size, state)
        out.append(logits)
    return torch.stack(out), state


def assert_alike(one: tuple[Tensor, ModelState], other: tuple[Tensor, ModelState]) -> None:
    assert float((one[0] - other[0]).abs().max()) <= tolerances.SPLIT_FP32 * float(other[0].abs().max())
    assert_states_equal(one[1].layers, other[1].layers, tolerances.SPLIT_FP32)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each C call ran; its output starts as NaN, so that a number it forgets shows."""
    counted: dict[str, int] = {}
    real = native_decode._call

    def count(name: str, *arguments: object) -> None:
        counted[name] = counted.get(name, 0) + 1
        real(name, *arguments)

    poison_outputs(monkeypatch, native_decode)
    monkeypatch.setattr(native_decode, "_call", count)
    return counted


def both(model: LanguageModel, start: Callable[[], ModelState], monkeypatch: pytest.MonkeyPatch) -> None:
    run_with("torch", model, monkeypatch)
    expected = decoded(model, start())
    run_with("native", model, monkeypatch)
    assert_alike(decoded(model, start()), expected)


@pytest.mark.parametrize("name", RECURRENT)
def test_from_the_first_token(name: str, imported: Callable[[str], Path], calls, monkeypatch) -> None:
    model = goldfinch.load_model(imported(name))
    both(model, model.empty_state, monkeypatch)
    assert calls["finch_step"] == 12
    assert calls.get("gold_step", 0) == (12 if model.config.n_gold else 0)
    assert calls.get("gold_row", 0) == (12 if model.config.n_gold else 0)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_other_shapes(shape: dict, calls, monkeypatch) -> None:
    model = random_model(shape)
    both(model, model.empty_state, monkeypatch)
    assert calls["gold_step"] == 12


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 31, 200])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_behind_a_document(tokens: int, threads: int, calls, monkeypatch) -> None:
    """Keys of a document and those since, cut between threads at every place."""
    model = random_model(SHAPES["rope"])
    ids = torch.randint(0, 80, (1, tokens), generator=torch.Generator().manual_seed(1))
    session = Session(model, goldfinch.prefill(model, ids))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        both(model, lambda: session.start([4, 5, 6])[1], monkeypatch)
    finally:
        torch.set_num_threads(before)
    assert calls["gold_step"] == 12


def test_a_document_that_is_not_expanded_goes_another_way(calls) -> None:
    model = random_model({})
    cache = goldfinch.prefill(model, torch.arange(60)[None])
    blocks, whole = Session(model, cache, memory_bytes=0), Session(model, cache)
    found, expected = decoded(model, blocks.start([4])[1])[0], decoded(model, whole.start([4])[1])[0]
    assert calls["gold_step"] == 12
    assert float((found - expected).abs().max()) <= tolerances.PATHS_FP32 * float(expected.abs().max())


@pytest.mark.usefixtures("calls")
def test_states_are_values() -> None:
    """Two continuations of one state do not disturb each other."""
    model = random_model({})
    session = Session(model, goldfinch.prefill(model, torch.arange(60)[None]))
    _, state = session.start([4, 5])
    once = decoded(model, state)[0]
    decoded(model, decode_one_token(model, 9, state)[1])
    assert torch.equal(decoded(model, state)[0], once)


@pytest.mark.parametrize("shape", [{}, {"time_mix": "finch"}], ids=["goldfinch", "finch_gold"])
def test_bfloat16_is_no_less_exact_than_torch(shape: dict, monkeypatch) -> None:
    """Weights rounded once, float64 as the judge."""
    model = random_model({"d_model": 128, **shape}).to(torch.bfloat16)
    exact = decoded(model.double(), model.empty_state())[0]
    model = model.to(torch.bfloat16)
    errors = {}
    for backend in ("torch", "native"):
        run_with(backend, model, monkeypatch)
        difference = decoded(model, model.empty_state())[0].double() - exact
        errors[backend] = float(difference.pow(2).mean().sqrt() / exact.pow(2).mean().sqrt())
    assert errors["native"] <= 1.1 * errors["torch"]


def test_changed_weights_are_noticed(monkeypatch) -> None:
    """Addresses and copies follow the weights."""
    model = random_model({})
    decoded(model, model.empty_state())
    with torch.no_grad():
        model.blocks[3].att.time_maa_q_w1 += 0.5
        model.blocks[0].att.output.weight.data = model.blocks[0].att.output.weight.detach() * 2
    both(model, model.empty_state, monkeypatch)

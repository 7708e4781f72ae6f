"""Models through the Triton kernels: golden parity, packed documents, both ways to attend; a CPU interprets them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from gfcache.codecs import registry as codecs
from gfkernels import BackendUnavailable
from safetensors.torch import load_file

import goldfinch
from goldfinch.backends.choose import choose_executor
from goldfinch.backends.triton import gold as gold_triton
from goldfinch.backends.triton.executor import TritonExecutor
from goldfinch.backends.triton.graph import StaticDecoder
from goldfinch.caching.numerics import numerics_of
from goldfinch.engine import batch_decode as batching
from goldfinch.engine.session import decode_one_token
from goldfinch.measure.conditions import kernel_backends
from goldfinch.models.config import RopeConfig
from goldfinch.models.memory import GoldMemory
from goldfinch.models.state import GoldDocument
from tests import tolerances
from tests.conftest import golden_folders
from tests.executors import run_with
from tests.goldfinch.states import assert_states_equal

pytest.importorskip("triton")
from gfkernels.wkv import triton as wkv6_triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ["goldfinch_ratio2", "finch_gold", "finchc2"]
EVERY = sorted(name for name in golden_folders() if "gptalpha" not in name and "llama" not in name)


def rest_slow(names: list[str]) -> list[object]:
    """Of the full golden sets, those of NAMES in every run."""
    return [name if name in NAMES else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture
def triton_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GF_KERNELS", "triton")


@pytest.mark.usefixtures("triton_backend")
@pytest.mark.parametrize("name", rest_slow(EVERY))
def test_golden_parity(name: str, imported: Callable[[str], Path]) -> None:
    """Prompt and single steps against the float64 logits, and the states after the prompt."""
    vectors = load_file(golden_folders()[name] / "vectors.safetensors")
    model = goldfinch.load_model(imported(name), device=DEVICE)
    with torch.no_grad():
        tokens, steps = vectors["tokens"][:1].to(DEVICE), vectors["decode_tokens"][:1].to(DEVICE)
        logits, state = model(tokens)
        assert float((logits.cpu() - vectors["logits_f64"][:1]).abs().max()) <= tolerances.GOLDEN_FP32
        for i in range(model.config.n_finch):
            found = state.layers[i].wkv_state.cpu()
            assert float((found - vectors[f"blocks.{i}.wkv_state"][:1]).abs().max()) <= tolerances.GOLDEN_FP32
        for i in range(min(3, steps.shape[1])):
            logits, state = model(steps[:, i : i + 1], state)
            error = (logits[:, 0].cpu() - vectors["decode_logits_f64"][:1, i]).abs().max()
            assert float(error) <= tolerances.GOLDEN_FP32


@pytest.mark.usefixtures("triton_backend")
@pytest.mark.parametrize("name", NAMES[:2])
def test_packed_documents_equal_single_ones(name: str, imported: Callable[[str], Path]) -> None:
    """From the beginning, and on from their states."""
    model = goldfinch.load_model(imported(name), device=DEVICE)
    lengths = [3, 20, 1]
    ids = torch.randint(0, model.config.vocab_size, (1, 24), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    empty = list(model.empty_state().layers)
    with torch.no_grad():
        x, states = model.executor.lower_layers(ids, empty, lengths)
        again, ends = model.executor.lower_layers(ids, states, lengths)
        at = 0
        for n, length in enumerate(lengths):
            part = ids[:, at : at + length]
            alone, state = model.executor.lower_layers(part, empty)
            alone_again, end = model.executor.lower_layers(part, state)
            for one, other in ((x, alone), (again, alone_again)):
                assert float((one[:, at : at + length] - other).abs().max()) <= tolerances.SPLIT_FP32 * float(
                    x.abs().max()
                )
            lower, this = slice(model.config.n_finch), slice(n, n + 1)
            assert_states_equal(end[lower], [whole.select(this) for whole in ends[lower]], tolerances.SPLIT_FP32)
            at += length


@pytest.mark.parametrize("name", rest_slow([n for n in EVERY if "gold" in n]))
@pytest.mark.parametrize("expanded", [True, False])
def test_attention_over_a_document(name: str, expanded: bool, imported: Callable[[str], Path], monkeypatch) -> None:
    """Keys and values kept, and rebuilt in blocks, against torch in float64; queries inside the last block."""
    monkeypatch.setattr(gold_triton, "REBUILD_BLOCK", 48)
    T, Tq = 110, 5
    generator = torch.Generator().manual_seed(0)

    def attended(backend: str, dtype: torch.dtype) -> list[torch.Tensor]:
        monkeypatch.setenv("GF_KERNELS", backend)
        model = goldfinch.load_model(imported(name), dtype=dtype, device=DEVICE)
        config = model.config
        generator.manual_seed(0)
        ids = torch.randint(0, config.vocab_size, (1, T), generator=generator)
        c = torch.randn(1, T, config.d_compressed, generator=generator, dtype=torch.float64).to(dtype)
        q = torch.randn(2, config.n_head, Tq, config.head_dim, generator=generator, dtype=torch.float64).to(dtype)
        document = GoldDocument(ids.to(DEVICE), c.to(DEVICE))
        with torch.no_grad():
            if expanded:
                document = model.executor.expand(document)
            memory = GoldMemory(model.executor, document)
            return [memory.attend(i, q.to(DEVICE)).cpu() for i in range(config.n_gold)]

    exact = attended("torch", torch.float64)
    for found, expected in zip(attended("triton", torch.float32), exact, strict=True):
        assert float((found - expected).abs().max()) <= tolerances.PATHS_FP32 * float(expected.abs().max())


@pytest.mark.usefixtures("triton_backend")
def test_prefill_and_ask(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From document to answer, keys kept or rebuilt: the tokens that torch gives."""
    model = goldfinch.load_model(tiny_model, device=DEVICE)
    ids = torch.randint(0, model.config.vocab_size, (1, 70), generator=torch.Generator().manual_seed(0))
    cache = goldfinch.prefill(model, ids)
    assert cache.numerics.backend == "triton"
    question, n = [5, 6, 7], 3 if DEVICE == "cpu" else 12  # long enough for a graph
    kept = goldfinch.Session(model, cache).generate(question, max_tokens=n)
    rebuilt = goldfinch.Session(model, cache, memory_bytes=0).generate(question, max_tokens=n)
    run_with("torch", model, monkeypatch)
    expected = goldfinch.Session(model, goldfinch.prefill(model, ids)).generate(question, max_tokens=n)
    assert kept == rebuilt == expected


@pytest.mark.parametrize("memory_bytes", [1 << 30, 0])
def test_answers_decoded_together(memory_bytes: int, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part of a step that serves several answers runs in the kernels, and gives what one by one gives."""
    model = goldfinch.load_model(tiny_model, device=DEVICE)
    ids = torch.randint(0, model.config.vocab_size, (1, 70), generator=torch.Generator().manual_seed(0))
    questions, tokens = [[5, 6, 7], [8], [9, 10]], torch.tensor([[11], [12], [13]], device=DEVICE)
    run_with("torch", model, monkeypatch)
    session = goldfinch.Session(model, goldfinch.prefill(model, ids))
    with torch.no_grad():
        expected = []
        for question, token in zip(questions, tokens, strict=True):
            _, state = session.start(question)
            expected.append(model(token[None], state)[0][0, -1])
    run_with("triton", model, monkeypatch)
    session = goldfinch.Session(model, goldfinch.prefill(model, ids), memory_bytes=memory_bytes)
    with torch.no_grad():
        batch = batching._Batch.of(model, [session.start(question)[1] for question in questions])
        used = []
        for module, name in ((gold_triton, "attend"), (wkv6_triton, "wkv6_step_triton")):
            kernel = getattr(module, name)
            monkeypatch.setattr(module, name, lambda *a, _k=kernel, _n=name, **b: used.append(_n) or _k(*a, **b))
        found, _ = batch.step(tokens)
    assert set(used) == {"attend", "wkv6_step_triton"}
    for a, b in zip(found, expected, strict=True):
        assert float((a - b).abs().max()) <= tolerances.SPLIT_FP32 * float(b.abs().max())


@pytest.mark.usefixtures("triton_backend")
@pytest.mark.parametrize("rope", [None, RopeConfig()])
@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_decoding_in_static_buffers(memory_bytes: int, rope: RopeConfig | None, tiny_model: Path) -> None:
    """Step by step what decode_one_token gives; on a GPU as a graph, and its capture leaves no trace."""
    weights = goldfinch.load_model(tiny_model, device=DEVICE)
    model = goldfinch.LanguageModel(replace(weights.config, rope=rope))
    model.load_state_dict(weights.state_dict())
    model = model.to(DEVICE).requires_grad_(False)
    model.choose_executor(choose_executor)
    assert isinstance(model.executor, TritonExecutor)
    ids = torch.randint(0, model.config.vocab_size, (1, 40), generator=torch.Generator().manual_seed(0))
    session = goldfinch.Session(model, goldfinch.prefill(model, ids), memory_bytes=memory_bytes)
    _, state = session.start([5, 6, 7])
    decoder = StaticDecoder(model, model.executor, state, 4)
    for token in (3, 1, 4, 1):
        expected, state = decode_one_token(model, token, state)
        found = decoder.step(token)
        assert float((found - expected).abs().max()) <= tolerances.SPLIT_FP32 * float(expected.abs().max())
    with pytest.raises(IndexError):
        decoder.step(5)


def test_what_is_reported_and_refused(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = goldfinch.load_model(tiny_model)
    assert "triton" not in kernel_backends(model)["available"]  # a CPU runs it only when it is asked to interpret
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    model.choose_executor(choose_executor)
    assert model.executor.name in ("native", "torch")
    assert "needs a GPU" in kernel_backends(model)["triton"]
    monkeypatch.setenv("GF_KERNELS", "triton")
    with pytest.raises(BackendUnavailable, match="needs a GPU"):
        goldfinch.load_model(tiny_model)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    model = model.to(DEVICE)
    assert numerics_of(model).backend == "triton"
    assert "triton" in kernel_backends(model)["available"]
    assert kernel_backends(model)["triton"] == "runs here"
    with pytest.raises(BackendUnavailable, match="float64"):
        model.double()


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_no_less_exact_than_torch(name: str, imported: Callable[[str], Path], monkeypatch) -> None:
    model = goldfinch.load_model(imported(name), dtype=torch.bfloat16, device=DEVICE)
    exact_model = goldfinch.load_model(imported(name), dtype=torch.bfloat16).double()
    ids = torch.randint(0, model.config.vocab_size, (1, 150), generator=torch.Generator().manual_seed(0))
    outputs = {}
    with torch.no_grad():
        run_with("torch", exact_model, monkeypatch)
        exact, _ = exact_model.run_prefill_layers(ids, exact_model.empty_state())
        for backend in ("torch", "triton"):
            run_with(backend, model, monkeypatch)
            x, _ = model.run_prefill_layers(ids.to(DEVICE), model.empty_state())
            outputs[backend] = float((x.cpu().double() - exact).pow(2).mean().sqrt())
    assert outputs["triton"] <= 1.2 * outputs["torch"]


@pytest.mark.gpu
def test_files_travel_between_devices(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written on the GPU and read on the CPU, and the reverse: a tolerance apart, both open."""
    if importlib.util.find_spec("zstandard") is None:  # what is stored does not depend on how it is packed
        monkeypatch.setattr(codecs, "encode", lambda array, dtype, wanted: ("raw", array.tobytes()))
    ids = torch.randint(0, 512, (1, 600), generator=torch.Generator().manual_seed(0))
    models = {name: goldfinch.load_model(tiny_model, device=name) for name in ("cpu", "cuda")}
    caches = {}
    for name, model in models.items():
        caches[name] = goldfinch.prefill(model, ids)
        caches[name].save(tmp_path / f"{name}.gfc")
    assert caches["cuda"].numerics.backend == "triton"
    c = {name: cache.compressed_k.cpu() for name, cache in caches.items()}
    assert float((c["cpu"] - c["cuda"]).abs().max()) <= 10 * tolerances.SPLIT_FP32 * float(c["cpu"].abs().max())
    logits = {}
    for writer, reader in (("cpu", "cpu"), ("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")):
        cache = goldfinch.open_cache(tmp_path / f"{writer}.gfc", models[reader])
        logits[writer, reader] = goldfinch.Session(models[reader], cache).start([5, 6])[0].cpu()
    exact = logits["cpu", "cpu"]
    for found in logits.values():
        assert float((found - exact).abs().max()) <= tolerances.GOLDEN_FP32 * float(exact.abs().max())

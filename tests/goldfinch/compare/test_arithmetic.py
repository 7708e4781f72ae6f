"""The arithmetic agrees with models as they are built, with bytes of caches as they are written, and with papers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gfcache import layout, read_cache

from goldfinch.compare import architectures, arithmetic
from goldfinch.compare.architectures import ARCHITECTURES, Architecture
from goldfinch.engine.prefill import prefill
from goldfinch.models.config import ModelConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.presets import presets
from tests.goldfinch.states import document

T = 300
# Kinds of sections of 32 bits that do not grow with the document.
STATES = (
    layout.WKV_STATE, layout.TIME_SHIFT_STATE, layout.CHANNEL_SHIFT_STATE, layout.TAIL_HIDDEN,
    layout.ATTENTION_TIME_SHIFT_STATE, layout.ATTENTION_CHANNEL_SHIFT_STATE,
)  # fmt: skip


def ours(config: ModelConfig, kind: str) -> Architecture:
    shape: Any = (config.n_layer, config.d_model)
    vocabulary = config.vocab_size
    if kind == "goldfinch":
        return architectures.goldfinch(*shape, vocabulary)
    if kind == "llama":
        return architectures.llama(*shape, config.d_ffn, vocabulary, head=64, is_ours=True)
    if kind == "gptalpha":
        return architectures.gptalpha(*shape, vocabulary)
    return architectures.finch(*shape, vocabulary, is_c2=kind == "finch_c2")


KINDS = ("goldfinch", "finch", "finch_c2", "gptalpha", "llama")


@pytest.mark.parametrize("size", ["small", "12x768", "24x2048"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_the_modules(kind: str, size: str) -> None:
    """Matrices of each part, counted on models without values; Finch-C2's second value passes W_V once more."""
    config = presets()[f"{kind}-{size}"]
    if kind == "llama" and size == "small":
        assert config.d_ffn == 672
    with torch.device("meta"):
        model = LanguageModel(config, initial_values=False)

    def matrices(*parts: Any) -> int:
        named = [(name, p) for part in parts for name, p in part.named_parameters()]
        # Mixes by channel are (1, 1, C); the bonus of a head is (H, D).
        return sum(p.numel() for name, p in named if p.dim() > 1 and p.shape[0] > 1 and "faaaa" not in name)

    blocks = list(model.blocks)
    lower, upper = blocks[: config.n_prefill], blocks[config.n_prefill :]
    found = ours(config, kind)
    again = config.n_finch * config.d_model**2 if config.time_mix == "finch_c2" else 0
    keys = [model.w_kv_cache_a] if config.n_gold else []
    assert found.prefill_weights == matrices(*lower, *keys) + again
    unpack = [model.w_kv_cache_b] if config.n_gold else []
    every = matrices(*lower, *keys, *unpack, *upper, model.head) + again
    assert found.decode_weights == every


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_of_a_file(kind: str, tmp_path: Path) -> None:
    config = presets()[f"{kind}-tiny"]
    torch.manual_seed(0)
    model = LanguageModel(config)
    prefill(model, document(model, T)).save(tmp_path / "doc.gfc")
    with read_cache(tmp_path / "doc.gfc") as file:
        raw: dict[str, int] = {}
        for section in file.header.sections:
            raw[section.kind] = raw.get(section.kind, 0) + section.raw_bytes
        total = file.file_bytes
    found = ours(config, kind)
    assert raw[layout.TOKEN_IDS] == 2 * T
    assert raw.get(layout.COMPRESSED_K, 0) + raw.get(layout.ATTENTION_KV, 0) == 4 * found.rows * T
    assert sum(raw.get(name, 0) for name in STATES) == 4 * found.state
    as_computed = next((m for m in arithmetic.methods_of(found) if m.name.startswith("f32")), None)
    if as_computed is not None:  # what the file has besides: its header, digests of rows, padding
        row = arithmetic.row_of(found, as_computed, T)
        assert row.total_bytes == 4 * (found.rows * T + found.state) + 2 * T
        assert 0 < total - row.total_bytes < 4096


def test_the_papers_figures() -> None:
    """GoldFinch 24 x 2048 in bf16: 256 bytes of keys and 2 of the id for each token, 756 times less than 2 L d."""
    by_shape = {(a.name, a.shape): a for a in ARCHITECTURES}
    row = arithmetic.row_of(by_shape["GoldFinch", "24 x 2048"], arithmetic.FULL, 1 << 20)
    assert row.bytes_per_token == 258
    large = by_shape["GoldFinch", "32 x 4096"]
    assert arithmetic.row_of(large, arithmetic.FULL, 1 << 18).bytes_per_token == 514
    # Table 1, in its own formulas: values for each token of 32 layers of 4,096.
    assert by_shape["Llama 2 7B", "32 x 4096"].rows == 2 * 4096 * 32
    assert by_shape["Llama 3 8B", "32 x 4096"].rows == 2 * 8 * 128 * 32
    assert large.rows == 4096 // 16
    assert by_shape["MLA (DeepSeek-V2)", "60 x 5120"].rows == 60 * 9 * 128 // 2
    # States as transformers has them, and parameters as their authors state them.
    mamba = by_shape["Mamba-2", "64 x 2560"]
    assert mamba.state == 64 * (5120 * 128 + 4 * 5376)
    for name, shape, billions in (
        ("Llama 2 7B", "32 x 4096", 6.74), ("Llama 3 8B", "32 x 4096", 8.03), ("Mistral 7B v0.2", "32 x 4096", 7.24),
    ):  # fmt: skip
        found = by_shape[name, shape]
        vocabulary = {"Llama 2 7B": 32_000, "Llama 3 8B": 128_256, "Mistral 7B v0.2": 32_000}[name]
        weights = (found.decode_weights or 0) + vocabulary * 4096  # with the embedding
        assert round(weights / 1e9, 2) == billions
    assert 2.6 < (mamba.decode_weights or 0) / 1e9 < 2.8  # embedding and head are one


def test_ratios_that_the_benchmark_states() -> None:
    by_name = {m.name: m for m in arithmetic.OF_ATTENTION}
    assert by_name["KIVI-4"].seed_ratio == 3.15
    assert by_name["KIVI-2"].seed_ratio == pytest.approx(5.05, abs=0.13)  # 5.17 with its own lengths of the tail
    assert by_name["FlexGen-4"].seed_ratio == 3.2
    assert [by_name[f"H2O {keep:g}"].seed_ratio for keep in (0.5, 0.25, 0.125)] == [2, 4, 8]
    # All counted: few rows are coded of a short document.
    assert [round(16 * n / arithmetic.kivi_bits(1, n, 2), 2) for n in (2000, 4096, 10_000)] == [4.35, 5.0, 5.17]
    assert arithmetic.kivi_bits(64, 100, 2) == 64 * 100 * 16


def test_operations_grow_as_they_must() -> None:
    by_shape = {(a.name, a.shape): a for a in ARCHITECTURES}
    gold, plain = by_shape["GoldFinch", "24 x 2048"], by_shape["Llama", "24 x 2048"]
    assert gold.prefill_operations(1000) == gold.prefill_operations(100_000)
    short, long = plain.prefill_operations(1000), plain.prefill_operations(101_000)
    assert short is not None
    assert long is not None
    assert long - short == 4 * 24 * 2048 * 50_000
    rows = {m.name: arithmetic.row_of(gold, m, 8192) for m in arithmetic.OF_GOLDFINCH}
    full = rows["full, 16 bits"]
    assert rows["StreamingLLM 0.25"].prefill_operations == full.prefill_operations
    assert (rows["SnapKV 0.25"].prefill_operations or 0) > (full.prefill_operations or 0)
    assert (rows["H2O 0.25"].prefill_operations or 0) > (rows["SnapKV 0.25"].prefill_operations or 0)
    assert (rows["H2O 0.25"].decode_operations or 0) < (full.decode_operations or 0)
    griffin = by_shape["RecurrentGemma", "26 x 2560"]
    assert griffin.kept(10_000) == griffin.kept(20_000) == griffin.state + 8 * 2 * 256 * 2047


def test_every_architecture_has_every_method_once() -> None:
    rows = list(arithmetic.table([1024, 8192]))
    assert len({(r.architecture, r.shape, r.method, r.tokens) for r in rows}) == len(rows)
    assert {r.tokens for r in rows} == {1024, 8192}
    assert {a.name for a in ARCHITECTURES} == {r.architecture for r in rows}

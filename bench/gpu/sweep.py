"""What the sections of `run.py` share: sizes, record, clocks, models with random weights."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton
os.environ["GF_KERNELS"] = "triton"

from bench.places import write_record
from goldfinch.backends.choose import choose_executor
from goldfinch.measure.conditions import git_commit
from goldfinch.models.config import ModelConfig, RopeConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.text.template import PromptTemplate

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = {"12x768": (12, 768), "24x2048": (24, 2048)}
FULL = {
    "wkv6": [16_384, 65_536, 262_144],
    "prefill": {"24x2048": [16_384, 65_536, 262_144, 1_048_576], "12x768": [16_384, 262_144]},
    "llama": [4096, 32_768, 131_072, 524_288],
    "reload": [4096, 32_768, 131_072],
    "decode": 131_072,
    "long": 1_048_576,
    "travel": 2048,
    "heads": [32, 12],
    "answer": 64,
    "packing": (200, 300, [8192, 32_768]),  # documents, tokens of each on average, tokens of a pack
}
TOY = {
    "wkv6": [48],
    "prefill": {"toy": [40, 80]},
    "llama": [40, 80],
    "reload": [40],
    "decode": 40,
    "long": 80,
    "travel": 40,
    "heads": [1],
    "answer": 2,
    "packing": (3, 12, [30]),
}


class Sweep:
    """Sizes, what was measured so far, and where it goes."""

    def __init__(self, toy: bool, output: Path | None, budget_s: float) -> None:
        self.sizes: dict[str, Any] = TOY if toy else FULL
        self.toy, self.output, self.started, self.budget_s = toy, output, time.perf_counter(), budget_s
        self.dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
        self.rows: list[dict[str, Any]] = []
        self.ceilings: dict[str, float] = {}
        self._models: dict[str, LanguageModel] = {}

    def add(self, section: str, name: str, **values: Any) -> None:
        """One row: printed, kept, and written with all others."""
        row = {"section": section, "name": name, **{k: _short(v) for k, v in values.items()}}
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        record = {"schema_version": 1, "what": "gpu", "conditions": self.conditions(), "rows": self.rows}
        write_record(self.output, record)

    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget_s - (time.perf_counter() - self.started)

    def conditions(self) -> dict[str, Any]:
        """Device, versions and ceilings."""
        try:
            commit = git_commit()
        except OSError:  # no git on the machine
            commit = None
        return {
            "commit": commit,
            "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "interpreter",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": _version("triton"),
            "fla": _version("fla"),
            "zstandard": _version("zstandard"),
            "dtype": str(self.dtype).split(".")[1],
            "toy": self.toy,
            **self.ceilings,
        }

    def model(self, kind: str, shape: str) -> LanguageModel:
        """A model with random weights on the device; one of each kind at a time."""
        key = f"{kind} {shape}"
        if key not in self._models:
            self._models.clear()
            free()
            self._models[key] = random_model(config_of(kind, shape), self.dtype)
        return self._models[key]


def _version(package: str) -> str | None:
    if importlib.util.find_spec(package) is None:
        return None
    return str(getattr(importlib.import_module(package), "__version__", "unknown"))


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def free() -> None:
    """Free what is no longer used."""
    import gc

    gc.collect()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()


def synchronize() -> None:
    """Wait for the device."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds(run: Callable[[], object], repeats: int = 5, warm_up: int = 1, longest_s: float = 15.0) -> float:
    """Median seconds of a call, warmed up; fewer repeats where one takes long."""
    for _ in range(warm_up):
        run()
    synchronize()
    found: list[float] = []
    while len(found) < repeats and sum(found) < longest_s:
        begun = time.perf_counter()
        run()
        synchronize()
        found.append(time.perf_counter() - begun)
    return statistics.median(found)


def kernel_seconds(run: Callable[[], object], calls: int = 10, repeats: int = 5) -> float:
    """Median seconds of a call on the device alone: several of them in one captured graph, between two events.

    A short kernel ends before Python has launched the next one; what is measured here is the kernel.
    """
    if DEVICE.type != "cuda":
        return seconds(run, 1, 0)
    run()
    synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            run()
    graph.replay()
    found = []
    for _ in range(repeats):
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begun.record()
        graph.replay()
        ended.record()
        synchronize()
        found.append(begun.elapsed_time(ended) / 1e3 / calls)
    return statistics.median(found)


def config_of(kind: str, shape: str) -> ModelConfig:
    """GoldFinch or Llama of one shape: the same layers, width and vocabulary."""
    if shape == "toy":
        layers, width, vocabulary = 3, 64, 256
    else:
        (layers, width), vocabulary = SHAPES[shape], 65_536
    if kind == "llama":
        return ModelConfig(
            layers, width, int(8 * width / 3) // 32 * 32, vocabulary, time_mix="llama", upper_time_mix=None,
            channel_mix="llama", rope=RopeConfig(),
        )  # fmt: skip
    return ModelConfig(layers, width, int(3.5 * width) // 32 * 32, vocabulary)


def random_model(config: ModelConfig, dtype: torch.dtype) -> LanguageModel:
    """Weights drawn on the device; decays as published models have them at the start of training."""
    with torch.device(DEVICE):
        model = LanguageModel(config, initial_values=False).to(dtype)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "time_decay":
                p.uniform_(-6.0, -1.0)
            elif leaf.startswith("time_maa_") and p.dim() == 3 and p.shape[0] == 1:
                p.uniform_(0.0, 1.0)
            elif p.dim() == 1:
                p.fill_(1.0 if leaf == "weight" else 0.0)
            else:
                p.normal_(0.0, 0.5 / p.shape[-1] ** 0.5)
    model.eval().requires_grad_(False)
    if config.n_finch == config.n_prefill:
        model.choose_executor(choose_executor)
    # Fingerprints of random weights would take longer than the measurement.
    model.card = SimpleNamespace(
        name="random", path=None, template=PromptTemplate(), prefill_fingerprint="0" * 64, model_fingerprint="0" * 64
    )
    return model


def tokens_of(model: LanguageModel, count: int) -> torch.Tensor:
    """(1, count) random ids on the device."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.vocab_size, (1, count), generator=generator).to(DEVICE)


def product_flops(model: LanguageModel) -> int:
    """Floating point operations per token in the matrix products of the layers that prefill runs."""
    blocks = model.blocks[: model.config.n_prefill]
    shapes = [(name, p) for block in blocks for name, p in block.named_parameters() if p.dim() == 2]
    # The value matrix of Finch-C2 serves two inputs.
    twice = {"att.value.weight"} if model.config.time_mix == "finch_c2" and model.config.second_value else set()
    return sum(2 * p.numel() * (2 if name in twice else 1) for name, p in shapes)


def measure_ceilings(sweep: Sweep) -> None:
    """Copy bandwidth and the rate of a large product, as everything below is compared with them."""
    n = 1 << (12 if sweep.toy else 29)
    source = torch.randn(n // 256, 256, device=DEVICE).to(sweep.dtype).reshape(-1)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    sweep.ceilings["copy_bytes_s"] = moved / kernel_seconds(lambda: target.copy_(source))
    size = 64 if sweep.toy else 8192
    a, b = (torch.randn(size, size, device=DEVICE).to(sweep.dtype) for _ in range(2))
    sweep.ceilings["product_flop_s"] = 2 * size**3 / kernel_seconds(lambda: a @ b, 20)
    sweep.add("ceilings", "copy and product", **sweep.ceilings)

"""The sweep on one GPU: WKV6, prefill beside Llama, answers from files at depth; ends with a short table.

    python bench/gpu.py                     # NVIDIA or AMD GPU, about 8 minutes
    python bench/gpu.py --toy               # toy sizes; without a GPU in Triton's interpreter: a rehearsal, no figures
    python bench/gpu.py --only wkv6,prefill

Writes gpu.json after every row, into $OUT where that is set, else bench/results. Weights are random: speed does not
depend on them. flash-linear-attention is measured beside WKV6 where it can be imported.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton
os.environ["GF_KERNELS"] = "triton"

from gfkernels import wkv6_chunked

from goldfinch.cache import open_cache
from goldfinch.config import ModelConfig, RopeConfig
from goldfinch.measure.conditions import _commit
from goldfinch.model import LanguageModel
from goldfinch.model_directory import _empty_model
from goldfinch.prefilling import prefill
from goldfinch.session import Session, decode_one_token
from goldfinch.template import PromptTemplate

RESULTS = Path(__file__).parent / "results"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
QUESTION = list(range(1, 33))
SHAPES = {"12x768": (12, 768), "24x2048": (24, 2048)}
FULL = {
    "wkv6": [16_384, 65_536, 262_144],
    "prefill": {"24x2048": [16_384, 65_536, 262_144, 1_048_576], "12x768": [16_384, 262_144]},
    "llama": [4096, 32_768, 131_072, 524_288],
    "reload": [4096, 32_768, 131_072],
    "decode": 131_072,
    "long": 1_048_576,
    "heads": 32,
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
    "heads": 1,
    "answer": 2,
    "packing": (3, 12, [30]),
}


class Sweep:
    """Sizes, what was measured so far, and where it goes."""

    def __init__(self, toy: bool, output: Path, budget_s: float) -> None:
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
        self.output.write_text(json.dumps(record, indent=2) + "\n")

    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget_s - (time.perf_counter() - self.started)

    def conditions(self) -> dict[str, Any]:
        """Device, versions and ceilings."""
        import triton

        try:
            commit = _commit()
        except OSError:  # no git on the machine
            commit = None
        return {
            "commit": commit,
            "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "interpreter",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": triton.__version__,
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
            _free()
            self._models[key] = random_model(config_of(kind, shape), self.dtype)
        return self._models[key]


def _version(package: str) -> str | None:
    if importlib.util.find_spec(package) is None:
        return None
    return str(getattr(importlib.import_module(package), "__version__", "unknown"))


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _free() -> None:
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
        model = _empty_model(LanguageModel, config).to(dtype)
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
    sweep.ceilings["copy_bytes_s"] = moved / seconds(lambda: target.copy_(source), 10, 3)
    size = 64 if sweep.toy else 8192
    a, b = (torch.randn(size, size, device=DEVICE).to(sweep.dtype) for _ in range(2))
    sweep.ceilings["product_flop_s"] = 2 * size**3 / seconds(lambda: a @ b, 20, 5)
    sweep.add("ceilings", "copy and product", **sweep.ceilings)


def _wkv6_inputs(sweep: Sweep, T: int) -> list[torch.Tensor]:
    generator = torch.Generator(DEVICE).manual_seed(T)
    shape = (1, T, sweep.sizes["heads"], 64)
    rows = [torch.randn(shape, generator=generator, device=DEVICE).to(sweep.dtype) for _ in range(3)]
    w_raw = torch.rand(shape, generator=generator, device=DEVICE) * 5 - 6
    return [*rows, w_raw.to(sweep.dtype)]


def measure_wkv6(sweep: Sweep) -> None:
    """Forward at B = 1 and packed; bytes are those that must move: r, k, v, w_raw once in, y once out."""
    from gfkernels.wkv6_triton import wkv6_triton

    small = _wkv6_inputs(sweep, 48 if sweep.toy else 2000)
    exact = wkv6_chunked(*(x.float() for x in small))[0]
    error = float((wkv6_triton(*small)[0].float() - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt())
    sweep.add("wkv6", "rms error against torch in float32", ratio=error)
    if not error < 2e-2:
        raise RuntimeError(f"wkv6 is wrong here: rms error {error}")
    state = torch.zeros(1, sweep.sizes["heads"], 64, 64, device=DEVICE)
    fla = _fla()
    for T in sweep.sizes["wkv6"]:
        rows = _wkv6_inputs(sweep, T)
        ours = seconds(lambda rows=rows: wkv6_triton(*rows, None, state), 20, 3, 3.0)
        moved = 5 * rows[0].numel() * rows[0].element_size()
        values = {"ms": 1e3 * ours, "share_of_copy": moved / ours / sweep.ceilings["copy_bytes_s"]}
        if fla is not None:
            r, k, v, w_raw = rows
            log_w, u = -torch.exp(w_raw.float()).to(sweep.dtype), torch.zeros_like(r[0, 0])
            theirs = seconds(lambda: fla(r, k, v, log_w, u, state), 20, 3, 3.0)  # noqa: B023
            values |= {"fla_ms": 1e3 * theirs, "times_fla": theirs / ours}
        sweep.add("wkv6", f"T {T}", **values)
        cuts = [0, T // 7, T // 5, T // 2, T // 2 + 1, T]
        states = torch.zeros(len(cuts) - 1, *state.shape[1:], device=DEVICE)
        bounds = torch.tensor(cuts)
        packed = seconds(lambda rows=rows: wkv6_triton(*rows, None, states, cu_seqlens=bounds), 20, 3, 3.0)  # noqa: B023
        sweep.add(
            "wkv6", f"T {T}, 5 packed", ms=1e3 * packed, share_of_copy=moved / packed / sweep.ceilings["copy_bytes_s"]
        )


def _fla() -> Callable[..., Any] | None:
    """flash-linear-attention's chunked RWKV-6 forward without its scale, or None."""
    try:
        from fla.ops.rwkv6 import chunk_rwkv6
    except ImportError:
        return None

    def run(r: Any, k: Any, v: Any, log_w: Any, u: Any, state: Any) -> Any:
        with torch.no_grad():
            return chunk_rwkv6(r, k, v, log_w, u, scale=1.0, initial_state=state, output_final_state=True)

    return run


def measure_prefill(sweep: Sweep) -> None:
    """Whole documents; the share of the product rate counts the layers' matrix products only."""
    for shape, lengths in sweep.sizes["prefill"].items():
        model = sweep.model("goldfinch", shape)
        if DEVICE.type == "cuda":
            model.run_prefill_layers(tokens_of(model, 512), model.empty_state())
        for T in lengths:
            ids = tokens_of(model, T)
            prefill(model, ids[:, : min(T, 32_768)])
            took = seconds(lambda model=model, ids=ids: prefill(model, ids), 5, 0)
            rate = T / took
            share = rate * product_flops(model) / sweep.ceilings["product_flop_s"]
            sweep.add("prefill", f"{shape}, T {T}", tok_s=rate, share_of_products=share)


def measure_packing(sweep: Sweep) -> None:
    """Short documents of unequal length, one by one and in packs (gf prefill --batch-tokens)."""
    from goldfinch.packing import Unpacked, prefill_packed

    count, length, packs = sweep.sizes["packing"]
    lengths = torch.randint(length // 2, 3 * length // 2, (count,), generator=torch.Generator().manual_seed(0)).tolist()
    for shape in sweep.sizes["prefill"]:
        model = sweep.model("goldfinch", shape)
        documents = [Unpacked(tokens_of(model, n), (0, n)) for n in lengths]

        def alone(model: LanguageModel = model, documents: list[Unpacked] = documents) -> None:
            for document in documents:
                prefill(model, document.token_ids)

        rate = sum(lengths) / seconds(alone, 5, 1)
        sweep.add("packing", f"{shape}, {count} documents, one by one", tok_s=rate)
        for most in packs:
            groups: list[list[Unpacked]] = [[]]
            for document in documents:
                if sum(d.token_ids.shape[1] for d in groups[-1]) + document.token_ids.shape[1] > most:
                    groups.append([])
                groups[-1].append(document)

            def packed(model: LanguageModel = model, groups: list[list[Unpacked]] = groups) -> None:
                for group in groups:
                    prefill_packed(model, group)

            together = sum(lengths) / seconds(packed, 5, 1)
            sweep.add("packing", f"{shape}, packs of {most}", tok_s=together, times_one_by_one=together / rate)


def measure_llama(sweep: Sweep) -> None:
    """Prefill of a Llama of the same shape with PyTorch's attention, one pass over the document."""
    shape = next(iter(sweep.sizes["prefill"]))
    ours: dict[int, float] = {}
    model = sweep.model("goldfinch", shape)
    for T in sweep.sizes["llama"]:
        ids = tokens_of(model, T)
        ours[T] = T / seconds(lambda ids=ids: prefill(model, ids), 5, 1)
    model = sweep.model("llama", shape)
    before = os.environ.pop("GF_KERNELS")
    try:
        for T in sweep.sizes["llama"]:
            # 2 T^2 C per layer and half of it masked, at half the product rate: leave what cannot end in time.
            flops = T * product_flops(model) + 2 * T * T * model.config.d_model * model.config.n_layer
            if 2 * flops / (0.4 * sweep.ceilings["product_flop_s"]) > sweep.left_s() and not sweep.toy:
                sweep.add("llama", f"{shape}, T {T}", left_out="not enough time", goldfinch_tok_s=ours[T])
                continue
            ids = tokens_of(model, T)
            try:
                theirs = T / seconds(lambda: model.run_prefill_layers(ids, model.empty_state()), 5, int(T < 100_000))  # noqa: B023
            except torch.OutOfMemoryError:  # its keys and values of all layers, which GoldFinch does not keep
                sweep.add("llama", f"{shape}, T {T}", left_out="out of memory", goldfinch_tok_s=ours[T])
                _free()
                continue
            sweep.add("llama", f"{shape}, T {T}", tok_s=theirs, goldfinch_tok_s=ours[T], times_llama=ours[T] / theirs)
    finally:
        os.environ["GF_KERNELS"] = before


def measure_decode(sweep: Sweep) -> None:
    """Decode at depth, keys and values kept or rebuilt at every step; through decode_one_token, and as a graph."""
    from goldfinch.decode_graph import StaticDecoder

    shape, T, n = next(iter(sweep.sizes["prefill"])), sweep.sizes["decode"], sweep.sizes["answer"]
    model = sweep.model("goldfinch", shape)
    cache = prefill(model, tokens_of(model, T))
    for way, memory in (("kept", 1 << 50), ("rebuilt", 0)):
        session = Session(model, cache, memory_bytes=memory)
        logits, state = session.start(QUESTION)

        def plain(state: Any = state, logits: torch.Tensor = logits) -> None:
            token = int(logits.argmax())
            for _ in range(n):
                logits, state = decode_one_token(model, token, state)
                token = int(logits.argmax())

        values = {"tok_s": n / seconds(plain, 3, 1, 10.0)}
        decoder = StaticDecoder(model, state, 4 * n)

        def steps(decoder: StaticDecoder = decoder) -> None:
            token = 1
            for _ in range(n):
                token = int(decoder.step(token).argmax())

        values["graph_tok_s"] = n / seconds(steps, 3, 1, 10.0)
        sweep.add("decode", f"{shape} @ d{T}, {way}", **values)
        del session, state, decoder
        _free()


def measure_files(sweep: Sweep) -> None:
    """From a file with the model loaded: first token, beside prefill from scratch; memory of rebuilding at length."""
    shape = next(iter(sweep.sizes["prefill"]))
    model = sweep.model("goldfinch", shape)
    if importlib.util.find_spec("zstandard") is None:
        from gfcache import codecs

        codecs.encode = lambda raw, try_zstd: ("raw", raw)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(prefix="gf-bench-") as folder:
        for T in [*sweep.sizes["reload"], sweep.sizes["long"]]:
            path, ids = Path(folder) / f"{T}.gfc", tokens_of(model, T)
            cache = prefill(model, ids)
            cache.save(path)
            size = path.stat().st_size
            del cache
            _free()
            is_long = sweep.sizes["long"] == T
            memory = 0 if is_long else 1 << 50
            weights = torch.cuda.memory_allocated() if DEVICE.type == "cuda" else 0
            if DEVICE.type == "cuda":
                torch.cuda.reset_peak_memory_stats()

            def ask(path: Path = path, memory: int = memory) -> None:
                Session(model, open_cache(path, model), memory_bytes=memory).start(QUESTION)

            values: dict[str, Any] = {"first_token_ms": 1e3 * seconds(ask, 3, 1, 20.0), "file_bytes": size}
            if is_long and DEVICE.type == "cuda":
                values["peak_bytes_beyond_weights"] = torch.cuda.max_memory_allocated() - weights

            def scratch(ids: torch.Tensor = ids, memory: int = memory) -> None:
                Session(model, prefill(model, ids), memory_bytes=memory).start(QUESTION)

            from_scratch = 1e3 * seconds(scratch, 3, 0, 10.0)
            values |= {"from_scratch_ms": from_scratch, "times_faster": from_scratch / values["first_token_ms"]}
            sweep.add("file", f"{shape} @ d{T}, {'rebuilt' if is_long else 'kept'}", **values)
            path.unlink()
            _free()


SECTIONS: dict[str, Callable[[Sweep], None]] = {
    "wkv6": measure_wkv6,
    "prefill": measure_prefill,
    "packing": measure_packing,
    "decode": measure_decode,
    "file": measure_files,
    "llama": measure_llama,
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text, a line each."""
    lines = []
    for row in rows:
        values = [f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in list(row.items())[2:]]
        lines.append(f"{row['section']:<9} {row['name']:<32} {', '.join(values)}")
    return "\n".join(lines)


def main() -> None:
    """Run the sections, write the record, print the table. Exit 1 when a section failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--budget", type=float, default=480.0, help="seconds; sections that do not fit are left out")
    parser.add_argument("--output", type=Path, default=Path(os.environ.get("OUT") or RESULTS) / "gpu.json")
    options = parser.parse_args()
    if DEVICE.type != "cuda" and not options.toy:
        parser.error("no GPU here; --toy rehearses in Triton's interpreter")
    sweep, failed = Sweep(options.toy, options.output, options.budget), []
    with torch.no_grad():
        measure_ceilings(sweep)
        for name in options.only.split(","):
            if sweep.left_s() < 0:
                sweep.add(name, "left out", reason="the budget is spent")
                continue
            begun = time.perf_counter()
            try:
                SECTIONS[name](sweep)
            except Exception as error:  # the other sections are worth having
                traceback.print_exc()
                failed.append(name)
                sweep.add(name, "failed", error=f"{type(error).__name__}: {error}"[:300])
            sweep.add(name, "section took", s=time.perf_counter() - begun)
            _free()
    print(table(sweep.rows))
    print(f"record: {options.output}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

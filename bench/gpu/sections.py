"""The sections of `run.py`: each measures one thing and adds rows to the sweep."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gfkernels import wkv6_chunked

from goldfinch.caching.document_cache import open_cache
from goldfinch.engine.prefill import prefill
from goldfinch.engine.session import Session, decode_one_token
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.state import LayerState
from goldfinch.models.torch_executor import TorchExecutor

from .sweep import DEVICE, Sweep, free, kernel_seconds, product_flops, seconds, synchronize, tokens_of

QUESTION = list(range(1, 33))


def _wkv6_inputs(sweep: Sweep, T: int, heads: int, steep: bool = False) -> list[torch.Tensor]:
    """r, k, v, w_raw, each (1, T, heads, 64); with `steep` a third of the heads decays by exp(-20) a token."""
    generator = torch.Generator(DEVICE).manual_seed(T)
    shape = (1, T, heads, 64)
    rows = [torch.randn(shape, generator=generator, device=DEVICE).to(sweep.dtype) for _ in range(3)]
    w_raw = torch.rand(shape, generator=generator, device=DEVICE) * 5 - 6
    if steep:
        w_raw[:, :, ::3] = 3.0
    return [*rows, w_raw.to(sweep.dtype)]


def measure_wkv6(sweep: Sweep) -> None:
    """Forward at B = 1 and packed; bytes are those that must move: r, k, v, w_raw once in, y once out."""
    from gfkernels.wkv.triton import wkv6_triton

    wkv6: Callable[..., Any] = wkv6_triton

    for steep in (False, True):
        small = _wkv6_inputs(sweep, 48 if sweep.toy else 2000, sweep.sizes["heads"][0], steep)
        exact = wkv6_chunked(*(x.float() for x in small))[0]
        error = _rms(wkv6_triton(*small)[0], exact)
        sweep.add("wkv6", f"rms error against torch in float32{', steep' if steep else ''}", ratio=error)
        if not error < 2e-2:
            raise RuntimeError(f"wkv6 is wrong here: rms error {error}")
    fla = _fla()
    for heads in sweep.sizes["heads"]:
        state = torch.zeros(1, heads, 64, 64, device=DEVICE)
        for T in sweep.sizes["wkv6"]:
            rows = _wkv6_inputs(sweep, T, heads)
            moved = 5 * rows[0].numel() * rows[0].element_size()

            def row(name: str, run: Callable[[], Any], moved: int = moved) -> float:
                took = kernel_seconds(run)
                share = moved / took / sweep.ceilings["copy_bytes_s"]
                sweep.add("wkv6", name, ms=1e3 * took, share_of_copy=share)
                return took

            name = f"{heads} heads, T {T}"
            ours = row(name, partial(wkv6, *rows, None, state))
            steep_rows = _wkv6_inputs(sweep, T, heads, True)
            row(f"{name}, steep", partial(wkv6, *steep_rows, None, state))
            cuts = [0, T // 7, T // 5, T // 2, T // 2 + 1, T]
            states, bounds = torch.zeros(len(cuts) - 1, *state.shape[1:], device=DEVICE), torch.tensor(cuts)
            row(f"{name}, 5 packed", partial(wkv6, *rows, None, states, cu_seqlens=bounds))
            if fla is not None:
                _beside_fla(sweep, fla, rows, state, name, ours)


def _rms(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.float() - exact.float()).pow(2).mean().sqrt() / exact.float().pow(2).mean().sqrt())


def _beside_fla(
    sweep: Sweep, fla: Callable[..., Any], rows: list[torch.Tensor], state: torch.Tensor, name: str, ours: float
) -> None:
    """flash-linear-attention on the same rows, after a look at whether it computes the same."""
    from gfkernels.wkv.triton import wkv6_triton

    wkv6: Callable[..., Any] = wkv6_triton

    r, k, v, w_raw = rows
    log_w, u = -torch.exp(w_raw.float()).to(sweep.dtype), torch.zeros_like(r[0, 0])
    error = _rms(fla(r, k, v, log_w, u, state)[0], wkv6(*rows, None, state)[0])
    theirs = kernel_seconds(lambda: fla(r, k, v, log_w, u, state))
    sweep.add("wkv6", f"{name}, beside fla", fla_ms=1e3 * theirs, times_fla=theirs / ours, rms_difference=error)


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
        rates: list[float] = []
        for T in lengths:
            ids = tokens_of(model, T)
            prefill(model, ids[:, : min(T, 32_768)])
            took = seconds(partial(prefill, model, ids), 5, 0)
            rate = T / took
            share = rate * product_flops(model) / sweep.ceilings["product_flop_s"]
            sweep.add("prefill", f"{shape}, T {T}", tok_s=rate, share_of_products=share)
            rates.append(rate)
        sweep.add("prefill", f"{shape}, longest over shortest", ratio=rates[-1] / rates[0])


def measure_packing(sweep: Sweep) -> None:
    """Short documents of unequal length, one by one and in packs (gf prefill --batch-tokens)."""
    from gfkernels.wkv.triton import segment_plan

    from goldfinch.backends.triton.layers import packing_of
    from goldfinch.engine.packed_prefill import Unpacked, prefill_packed

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
                packing_of.cache_clear()  # as with documents that were not seen before
                segment_plan.cache_clear()
                for group in groups:
                    prefill_packed(model, group)

            together = sum(lengths) / seconds(packed, 5, 1)
            sweep.add("packing", f"{shape}, packs of {most}", tok_s=together, times_one_by_one=together / rate)


def measure_llama(sweep: Sweep) -> None:
    """Prefill of a Llama of the same shape with PyTorch's flash attention, one pass over the document.

    Its keys and values are dropped layer by layer, so that the longest documents fit; that is in its favour.
    """
    for shape in sweep.sizes["prefill"]:
        ours: dict[int, float] = {}
        model = sweep.model("goldfinch", shape)
        for T in sweep.sizes["llama"]:
            ids = tokens_of(model, T)
            ours[T] = T / seconds(partial(prefill, model, ids), 5, 1)
        model = sweep.model("llama", shape)
        before = os.environ.pop("GF_KERNELS")
        try:
            for T in sweep.sizes["llama"]:
                _one_llama(sweep, model, f"{shape}, T {T}", tokens_of(model, T), ours[T])
        finally:
            os.environ["GF_KERNELS"] = before


def _one_llama(sweep: Sweep, model: LanguageModel, name: str, ids: torch.Tensor, ours: float) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    T = ids.shape[1]
    # 2 T^2 C per layer and half of it masked, at half the product rate: leave what cannot end in time.
    flops = T * product_flops(model) + 2 * T * T * model.config.d_model * model.config.n_layer
    rounds = 2 if T < 100_000 else 1
    # A round may be begun within the 15 s that repeats have.
    if rounds * flops / (0.4 * sweep.ceilings["product_flop_s"]) + 30 > sweep.left_s() and not sweep.toy:
        sweep.add("llama", name, left_out="not enough time", goldfinch_tok_s=ours)
        return

    def forward() -> torch.Tensor:
        x = model.embed(ids)
        for block in model.blocks:
            x, _ = block(x, LayerState())
        return x

    try:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION if DEVICE.type == "cuda" else SDPBackend.MATH):
            theirs = T / seconds(forward, 5, rounds - 1)
    except torch.OutOfMemoryError:
        sweep.add("llama", name, left_out="out of memory", goldfinch_tok_s=ours)
        free()
        return
    sweep.add(
        "llama",
        name,
        tok_s=theirs,
        goldfinch_tok_s=ours,
        times_llama=ours / theirs,
        attention="flash" if DEVICE.type == "cuda" else "math",
        compiled="no",
    )


def measure_travel(sweep: Sweep) -> None:
    """A cache written on one device and read on the other: how much the vectors and the logits differ."""
    from copy import deepcopy

    _without_zstandard()
    shape = next(reversed(sweep.sizes["prefill"]))
    on_device = sweep.model("goldfinch", shape)
    ids = tokens_of(on_device, sweep.sizes["travel"])
    models = {"device": on_device, "cpu": deepcopy(on_device)}
    models["cpu"].choose_executor(TorchExecutor)
    models["cpu"].to("cpu")
    os.environ["GF_KERNELS"] = "torch"  # what the ops on the CPU ask for
    with tempfile.TemporaryDirectory(prefix="gf-bench-") as folder:
        vectors, logits = {}, {}
        for name, model in models.items():
            cache = prefill(model, ids.to(model.device))
            cache.save(Path(folder) / f"{name}.gfc")
            assert cache.compressed_k is not None
            vectors[name] = cache.compressed_k.float().cpu()
        for writer in models:
            for reader, model in models.items():
                opened = open_cache(Path(folder) / f"{writer}.gfc", model)
                logits[writer, reader] = Session(model, opened).start(QUESTION)[0].float().cpu()
    os.environ["GF_KERNELS"] = "triton"
    exact = logits["cpu", "cpu"]
    values = {
        f"logits_{writer}_to_{reader}": float((found - exact).abs().max() / exact.abs().max())
        for (writer, reader), found in logits.items()
        if found is not exact
    }
    apart = float((vectors["device"] - vectors["cpu"]).abs().max() / vectors["cpu"].abs().max())
    sweep.add("travel", f"{shape} @ d{sweep.sizes['travel']}, largest differences", compressed_k=apart, **values)


def _stored_raw(array: Any, dtype: str, wanted: str, where: Any = None) -> tuple[str, bytes]:
    return "raw", array.tobytes()


def _without_zstandard() -> None:
    """Store bytes as they are where the compressor is not installed."""
    if importlib.util.find_spec("zstandard") is None:
        from gfcache.codecs import registry as codecs

        codecs.encode = _stored_raw


def measure_decode(sweep: Sweep) -> None:
    """Decode at depth, keys and values kept or rebuilt at every step; through decode_one_token, and as a graph."""
    T, n = sweep.sizes["decode"], sweep.sizes["answer"]
    for shape in sweep.sizes["prefill"]:
        model = sweep.model("goldfinch", shape)
        cache = prefill(model, tokens_of(model, T))
        for way, memory in (("kept", 1 << 50), ("rebuilt", 0)):
            session = Session(model, cache, memory_bytes=memory)
            logits, state = session.start(QUESTION)

            def plain(state: Any = state, logits: torch.Tensor = logits, model: LanguageModel = model) -> None:
                token = int(logits.argmax())
                for _ in range(n):
                    logits, state = decode_one_token(model, token, state)
                    token = int(logits.argmax())

            values = {"tok_s": n / seconds(plain, 5, 1, 10.0)}
            decoder = model.executor.decoder(state, 8 * n)

            def steps(decoder: Any = decoder) -> None:
                token = 1
                for _ in range(n):
                    token = int(decoder.step(token).argmax())

            if decoder is not None:  # the interpreter has no graph
                values["graph_tok_s"] = n / seconds(steps, 5, 1, 10.0)
            sweep.add("decode", f"{shape} @ d{T}, {way}", **values)
            del session, state, decoder
            free()


def measure_files(sweep: Sweep) -> None:
    """From a file in the page cache with the model loaded: first token, beside prefill from scratch; at length, the
    memory that an answer takes whose keys and values are rebuilt at every step."""
    _without_zstandard()
    for shape in sweep.sizes["prefill"]:
        model = sweep.model("goldfinch", shape)
        with tempfile.TemporaryDirectory(prefix="gf-bench-") as folder:
            for T in [*sweep.sizes["reload"], sweep.sizes["long"]]:
                _one_file(sweep, model, shape, T, Path(folder) / f"{T}.gfc")
                free()


def _one_file(sweep: Sweep, model: LanguageModel, shape: str, T: int, path: Path) -> None:
    ids, is_long = tokens_of(model, T), sweep.sizes["long"] == T
    cache = prefill(model, ids)
    cache.save(path)
    del cache
    free()
    memory = 0 if is_long else 1 << 50

    def ask() -> None:
        Session(model, open_cache(path, model), memory_bytes=memory).start(QUESTION)

    values: dict[str, Any] = {"first_token_ms": 1e3 * seconds(ask, 5, 1, 20.0), "file_bytes": path.stat().st_size}
    if is_long and DEVICE.type == "cuda":
        free()
        weights = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        # Long enough for the first tokens one by one and the later ones in a graph.
        Session(model, open_cache(path, model), memory_bytes=0).generate(QUESTION, max_tokens=16)
        synchronize()
        values["peak_bytes_beyond_weights"] = torch.cuda.max_memory_allocated() - weights

    def scratch() -> None:
        Session(model, prefill(model, ids), memory_bytes=memory).start(QUESTION)

    from_scratch = 1e3 * seconds(scratch, 5, 0, 10.0)
    values |= {"from_scratch_ms": from_scratch, "times_faster": from_scratch / values["first_token_ms"]}
    sweep.add("file", f"{shape} @ d{T}, {'rebuilt' if is_long else 'kept'}", **values)
    path.unlink()

"""How fast prefill, ask, start-up and the kernels are here: the measurements behind `gf bench`.

Every measurement checks first that what it measures is right, warms up, and repeats; figures are medians with minimum
and maximum. Documents are random token ids: nothing is gained from their content.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from gfcache.files.temporary import temporary_folder
from gfkernels import wkv6
from torch import Tensor

from goldfinch.backends.choose import choose_executor
from goldfinch.caching.document_cache import open_cache
from goldfinch.devices import synchronize
from goldfinch.engine.prefill import prefill
from goldfinch.engine.session import Session, decode_one_token
from goldfinch.errors import GoldFinchError
from goldfinch.models.language_model import LanguageModel

from .conditions import conditions
from .selfcheck import run_checks

Report = Callable[[dict[str, Any]], None]
QUESTION_TOKENS = 32


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def random_tokens(model: LanguageModel, count: int, seed: int = 0) -> Tensor:
    """(1, count) token ids on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.config.vocab_size, (1, count), generator=generator).to(model.device)


def gate(model: LanguageModel) -> None:
    """Refuse to measure a model or machine that gives wrong results.

    Raises:
        GoldFinchError: naming the check that fails.
    """
    with temporary_folder("bench") as folder:
        for check in run_checks(model, folder):
            if not check.holds:
                raise GoldFinchError(f"nothing was measured: {check.name} fails ({check.seen})", hint="gf doctor")


def _record(what: str, model: LanguageModel, repeats: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schema_version": 1, "what": what, "repeats": repeats, "conditions": conditions(model), "rows": rows}


def measure_prefill(
    model: LanguageModel, lengths: Sequence[int], repeats: int, report: Report = lambda row: None
) -> dict[str, Any]:
    """Prefill tok/s by document length, lengths interleaved; beside it the rate of the matrix products alone."""
    gate(model)
    tokens = random_tokens(model, max(lengths))
    seconds: dict[int, list[float]] = {length: [] for length in lengths}
    products: list[float] = []
    prefill(model, tokens[:, : 4 * model.executor.block_tokens])
    for _ in range(repeats):
        products.append(1 / _product_seconds_per_token(model))
        for length in lengths:
            synchronize(model.device)
            started = time.perf_counter()
            prefill(model, tokens[:, :length])
            synchronize(model.device)
            seconds[length].append(time.perf_counter() - started)
    rows = []
    for length in lengths:
        rate = spread([length / s for s in seconds[length]])
        share = rate["median"] / statistics.median(products)
        rows.append({"name": f"pp{length}", "tokens": length, "tok_s": rate, "share_of_products": round(share, 3)})
        report(rows[-1])
    record = _record("prefill", model, repeats, rows)
    return record | {"products_tok_s": spread(products)}


def _product_seconds_per_token(model: LanguageModel) -> float:
    """Seconds per token that the matrix products of the prefill layers take, with nothing between them."""
    layers, rows = model.blocks[: model.config.n_prefill], model.executor.block_tokens
    pairs: dict[tuple[int, ...], Tensor] = {}
    weights = [p for block in layers for n, p in block.named_parameters() if p.dim() == 2 and n.endswith("weight")]
    low_rank = [p for block in layers for n, p in block.named_parameters() if p.dim() == 2 and n[-2:] in ("w1", "w2")]
    with torch.no_grad():
        for p in weights:
            pairs[p.shape[1:]] = torch.randn(rows, p.shape[1], dtype=p.dtype, device=p.device)
        for p in low_rank:
            pairs[p.shape[:1]] = torch.randn(rows, p.shape[0], dtype=p.dtype, device=p.device)
        synchronize(model.device)
        started = time.perf_counter()
        for p in weights:
            torch.nn.functional.linear(pairs[p.shape[1:]], p)
        for p in low_rank:
            pairs[p.shape[:1]] @ p
        synchronize(model.device)
        return (time.perf_counter() - started) / rows


def measure_ask(
    model: LanguageModel,
    lengths: Sequence[int],
    repeats: int,
    *,
    answer_tokens: int = 32,
    report: Report = lambda row: None,
) -> dict[str, Any]:
    """From a file with the model loaded: time to the first token (open, check, rebuild, question), decode tok/s.

    And the time to the first token when keys and values are not kept (`Session`), interleaved with the other: a single
    pass over the document, the case in which keeping them has the least to offer.

    Args:
        lengths: document lengths in tokens.
        answer_tokens: tokens decoded after the first.
    """
    gate(model)
    rows = []
    question = random_tokens(model, QUESTION_TOKENS, seed=1)[0].tolist()
    with temporary_folder("bench") as folder:
        for length in lengths:
            path = folder / f"{length}.gfc"
            started = time.perf_counter()
            cache = prefill(model, random_tokens(model, length))
            cache.save(path)
            prefill_s = time.perf_counter() - started
            kept, rebuilt = [], []
            for n in range(2 * (repeats + 1)):
                if n % 4 in (0, 3):  # in turn before and after the other way
                    rebuilt.append(_first_token_rebuilt(model, path, question))
                else:
                    kept.append(_asked(model, path, question, answer_tokens))
            opened, first, decode = zip(*kept[1:], strict=True)
            row = {
                "name": f"ask @ d{length}",
                "tokens": length,
                "file_bytes": path.stat().st_size,
                "prefill_and_save_s": round(prefill_s, 4),
                "open_ms": spread(opened),
                "first_token_ms": spread(first),
                "first_token_rebuilt_ms": spread(rebuilt[1:]),
                "decode_tok_s": spread(decode),
            }
            rows.append(row)
            report(row)
    return _record("ask", model, repeats, rows)


def _asked(model: LanguageModel, path: Path, question: list[int], answer_tokens: int) -> tuple[float, float, float]:
    """Milliseconds to the open cache and to the first token, and tok/s of the ones after it."""
    begun = time.perf_counter()
    cache = open_cache(path, model, asking=True)
    open_ms = 1e3 * (time.perf_counter() - begun)
    logits, state = Session(model, cache).start(question)
    token = int(logits.argmax())
    first_ms = 1e3 * (time.perf_counter() - begun)
    decoder = model.executor.decoder(state, answer_tokens)
    synchronize(model.device)
    begun = time.perf_counter()
    for _ in range(answer_tokens):
        if decoder is None:
            logits, state = decode_one_token(model, token, state)
        else:
            logits = decoder.step(token)
        token = int(logits.argmax())
    return open_ms, first_ms, answer_tokens / (time.perf_counter() - begun)


def _first_token_rebuilt(model: LanguageModel, path: Path, question: list[int]) -> float:
    """Milliseconds to the first token without keeping keys and values."""
    begun = time.perf_counter()
    Session(model, open_cache(path, model, asking=True), memory_bytes=0).start(question)[0].argmax().item()
    return 1e3 * (time.perf_counter() - begun)


_STARTS = {
    "python": "pass",
    "import torch": "import torch",
    "import torch and load the model": "import goldfinch, sys; goldfinch.load_model(sys.argv[1])",
    "gf --help": "import gfcli.app, sys; sys.exit(gfcli.app.run(['--help']))",
}


def measure_load(model: LanguageModel, repeats: int, report: Report = lambda row: None) -> dict[str, Any]:
    """Seconds from process start, each in a new process: the interpreter, torch, a loaded model, `gf --help`."""
    assert model.card is not None
    seconds: dict[str, list[float]] = {name: [] for name in _STARTS}
    for _ in range(repeats + 1):
        for name, code in _STARTS.items():
            started = time.perf_counter()
            command = [sys.executable, "-P", "-c", code, str(model.card.path)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - started)
    rows = [{"name": name, "seconds": spread(values[1:])} for name, values in seconds.items()]
    for row in rows:
        report(row)
    return _record("load", model, repeats, rows)


def measure_kernels(model: LanguageModel, repeats: int, report: Report = lambda row: None) -> dict[str, Any]:
    """Microseconds per token of the recurrent layers and of WKV6 with each backend, backends interleaved."""
    gate(model)
    config, T = model.config, model.executor.block_tokens
    tokens, H, D = random_tokens(model, T), config.n_head, config.head_dim
    generator = torch.Generator().manual_seed(0)
    r, k, v, w_raw = (torch.randn(1, T, H, D, generator=generator).to(model.device, model.dtype) for _ in range(4))
    state = torch.zeros(1, H, D, D, device=model.device)
    backends = list(dict.fromkeys([model.executor.name, "torch"]))
    executors = {backend: choose_executor(model, backend) for backend in backends}

    def layers(backend: str) -> None:
        executors[backend].lower_layers(tokens, model.empty_state().layers)

    ops: dict[str, tuple[Callable[[str], object], int]] = {
        "prefill layers": (layers, T * config.n_prefill),
        "wkv6": (lambda backend: wkv6(r, k, v, w_raw, None, state, backend=backend), T),
    }
    found: dict[tuple[str, str], list[float]] = {}
    with torch.no_grad():
        for _ in range(repeats + 2):
            for name, (run, count) in ops.items():
                for backend in backends:
                    synchronize(model.device)
                    started = time.perf_counter()
                    run(backend)
                    synchronize(model.device)
                    found.setdefault((name, backend), []).append(1e6 * (time.perf_counter() - started) / count)
    rows = [{"name": n, "backend": b, "us_per_token_layer": spread(v[2:])} for (n, b), v in found.items()]
    for row in rows:
        report(row)
    return _record("kernels", model, repeats, rows)

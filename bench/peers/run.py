"""gf beside what a user would pick instead, interleaved in one run.

    pip install -e '.[bench]'
    python -m bench.peers.run [--shape 12x768] [--lengths 512,2048,8192] [--repeats 5] [--only gf,transformers]
        [--record]
    OMP_NUM_THREADS=1 python -m bench.peers.run --only gf-fp32,transformers-fp32,llama.cpp-fp32
        --record bench/results/peers-avx2.json

The second is for processors without bf16 instructions. Time in which other programs had the CPUs does not count; with
one thread that is so however busy they are. Peers that are not installed are named and skipped; each has a file beside
this one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gfkernels.threads  # noqa: F401

import torch

from bench.places import RESULTS, add_record, write_record
from goldfinch.measure.conditions import conditions
from goldfinch.measure.flatness import forget_peak, peak_bytes
from goldfinch.measure.profile import Stopwatch
from goldfinch.measure.speed import QUESTION_TOKENS, gate, spread
from goldfinch.models.presets import presets
from goldfinch.weights.loading import load_model
from goldfinch.weights.writing import init_model

from .base import Peer
from .gf import Gf
from .llama_cpp import LlamaCpp
from .rwkv import Rwkv
from .shapes import SHAPES
from .transformers import Transformers

ANSWER_TOKENS = 32


def make_peers(options: argparse.Namespace, model: str | Path, folder: Path) -> tuple[list[Peer], dict[str, str]]:
    """The peers that can be had here, and why the others cannot."""
    longest, shape = max(options.lengths), SHAPES[options.shape]
    makers: dict[str, Callable[[], Peer]] = {
        "gf": lambda: Gf(torch.bfloat16, model, folder),
        "gf-fp32": lambda: Gf(torch.float32, model, folder),
        "transformers": lambda: Transformers(torch.bfloat16, shape, folder),
        "transformers-fp32": lambda: Transformers(torch.float32, shape, folder),
        "llama.cpp": lambda: LlamaCpp("Llama", torch.bfloat16, shape, folder, longest),
        "llama.cpp-no-flash": lambda: LlamaCpp("Llama", torch.bfloat16, shape, folder, longest, flash=False),
        "llama.cpp-rwkv6": lambda: LlamaCpp("RWKV-6", torch.bfloat16, shape, folder, longest),
        "rwkv": lambda: Rwkv("bf16", shape, folder),
        "llama.cpp-fp32": lambda: LlamaCpp("Llama", torch.float32, shape, folder, longest),
        "llama.cpp-no-flash-fp32": lambda: LlamaCpp("Llama", torch.float32, shape, folder, longest, flash=False),
        "llama.cpp-rwkv6-fp32": lambda: LlamaCpp("RWKV-6", torch.float32, shape, folder, longest),
        "rwkv-fp32": lambda: Rwkv("fp32", shape, folder),
    }
    peers, absent = [], {}
    for name, make in makers.items():
        if options.only and name not in options.only:
            continue
        try:
            peers.append(make())
        except Exception as error:
            absent[name] = f"{type(error).__name__}: {str(error)[:200]}"
            print(f"{name}: skipped, {absent[name]}", flush=True)
    return peers, absent


def measure(peers: list[Peer], options: argparse.Namespace, note: Callable[[], None]) -> list[dict[str, Any]]:
    """Prefill, save, first token from file and decode of every peer at every length, interleaved by repeat."""
    generator, vocabulary = torch.Generator().manual_seed(0), SHAPES[options.shape].vocabulary
    question = torch.randint(0, vocabulary, (QUESTION_TOKENS,), generator=generator).tolist()
    rows: list[dict[str, Any]] = options.rows
    for length in options.lengths:
        ids = torch.randint(0, vocabulary, (length,), generator=generator).tolist()
        repeats = options.repeats if length <= options.full_repeats_up_to else options.long_repeats
        found: dict[str, dict[str, list[float]]] = {peer.name: {} for peer in peers}
        for repeat in range(repeats + 1):  # the first is the warm-up
            for peer in peers:
                if repeat == 0 and length > options.full_repeats_up_to:
                    continue
                figures = _once(peer, ids, question, length <= options.full_repeats_up_to)
                if repeat:
                    for name, value in figures.items():
                        found[peer.name].setdefault(name, []).append(value)
        for peer in peers:
            row = {"peer": peer.name, "tokens": length, "repeats": repeats}
            row |= {name: spread(values) for name, values in found[peer.name].items()}
            rows.append(row)
            print(
                json.dumps({k: round(v["median"], 2) if isinstance(v, dict) else v for k, v in row.items()}), flush=True
            )
        note()
    return rows


def _once(peer: Peer, ids: list[int], question: list[int], with_answer: bool) -> dict[str, float]:
    before = forget_peak()
    watch = Stopwatch("cpu")
    cache = peer.prefill(ids)
    figures = {"prefill_tok_s": len(ids) / watch.seconds()[0]}
    figures["prefill_grew_bytes"] = float(peak_bytes() - before)
    if not with_answer:
        return figures
    watch = Stopwatch("cpu")
    peer.save(cache)
    figures["save_ms"] = 1e3 * watch.seconds()[0]
    figures["file_bytes"] = float(peer.file.stat().st_size)
    del cache
    watch = Stopwatch("cpu")
    step = peer.first_token(question)
    figures["first_token_ms"] = 1e3 * watch.seconds()[0]
    watch = Stopwatch("cpu")
    for _ in range(ANSWER_TOKENS):
        step()
    figures["decode_tok_s"] = ANSWER_TOKENS / watch.seconds()[0]
    return figures


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="12x768", choices=sorted(SHAPES))
    parser.add_argument("--lengths", default="512,2048,8192", type=lambda t: [int(n) for n in t.split(",")])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--long-repeats", type=int, default=3)
    parser.add_argument("--full-repeats-up-to", type=int, default=8192)
    parser.add_argument("--only", default=[], type=lambda t: t.split(","))
    add_record(parser, RESULTS / "peers.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gf-peers-") as name:
        folder = Path(name)
        path: str | Path = SHAPES[options.shape].model
        if path in presets():
            init_model(str(path), 0, folder / "model")
            path = folder / "model"
        model = load_model(path, dtype=torch.bfloat16 if "gf" in (options.only or ["gf"]) else torch.float32)
        gate(model)
        peers, absent = make_peers(options, path, folder)
        record: dict[str, Any] = {
            "what": "gf beside peers",
            "shape": options.shape,
            "vocabulary": SHAPES[options.shape].vocabulary,
            "conditions": conditions(model),
        }
        record |= {"packages": _versions(), "absent": absent, "rows": []}
        options.rows = record["rows"]

        def note() -> None:
            write_record(options.record, record)

        measure(peers, options, note)


def _versions() -> dict[str, str]:
    import importlib.metadata

    out = {}
    for package in ("torch", "transformers", "llama_cpp_python", "rwkv", "gguf"):
        try:
            out[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            out[package] = "absent"
    if out["llama_cpp_python"] != "absent":
        import llama_cpp

        flags = llama_cpp.llama_print_system_info().decode()
        out["llama.cpp"] = " ".join(word.strip() for word in flags.split("|") if word.strip())
    return out


if __name__ == "__main__":
    main()

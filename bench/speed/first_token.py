"""The first token of an answer from a cache file, by the length of the document; writes bench/results/first-token.json.

    pip install -e '.[bench,find]'
    python -m bench.speed.first_token [--lengths 2048,8192,131072] [--repeats 7] [--threads 1] [--record]

Opening the file, finding the block, rebuilding its rows and the question count; loading model, tokenizer and word
vectors does not. Beside it transformers, from its own saved cache of --beside tokens, in the same run and interleaved.
Weights are random, for speed does not depend on them, nor on values: of each document only the first tokens are
computed, and their rows repeated. The documents are the paragraphs of docs/samples, shuffled. Times are given by the
clock and, for one thread, by CPU time, which others that use the machine do not change.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import gfkernels.threads  # noqa: F401

import torch

import goldfinch
from bench.peers.shapes import SHAPES
from bench.peers.transformers import Transformers
from bench.places import RESULTS, SAMPLES
from goldfinch.measure.conditions import conditions
from goldfinch.measure.speed import gate, spread
from goldfinch.models.language_model import LanguageModel
from goldfinch.weights.directory import DEFAULT_MODEL, find_model
from goldfinch.weights.writing import init_model

QUESTION = "How many lighthouses does the second chapter of the handbook name, and who keeps them?"
SHAPE = SHAPES["12x768"]


# Tokens of a document that are computed.
COMPUTED = 1024


@dataclass(frozen=True)
class Once:
    """Milliseconds of one first token: all of it by the clock and in CPU time, and the parts in CPU time."""

    first_token: float
    processor: float
    open: float
    find: float
    expand: float
    question: float


def document(model: LanguageModel, tokens: int) -> torch.Tensor:
    """(1, tokens) token ids of text in paragraphs."""
    random = Random(tokens)
    files = sorted(path for path in SAMPLES.iterdir() if path.suffix in (".txt", ".md", ".rst"))
    paragraphs = [p for path in files for p in path.read_text().split("\n\n")]
    ids: list[int] = []
    while len(ids) < tokens:
        random.shuffle(paragraphs)
        ids += model.tokenizer.encode("\n\n".join(paragraphs) + "\n\n")
    return torch.tensor([ids[:tokens]])


def prefilled(model: LanguageModel, tokens: int) -> goldfinch.DocumentCache:
    """The cache of a document, the rows of its first tokens in place of all."""
    ids = document(model, tokens)
    cache = goldfinch.prefill(model, ids[:, :COMPUTED])
    assert cache.compressed_k is not None
    rows = cache.compressed_k.repeat(1, -(-tokens // COMPUTED), 1)[:, :tokens].contiguous()
    state = replace(cache.state, position=tokens)
    return replace(cache, token_ids=ids[0].numpy(), compressed_k=rows, state=state, document_range=(0, tokens))


def ask(model: LanguageModel, path: Path, read: str) -> Once:
    """Open a cache file and answer up to the first token."""
    started, times = time.perf_counter(), [time.process_time()]
    cache = goldfinch.open_cache(path, model, asking=True)
    times.append(time.process_time())
    session = goldfinch.Session(model, cache, read=read)
    reading = session.reader.read(QUESTION)
    assert (reading.rows is None) == (read == "all")
    times.append(time.process_time())
    state = session.state_for(reading)
    times.append(time.process_time())
    logits, _ = session.start(session.question_token_ids(QUESTION), state)
    int(logits.argmax())
    times.append(time.process_time())
    whole = (time.perf_counter() - started, times[-1] - times[0])
    return Once(*(1e3 * s for s in (*whole, *(b - a for a, b in pairwise(times)))))


def theirs(peer: Transformers, question: list[int]) -> tuple[float, float]:
    """Milliseconds of their first token by the clock and in CPU time."""
    started, processor = time.perf_counter(), time.process_time()
    peer.first_token(question)
    return 1e3 * (time.perf_counter() - started), 1e3 * (time.process_time() - processor)


def save_theirs(peer: Transformers, model: LanguageModel, tokens: int) -> None:
    """Their cache of a document, in a file: the rows of its first tokens in place of all."""
    cache: Any = peer.prefill(document(model, COMPUTED)[0].tolist())
    for layer in cache.layers:
        layer.keys, layer.values = (x.repeat(1, 1, tokens // COMPUTED, 1) for x in (layer.keys, layer.values))
    peer.save(cache)


def measure(model: LanguageModel, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Rows of every length and policy, and of transformers."""
    files = {}
    for length in options.lengths:
        files[length] = folder / f"{length}.gfc"
        prefilled(model, length).save(files[length])
    peer = Transformers(model.dtype, SHAPE, folder)
    save_theirs(peer, model, options.beside)
    question = model.tokenizer.encode(QUESTION)
    runs = [(length, read) for length in options.lengths for read in options.read]
    found: dict[tuple[int, str], list[Once]] = {run: [] for run in runs}
    beside: list[tuple[float, float]] = []
    for repeat in range(options.repeats + 1):  # the first is the warm-up
        ask(model, files[options.lengths[0]], options.read[0])  # memory that the other program has used is taken back
        for length, read in runs:
            once = ask(model, files[length], read)
            if repeat:
                found[length, read].append(once)
        theirs(peer, question)
        once_theirs = theirs(peer, question)
        if repeat:
            beside.append(once_theirs)
    rows: list[dict[str, Any]] = [
        {"peer": "gf", "tokens": length, "read": read, "file_bytes": files[length].stat().st_size}
        | {f"{name}_ms": spread([getattr(o, name) for o in once]) for name in Once.__dataclass_fields__}
        for (length, read), once in found.items()
    ]
    clock, processor = (spread(list(values)) for values in zip(*beside, strict=True))
    return [*rows, {"peer": peer.name, "tokens": options.beside, "first_token_ms": clock, "processor_ms": processor}]


def ratios(rows: list[dict[str, Any]], beside: int, time_of: str) -> dict[str, float]:
    """The first token of each policy: longest document to shortest, and transformers' to gf's at equal length."""
    median = {(row["tokens"], row.get("read")): row[time_of]["median"] for row in rows}
    lengths = sorted({tokens for tokens, read in median if read})
    out = {}
    for read in sorted({read for _, read in median if read}):
        out[f"{read}: {lengths[-1]} to {lengths[0]} tokens"] = median[lengths[-1], read] / median[lengths[0], read]
        if (beside, read) in median:
            out[f"{read}: transformers to gf at {beside} tokens"] = median[beside, None] / median[beside, read]
    return {name: round(value, 3) for name, value in out.items()}


def main() -> None:
    """Measure, print, and with --record write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="2048,8192,131072", type=lambda t: [int(n) for n in t.split(",")])
    parser.add_argument("--read", default="lexical,hybrid", type=lambda t: t.split(","))
    parser.add_argument("--beside", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="gf-first-token-") as name:
        folder = Path(name)
        mini = find_model(DEFAULT_MODEL)
        init_model(SHAPE.model, 0, folder / "model", mini.path / str(mini.tokenizer_file))
        model = goldfinch.load_model(folder / "model", dtype=getattr(torch, options.dtype))
        gate(model)
        rows = measure(model, options, folder)
        record: dict[str, Any] = {
            "what": "first token from a cache file",
            "repeats": options.repeats,
            "conditions": conditions(model),
        }
        for time_of in ("first_token_ms", "processor_ms"):
            record[f"ratios_of_{time_of}"] = ratios(rows, options.beside, time_of)
        record["rows"] = rows
    print(json.dumps(record, indent=2))
    if options.record:
        (RESULTS / "first-token.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

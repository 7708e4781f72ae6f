"""Documents in blocks by their length, with a model of others: python -m bench.speed.blocks MODEL [--record]

Prefill: the CPU time per token of a long document and of short ones, one of which is pre-filled after each fifth of the
long one, so that both meet the same machine. Finding blocks and computing rows count; loading the model does not.
--layers 2 takes the first two layers of the model alone: what grows with the document then weighs more beside them.

First token, with the whole model: a question to the file of a long document, and to one of a document that is the very
block which the question finds there. Opening the file, finding the block, reading its rows and the question count. Both
take turns. Speed does not depend on values: the rows of these files are made up.

The documents are the paragraphs of docs/samples, shuffled, and the questions are about them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
import torch

from bench.places import RESULTS, SAMPLES, add_record, write_record
from goldfinch.engine.base import Start
from goldfinch.foreign import library
from goldfinch.foreign.running.block_prefill import in_blocks
from goldfinch.foreign.running.blocks import Blocks, planned_blocks
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.foreign.running.files import ForeignCache
from goldfinch.foreign.running.states import Held, SequenceState
from goldfinch.library.opening import engine_of, load
from goldfinch.measure.conditions import git_commit, processor
from goldfinch.policies.named import BLOCKS
from goldfinch.weights.directory import find_model

RESULT = RESULTS / "blocks-speed.json"
FIFTHS = 5
QUESTIONS = (
    "What is the capital of Mongolia?",
    "How old must a Representative be?",
    "What did the captain drink at the inn?",
)


def document(engine: ForeignEngine, tokens: int, seed: int) -> str:
    """A text of as many tokens or up to 5 % less: of a short one, parts that would be too long are left out."""
    files = sorted(path for path in SAMPLES.iterdir() if path.suffix in (".txt", ".md", ".rst"))
    known = [part.strip() for path in files for part in path.read_text().split("\n\n") if part.strip()]
    tokenizer: Any = engine.tokenizer
    random, parts, length = Random(seed), list[str](), 0
    while length < 0.95 * tokens:
        random.shuffle(known)
        for part in known:
            more = len(tokenizer.encode(part + "\n\n"))
            if length + more <= tokens:
                parts.append(part)
                length += more
    return "\n\n".join(parts) + "\n"


def first_layers(engine: ForeignEngine, count: int) -> ForeignEngine:
    """The model with its first layers alone."""
    model = engine.model
    prefixes = tuple(f"model.layers.{n}." for n in range(len(model.layers)))
    kept = {
        name: tensor
        for name, tensor in library.published_tensors(model.network).items()
        if not name.startswith(prefixes[count:])
    }
    values = json.loads(model.network.config.to_json_string(use_diff=False)) | {"num_hidden_layers": count}
    network = library.network_of(values, kept, model.dtype)
    return ForeignEngine(replace(model, network=network, layers=model.layers[:count]))


def prefilled(
    engine: ForeignEngine, text: str, pause: Callable[[int, int], float] = lambda done, total: 0.0
) -> dict[str, Any]:
    """Pre-fill; CPU seconds, without those that `pause` took."""
    started, paused = time.process_time(), 0.0

    def progress(done: int, total: int) -> None:
        nonlocal paused
        paused += pause(done, total)

    prompt = engine.document(text)
    span = prompt.document_range
    cache = engine.prefill_from(Start(), prompt.token_ids, document_range=span, progress=progress)
    seconds = time.process_time() - started - paused
    assert cache.blocks is not None
    return {
        "tokens": cache.length,
        "blocks": len(cache.blocks.token_ids),
        "cpu_s": seconds,
        "cpu_ms_per_token": 1e3 * seconds / cache.length,
    }


def prefill_both(engine: ForeignEngine, long: str, short: Sequence[str]) -> dict[str, Any]:
    """The long document, and a short one after each fifth of it."""
    rows, begun = list[dict[str, Any]](), 0

    def pause(done: int, total: int) -> float:
        nonlocal begun
        if done * FIFTHS < (begun + 1) * total:
            return 0.0
        begun += 1
        started = time.process_time()
        rows.append(prefilled(engine, short[begun - 1]))
        return time.process_time() - started

    prefilled(engine, short[0])  # the warm-up
    found = prefilled(engine, long, pause)
    ratio = found["cpu_ms_per_token"] / median(row["cpu_ms_per_token"] for row in rows)
    return {"layers": len(engine.model.layers), "ratio_per_token": ratio, "long": found, "short": rows}


def save_made_up(engine: ForeignEngine, text: str, path: Path) -> int:
    """Save a document in blocks whose rows are random; its tokens."""
    prompt, model = engine.document(text), engine.model
    before, planned = planned_blocks(model, prompt.token_ids)
    blocks, places = [block.tokens for block in planned], np.array([block.place for block in planned])
    longest = max(map(len, [before, *blocks]))
    dtype = library.DTYPES[model.dtype]
    pools = [
        (
            torch.randn(layer.kv_heads, longest, layer.head_dim, dtype=dtype),
            torch.randn(layer.kv_heads, longest, layer.value_dim, dtype=dtype),
        )
        for layer in model.layers
    ]

    def rows(count: int) -> tuple[Held, ...]:
        return tuple(Held(keys[:, :count], values[:, :count]) for keys, values in pools)

    cache = ForeignCache(
        prompt.token_ids,
        SequenceState(len(before), rows(len(before))),
        prompt.document_range,
        in_blocks(engine.identity, before, blocks),
        engine.numerics,
        tokenizer=model.tokenizer,
        blocks=Blocks(blocks, lambda n: rows(len(blocks[n])), places),
    )
    cache.save(path)
    return cache.length


def first_token(engine: ForeignEngine, path: Path, question: str) -> dict[str, float]:
    """Milliseconds of CPU time, all of it and its parts, and by the clock."""
    begun, times = time.perf_counter(), [time.process_time()]
    cache = engine.open(path, asking=True)
    times.append(time.process_time())
    session = engine.session(cache)
    reading = session.reader.read(question)
    times.append(time.process_time())
    state = session.reader.state(reading)
    times.append(time.process_time())
    logits, _ = session.start(session.question_token_ids(question), 1, state)
    int(logits.argmax())
    times.append(time.process_time())
    parts = dict(zip(("open", "find", "rows", "question"), (b - a for a, b in itertools.pairwise(times)), strict=True))
    seconds = {"cpu": times[-1] - times[0], **parts, "clock": time.perf_counter() - begun}
    return {f"{name}_ms": 1e3 * value for name, value in seconds.items()}


def first_tokens(engine: ForeignEngine, long: Path, question: str, repeats: int) -> dict[str, Any]:
    """One question to a long document and to the block alone that it finds there."""
    session = engine.session(engine.open(long, asking=True))
    found = session.reader.read(question).found[0]
    one = long.with_name("one.gfc")
    save_made_up(engine, session.reader.index.text(found.block).strip("\n") + "\n", one)
    times: dict[Path, list[dict[str, float]]] = {long: [], one: []}
    for repeat in range(repeats + 1):  # the first is the warm-up
        for path, rows in times.items():
            once = first_token(engine, path, question)
            if repeat:
                rows.append(once)
    ratios = [a["cpu_ms"] / b["cpu_ms"] for a, b in zip(*times.values(), strict=True)]
    medians = {path.stem: {key: median(row[key] for row in rows) for key in rows[0]} for path, rows in times.items()}
    return {"question": question, "ratio_of_cpu_ms": median(ratios), **medians}


def main() -> None:
    """Measure, print, and record where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or directory of a model of others")
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--beside", type=int, default=2_000)
    parser.add_argument("--layers", type=int, help="of the model that pre-fills; by default all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="auto")
    add_record(parser, RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    engine: Any = engine_of(load(find_model(options.model), dtype=options.dtype, layout=BLOCKS))
    text = document(engine, options.tokens, 0)
    beside = [document(engine, options.beside, seed) for seed in range(1, FIFTHS + 1)]
    with tempfile.TemporaryDirectory(prefix="gf-bench-blocks-") as name:
        long = Path(name) / "long.gfc"
        tokens = save_made_up(engine, text, long)
        asked = [first_tokens(engine, long, question, options.repeats) for question in QUESTIONS]
        size = long.stat().st_size
    print(json.dumps(asked), flush=True)
    fewer = engine if options.layers is None else first_layers(engine, options.layers)
    prefill = prefill_both(fewer, text, beside)
    record = {
        "what": "documents in blocks by their length, with a model of others",
        "commit": git_commit(),
        "processor": processor(),
        "threads": options.threads,
        "model": engine.model.name,
        "architecture": engine.model.config.model_type,
        "numerics": engine.numerics.to_dict(),
        "repeats": options.repeats,
        "ratios": {
            "CPU time per token of prefill, long to short": prefill["ratio_per_token"],
            "CPU time of the first token, long to one block": median(row["ratio_of_cpu_ms"] for row in asked),
        },
        "prefill": prefill,
        "first_token": {"tokens": tokens, "file_bytes": size, "layers": len(engine.model.layers), "rows": asked},
    }
    print(json.dumps(record["ratios"], indent=2))
    write_record(options.record, record)


if __name__ == "__main__":
    main()

"""What a cache of a model of others saves: python -m bench.speed.foreign MODEL [--tokens 2048] [--record]

Rounds, in one process with the model loaded: a document pre-filled and a question begun; the cache saved; read again
and the same question begun. Medians of ratios of CPU time within a round are quoted, never a time. Two processes more
tell the most memory that a prefill takes, ours and the library's own forward pass over the same tokens: the peak is
counted from when the model is loaded, which may itself take more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bench.places import RESULTS, add_record, write_record
from goldfinch.engine.base import Start
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.foreign.running.session import ForeignSession
from goldfinch.library.opening import engine_of, load
from goldfinch.measure.conditions import git_commit, processor
from goldfinch.weights.directory import find_model

QUESTION_TOKENS = 16
_PEAK = """
import re, sys, numpy as np, torch
from pathlib import Path
from goldfinch.library.opening import engine_of, load
from goldfinch.weights.directory import find_model
from goldfinch.engine.base import Start
from goldfinch.foreign import library
def most():
    return re.search("VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1]
torch.set_num_threads(1)
engine = engine_of(load(find_model(sys.argv[2]), dtype=sys.argv[4]))
ids = np.arange(int(sys.argv[3])) * 7919 % engine.model.config.vocab_size
Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at what is resident
loaded = most()
if sys.argv[1] == "ours":
    cache = engine.prefill_from(Start(), ids)
else:
    cache = library.new_cache(engine.model.network)
    library.forward(engine.model.network, torch.from_numpy(ids), cache, last=True)
print(loaded, most())
"""


def one_round(engine: ForeignEngine, tokens: int, folder: Path, seed: int) -> dict[str, float]:
    """CPU seconds of each step."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, engine.model.config.vocab_size, (1, tokens), generator=generator)[0].numpy()
    question = ids[:QUESTION_TOKENS].tolist()
    times = [time.process_time()]
    cache = engine.prefill_from(Start(), ids)
    times.append(time.process_time())
    cold, _ = ForeignSession(engine.model, cache).start(question)
    times.append(time.process_time())
    cache.save(folder / "a.gfc")
    times.append(time.process_time())
    opened = engine.open(folder / "a.gfc")
    warm, _ = ForeignSession(engine.model, opened).start(question)
    times.append(time.process_time())
    if not torch.equal(cold, warm):
        raise SystemExit("the reloaded cache gives other logits: nothing is measured")
    prefill, first, save, again = (b - a for a, b in itertools.pairwise(times))
    return {"prefill_s": prefill, "first_token_s": first, "save_s": save, "reload_and_first_token_s": again}


def peak_bytes(who: str, model: str, tokens: int, dtype: str) -> dict[str, int]:
    """Resident memory of a process with the model loaded, and the most of it from there to the end of a prefill."""
    command = [sys.executable, "-c", _PEAK, who, model, str(tokens), dtype]
    loaded, peak = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    return {"loaded_bytes": loaded * 1024, "peak_bytes": peak * 1024}


def main() -> None:
    """Measure, print, and record where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="name or directory of a model of others")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="f32")
    add_record(parser, RESULTS / "foreign.json")
    arguments = parser.parse_args()
    tokens = arguments.tokens - QUESTION_TOKENS - 1
    torch.set_num_threads(1)
    engine: Any = engine_of(load(find_model(arguments.model), dtype=arguments.dtype))
    with tempfile.TemporaryDirectory() as folder:
        one_round(engine, 64, Path(folder), 0)
        rounds = [one_round(engine, tokens, Path(folder), n) for n in range(arguments.rounds)]
        file_bytes = (Path(folder) / "a.gfc").stat().st_size
    ratios = {
        "prefill and first token over reload and first token": [
            (r["prefill_s"] + r["first_token_s"]) / r["reload_and_first_token_s"] for r in rounds
        ],
        "saving over prefill": [r["save_s"] / r["prefill_s"] for r in rounds],
    }
    peaks = {who: peak_bytes(who, arguments.model, tokens, arguments.dtype) for who in ("ours", "library")}
    record = {
        "what": "a cache of a model of others, saved and read again, model loaded in both cases",
        "commit": git_commit(),
        "processor": processor(),
        "model": engine.model.name,
        "architecture": engine.model.config.model_type,
        "numerics": engine.numerics.to_dict(),
        "tokens": tokens,
        "file_bytes_per_token": round(file_bytes / tokens, 1),
        "ratios": {
            name: {"median": statistics.median(found), "min": min(found), "max": max(found)}
            for name, found in ratios.items()
        },
        "peaks": peaks | {"ours over library": peaks["ours"]["peak_bytes"] / peaks["library"]["peak_bytes"]},
        "rounds": rounds,
    }
    print(json.dumps({name: record[name] for name in ("ratios", "peaks", "file_bytes_per_token")}, indent=2))
    write_record(arguments.record, record)


if __name__ == "__main__":
    main()

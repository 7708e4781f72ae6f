"""gf prefill over many short documents beside a process each and beside a plain loop: python -m bench.speed.batch

Three ways over the same documents, in turns: one `gf prefill`, one process with a plain loop (`plain_loop.py`), and a
`gf prefill` process per document (of a few, scaled up). For the record of commit 4c1d417 the first two ran inside this
process, so their start-up is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import goldfinch
from bench.places import RESULTS, SAMPLES, add_record, write_record
from goldfinch.measure.conditions import conditions

RESULT = RESULTS / "batch.json"
SAMPLE = SAMPLES / "us-constitution.txt"


def write_documents(model: Any, folder: Path, count: int, tokens: int) -> list[str]:
    """Different documents of `tokens` tokens."""
    ids = model.tokenizer.encode(SAMPLE.read_text())
    names = []
    for n in range(count):
        start = n * 37 % (len(ids) - tokens)
        path = folder / f"{n:03}.txt"
        path.write_text(model.tokenizer.decode(ids[start : start + tokens - 2]))
        names.append(str(path))
    return names


def seconds(command: list[str]) -> tuple[float, float]:
    """Wall clock and CPU time of a process and those that it starts."""
    os.sync()  # what was written before must not slow it down
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - started, os.times()
    return wall, sum(after[:4]) - sum(before[:4])


def span(values: list[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(ones: list[tuple[float, float]], others: list[tuple[float, float]], which: int) -> dict[str, float]:
    """How much less the others take, pair by pair: wall clock (0) or CPU time (1)."""
    return span([one[which] / other[which] for one, other in zip(ones, others, strict=True)])


def main() -> None:
    """Measure, print, and write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--processes", type=int, default=4, help="documents per repeat that get a process each")
    add_record(parser, RESULT)
    arguments = parser.parse_args()
    model = goldfinch.load_model()
    times: dict[str, list[tuple[float, float]]] = {"batch": [], "loop": [], "process_each": []}
    gf, loop = ([sys.executable, "-m", *words] for words in (("gfcli", "prefill", "-q"), ("bench.speed.plain_loop",)))
    with tempfile.TemporaryDirectory() as name:
        names = write_documents(model, Path(name), arguments.documents, arguments.tokens)
        for repeat in range(arguments.repeats + 1):
            places = [Path(name) / f"{kind}-{repeat}" for kind in ("batch", "loop", "each")]
            for place in places:
                place.mkdir()
            order = ("batch", "loop") if repeat % 2 else ("loop", "batch")
            ways = {"batch": [*gf, *names, "-o", f"{places[0]}/"], "loop": [*loop, f"{places[1]}", *names]}
            found = {kind: seconds(ways[kind]) for kind in order}
            each = [seconds([*gf, n, "-o", f"{places[2]}/"]) for n in names[: arguments.processes]]
            scale = len(names) / len(each)
            found["process_each"] = (sum(w for w, _ in each) * scale, sum(c for _, c in each) * scale)
            assert len(list(places[0].iterdir())) == len(list(places[1].iterdir())) == len(names)
            if repeat:  # the first is a warm-up
                for kind, value in found.items():
                    times[kind].append(value)
                print(json.dumps(found), flush=True)
    record = {
        "what": "many short documents: one gf prefill, a process each, a plain loop",
        "conditions": conditions(model) | {"threads": os.environ.get("OMP_NUM_THREADS")},
        "documents": arguments.documents,
        "tokens": arguments.tokens,
        "repeats": arguments.repeats,
        "seconds": {kind: span([wall for wall, _ in values]) for kind, values in times.items()},
        "processor_seconds": {kind: span([busy for _, busy in values]) for kind, values in times.items()},
        "faster_than_a_process_each": ratios(times["process_each"], times["batch"], 0),
        "faster_than_a_process_each_processor_time": ratios(times["process_each"], times["batch"], 1),
        "speed_of_the_loop": ratios(times["loop"], times["batch"], 0),
        "speed_of_the_loop_processor_time": ratios(times["loop"], times["batch"], 1),
    }
    write_record(arguments.record, record)


if __name__ == "__main__":
    main()

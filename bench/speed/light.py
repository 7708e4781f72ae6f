"""A question to a cache in a new process, with and without torch: python -m bench.speed.light [--record]

In turns: `python -c "import torch"`, `gf ask --cache` as it goes by itself, and the same with GF_KERNELS=native, which
is torch with the same kernels. Seconds by the clock and of the processor (user and system, all threads) from the start
of the process to its end; each is run once before, which also compiles and writes bytecode. The embedded model on the
first some 2,000 tokens of a document of docs/samples.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import gfcache

from bench.places import RESULTS, SAMPLES, add_record, write_record
from goldfinch.measure.conditions import git_commit, processor
from goldfinch.weights.directory import DEFAULT_MODEL

RESULT = RESULTS / "light.json"
REPEATS = 5
DOCUMENT, CHARACTERS = SAMPLES / "us-constitution.txt", 8_400
QUESTION = "Who has the power to lay and collect taxes?"


def run(arguments: list[str], folder: Path, kernels: str | None) -> tuple[str, float, float]:
    """stdout, seconds and processor seconds of a new Python; a failure ends the bench."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")} | ({"GF_KERNELS": kernels} if kernels else {})
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def spread(values: list[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": round(median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def main() -> None:
    """Measure, print, and record where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N")
    add_record(parser, RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gf-bench-light-") as name:
        folder = Path(name)
        document, cache = folder / "document.txt", folder / "document.gfc"
        document.write_text(DOCUMENT.read_text(encoding="utf-8")[:CHARACTERS], encoding="utf-8")
        run(["-m", "gfcli", "prefill", str(document), "-o", str(cache), "-q"], folder, None)
        ask = ["-m", "gfcli", "ask", "--cache", str(cache), QUESTION]
        programs: dict[str, Callable[[], tuple[str, float, float]]] = {
            "import torch": lambda: run(["-c", "import torch"], folder, None),
            "gf ask": lambda: run(ask, folder, None),
            "gf ask, with torch": lambda: run(ask, folder, "native"),
        }
        answers = {program: start()[0] for program, start in programs.items()}
        times: dict[str, list[tuple[float, float]]] = {program: [] for program in programs}
        for _ in range(options.repeats):
            for program, start in programs.items():
                times[program].append(start()[1:])
                print(program, times[program][-1], flush=True)
        tokens = gfcache.inspect_cache(cache)["tokens"]
    rows: list[dict[str, Any]] = [
        {"program": program, "clock_s": spread([a for a, _ in found]), "processor_s": spread([b for _, b in found])}
        for program, found in times.items()
    ]
    pairs = [list(zip(times["gf ask"], times[other], strict=True)) for other in ("import torch", "gf ask, with torch")]
    record = {
        "what": "a question to a cache in a new process, with and without torch",
        "commit": git_commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "model": DEFAULT_MODEL,
        "tokens": tokens,
        "same_answer": answers["gf ask"] == answers["gf ask, with torch"],
        "rows": rows,
        "processor_ratio_to_import": spread([mine[1] / other[1] for mine, other in pairs[0]]),
        "processor_ratio_to_torch": spread([mine[1] / other[1] for mine, other in pairs[1]]),
        "repeats": options.repeats,
    }
    write_record(options.record, record)
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()

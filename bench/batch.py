"""gf prefill over many short documents beside a process each and beside a plain loop: python bench/batch.py

Three ways over the same documents, interleaved: one `gf prefill`, one `gf prefill` process per document (of a few,
scaled up), and a loop in one process that reads, tokenises, pre-fills and saves, its imports and model load included.
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
from goldfinch.measure.conditions import conditions

RESULT = Path(__file__).parent / "results" / "batch.json"
SAMPLE = Path(__file__).parent.parent / "docs" / "samples" / "us-constitution.txt"
LOOP = """
import sys, hashlib
from pathlib import Path
import goldfinch
model = goldfinch.load_model()
out = Path(sys.argv[1])
for name in sys.argv[2:]:
    data = Path(name).read_bytes()
    ids, span = goldfinch.document_token_ids(model, data.decode())
    source = {"name": Path(name).name, "path": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    goldfinch.prefill(model, ids, document_range=span, source=source).save(out / (Path(name).stem + ".gfc"))
"""


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


def seconds(command: list[str]) -> float:
    """Wall clock of a process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def span(values: list[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--processes", type=int, default=4, help="documents per repeat that get a process each")
    arguments = parser.parse_args()
    model = goldfinch.load_model()
    times: dict[str, list[float]] = {"batch": [], "loop": [], "process_each": []}
    gf = [sys.executable, "-m", "gfcli"]
    with tempfile.TemporaryDirectory() as name:
        names = write_documents(model, Path(name), arguments.documents, arguments.tokens)
        for repeat in range(arguments.repeats + 1):
            places = [Path(name) / f"{kind}-{repeat}" for kind in ("batch", "loop", "each")]
            for place in places:
                place.mkdir()
            commands = {
                "batch": [*gf, "prefill", "-q", *names, "-o", f"{places[0]}/"],
                "loop": [sys.executable, "-c", LOOP, str(places[1]), *names],
            }
            order = ("batch", "loop") if repeat % 2 else ("loop", "batch")
            found = {}
            for kind in order:
                os.sync()  # what one has written must not slow the other's down
                found[kind] = seconds(commands[kind])
            each = [seconds([*gf, "prefill", "-q", n, "-o", f"{places[2]}/"]) for n in names[: arguments.processes]]
            found["process_each"] = statistics.mean(each) * len(names)
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
        "seconds": {kind: span(values) for kind, values in times.items()},
        "faster_than_a_process_each": span([b / a for a, b in zip(times["batch"], times["process_each"], strict=True)]),
        "speed_of_the_loop": span([b / a for a, b in zip(times["batch"], times["loop"], strict=True)]),
    }
    RESULT.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Prefill and decoding of this checkout beside another one, in turn: python -m bench.speed.two_checkouts OTHER

Each round starts a process per checkout, with the embedded model in float32 on the CPU; the medians of the ratios are
quoted, never a time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHILD = """
import json, sys, time
import torch, goldfinch
model = goldfinch.load_model()
text = open(sys.argv[1], encoding="utf-8").read()
ids, span = goldfinch.document_token_ids(model, text)
ids = ids[:, :4096]
prefills = []
for _ in range(4):
    started = time.perf_counter()
    cache = goldfinch.prefill(model, ids)
    prefills.append(time.perf_counter() - started)
session = goldfinch.Session(model, cache)
decodes = []
for _ in range(4):
    session.generate([5, 6, 7], max_tokens=64)
    decodes.append(session.last_usage.timings_s["decode"] / session.last_usage.generated_tokens)
print(json.dumps({"prefill": min(prefills[1:]), "decode": min(decodes[1:]), "tokens": ids.shape[1]}))
"""


def measured(checkout: Path, document: Path) -> dict[str, float]:
    """Seconds of a prefill and of a decoded token in one checkout, in a process of its own."""
    folders = [checkout, checkout / "kernels", checkout / "cache_format"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    done = subprocess.run(
        [sys.executable, "-P", "-c", CHILD, str(document)],
        cwd=checkout, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    values: dict[str, float] = json.loads(done.stdout)
    return values


def commit_of(checkout: Path) -> str:
    """The commit of a checkout, "-dirty" where it has changes."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout.strip()


def processor() -> str:
    """The name of the CPU."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    """Measure, print, and record where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", type=Path, help="file for the record")
    arguments = parser.parse_args()
    document = ROOT / "docs" / "samples" / "pep-0008.rst"
    rounds = [
        {"this": measured(ROOT, document), "other": measured(arguments.other.resolve(), document)}
        for _ in range(arguments.rounds)
    ]
    ratios = {name: [r["this"][name] / r["other"][name] for r in rounds] for name in ("prefill", "decode")}
    record = {
        "what": "seconds of this checkout over seconds of another, in turn",
        "commit": commit_of(ROOT),
        "other": commit_of(arguments.other),
        "processor": processor(),
        "cores": os.cpu_count(),
        "tokens": rounds[0]["this"]["tokens"],
        "ratios": {
            name: {"median": statistics.median(found), "min": min(found), "max": max(found)}
            for name, found in ratios.items()
        },
        "rounds": rounds,
    }
    print(json.dumps(record["ratios"], indent=2))
    if arguments.record is not None:
        arguments.record.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""The sweep on one GPU: WKV6, prefill beside Llama, answers from files at depth; ends with a short table.

    python -m bench.gpu.run        # NVIDIA or AMD GPU, about 8 minutes
    python -m bench.gpu.run --toy  # a rehearsal at toy sizes, in Triton's interpreter where there is no GPU
    python -m bench.gpu.run --only wkv6,prefill

Writes gpu.json after every row, into $OUT where that is set, else bench/results. Weights are random and their decays
moderate; WKV6 has rows of its own with steep ones. flash-linear-attention is measured beside WKV6 where it can be
imported.
"""

from __future__ import annotations

import argparse
import os
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.gpu.sections import (
    measure_decode,
    measure_files,
    measure_llama,
    measure_packing,
    measure_prefill,
    measure_travel,
    measure_wkv6,
)
from bench.gpu.sweep import DEVICE, Sweep, free, measure_ceilings
from bench.places import RESULTS, add_record

SECTIONS: dict[str, Callable[[Sweep], None]] = {
    "wkv6": measure_wkv6,
    "prefill": measure_prefill,
    "packing": measure_packing,
    "travel": measure_travel,
    "decode": measure_decode,
    "file": measure_files,
    "llama": measure_llama,
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text, one per line."""
    lines = []
    for row in rows:
        values = [f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in list(row.items())[2:]]
        lines.append(f"{row['section']:<9} {row['name']:<32} {', '.join(values)}")
    return "\n".join(lines)


def main() -> None:
    """Run the sections, print the table, write the record where that is asked for. Exit 1 when a section failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--budget", type=float, default=480.0, help="seconds; sections that do not fit are skipped")
    add_record(parser, Path(os.environ.get("OUT") or RESULTS) / "gpu.json")
    options = parser.parse_args()
    if DEVICE.type != "cuda" and not options.toy:
        parser.error("no GPU here; --toy rehearses in Triton's interpreter")
    sweep, failed = Sweep(options.toy, options.record, options.budget), []
    with torch.no_grad():
        measure_ceilings(sweep)
        for name in options.only.split(","):
            if sweep.left_s() < 0:
                sweep.add(name, "skipped", reason="the budget is spent")
                continue
            begun = time.perf_counter()
            try:
                SECTIONS[name](sweep)
            except Exception as error:  # the other sections are worth having
                traceback.print_exc()
                failed.append(name)
                sweep.add(name, "failed", error=f"{type(error).__name__}: {error}"[:300])
            sweep.add(name, "section took", s=time.perf_counter() - begun)
            free()
    print(table(sweep.rows))
    if options.record is not None:
        print(f"record: {options.record}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

"""Prefill tok/s and peak memory from 1k to 64k tokens; writes bench/results/flatness.json.

python bench/flatness.py [MODEL] [--lengths 1024,4096,16384,65536] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from goldfinch.measure.flatness import measure_flatness
from goldfinch.model_directory import DEFAULT_MODEL

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measure, print a row per length, write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL)
    parser.add_argument("--lengths", default="1024,4096,16384,65536")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "flatness.json")
    options = parser.parse_args()
    lengths = [int(n) for n in options.lengths.split(",")]
    record = measure_flatness(options.model, lengths, options.repeats, lambda row: print(json.dumps(row), flush=True))
    options.output.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

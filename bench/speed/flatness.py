"""Prefill tok/s and peak memory from 1k to 64k tokens; writes bench/results/flatness.json.

python -m bench.speed.flatness [MODEL or PRESET] [--lengths 1024,4096,16384,65536] [--repeats 5] [--dtype bfloat16]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import gfkernels.threads  # noqa: F401

import torch

from bench.places import RESULTS, add_record, write_record
from goldfinch.measure.flatness import measure_flatness
from goldfinch.models.presets import presets
from goldfinch.weights.directory import DEFAULT_MODEL
from goldfinch.weights.writing import init_model


def main() -> None:
    """Measure, print a row per length, write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", default=DEFAULT_MODEL)
    parser.add_argument("--lengths", default="1024,4096,16384,65536")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    add_record(parser, RESULTS / "flatness.json")
    options = parser.parse_args()
    lengths = [int(n) for n in options.lengths.split(",")]
    with tempfile.TemporaryDirectory(prefix="gf-flatness-") as folder:
        model = options.model
        if model in presets():
            model = str(Path(folder) / "model")
            init_model(options.model, 0, Path(model))
        dtype = getattr(torch, options.dtype)
        record = measure_flatness(model, lengths, options.repeats, _print, dtype=dtype)
    write_record(options.record, record)


def _print(row: dict[str, object]) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

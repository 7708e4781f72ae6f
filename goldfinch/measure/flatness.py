"""Prefill speed and memory against the length of the document: linear time means a flat line."""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from goldfinch.engine.prefill import prefill
from goldfinch.weights.loading import load_model

from .conditions import conditions
from .profile import Stopwatch

_CHILD = "import sys; from goldfinch.measure.flatness import print_peak; print_peak(*sys.argv[1:])"


def measure_flatness(
    model_name: str,
    lengths: Sequence[int],
    repeats: int,
    report: Callable[[dict[str, Any]], None] = lambda row: None,
    *,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """Prefill documents of random tokens, lengths interleaved, and the peak memory of each in a process of its own.

    Time in which other programs had the CPUs does not count (`Stopwatch`).

    Args:
        model_name: a model's name or directory.
        lengths: tokens.
        repeats: of each length.
        report: gets each row as it is done.
        dtype: compute dtype.

    Returns:
        a record: conditions, and per length tok/s (median, minimum, maximum) and peak resident bytes.
    """
    model, dtype_name = load_model(model_name, dtype=dtype), str(dtype).removeprefix("torch.")
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.config.vocab_size, (1, max(lengths)), generator=generator)
    prefill(model, tokens[:, :2048])  # warm-up
    rates: dict[int, list[float]] = {length: [] for length in lengths}
    for _ in range(repeats):
        for length in lengths:
            watch = Stopwatch(str(model.device))
            prefill(model, tokens[:, :length])
            rates[length].append(length / watch.seconds()[0])
    rows = []
    for length in lengths:
        found = sorted(rates[length])
        done = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD, model_name, dtype_name, str(length)],
            capture_output=True,
            text=True,
            check=True,
        )
        rows.append(
            {
                "tokens": length,
                "tok_s": {"median": found[len(found) // 2], "min": found[0], "max": found[-1]},
                "cache_bytes": cache_bytes(model.config.d_compressed, length, dtype.itemsize),
            }
            | json.loads(done.stdout)
        )
        report(rows[-1])
    return {"what": "prefill against length", "repeats": repeats, "conditions": conditions(model), "rows": rows}


def cache_bytes(d_compressed: int, length: int, element_bytes: int) -> int:
    """Bytes that the cache itself takes in memory: token ids as int64, compressed_k in the compute dtype."""
    return length * (8 + element_bytes * d_compressed)


def print_peak(model_name: str, dtype_name: str, tokens: str) -> None:
    """Print resident memory before prefilling so many tokens, and its peak during it (Linux)."""
    model = load_model(model_name, dtype=getattr(torch, dtype_name))
    ids = torch.randint(0, model.config.vocab_size, (1, int(tokens)), generator=torch.Generator().manual_seed(0))
    prefill(model, ids[:, :2048])  # buffers of the libraries are there before the measurement
    before = forget_peak()
    prefill(model, ids)
    print(json.dumps({"resident_bytes_before": before, "peak_bytes": peak_bytes()}))


def forget_peak() -> int:
    """Let the peak of this process start again from what is resident now; returns that, in bytes (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory freed before would serve what follows, and hide it
    Path("/proc/self/clear_refs").write_text("5")
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """The largest resident memory since the start or `forget_peak` (Linux)."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")

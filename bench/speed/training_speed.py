"""Tokens per second of a training step, with WKV6 in C and in torch; writes bench/results/training-speed.json.

python -m bench.speed.training_speed [--shapes 16x512,8x1024] [--repeats 7] [--preset goldfinch-small]
    [--precision float32]

Time in which other programs had the CPUs does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gfkernels.threads  # noqa: F401

import torch
from torch import Tensor

from bench.places import RESULTS, ROOT, add_record, write_record
from goldfinch.measure.conditions import conditions
from goldfinch.measure.profile import Stopwatch
from goldfinch.models.config import ModelConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.presets import presets
from goldfinch.train.recipe import read_recipe
from goldfinch.train.trainer import loss_function

RECIPE = ROOT / "bench" / "compare.toml"
RECORD = RESULTS / "training-speed.json"
BACKENDS = ("native", "torch")


def main() -> None:
    """Measure, interleaved; print; write the record where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="16x512,8x1024", help="sequences x tokens")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--preset", default="goldfinch-small")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    add_record(parser, RECORD)
    options = parser.parse_args()
    model = replace(presets()[options.preset], vocab_size=4096)
    rows = [_measure(model, shape, options.repeats, options.precision) for shape in options.shapes.split(",")]
    record = {"what": "training steps", "conditions": conditions(LanguageModel(model)), "preset": options.preset}
    record["precision"] = options.precision
    write_record(options.record, record | {"repeats": options.repeats, "rows": rows})


def _measure(config: ModelConfig, shape: str, repeats: int, precision: str) -> dict[str, Any]:
    batch, length = (int(n) for n in shape.split("x"))
    torch.manual_seed(0)
    recipe = replace(read_recipe(RECIPE), precision=precision)
    ids, weights = torch.randint(0, 4096, (batch, length)), torch.ones(batch, length)
    seconds: dict[str, list[float]] = {name: [] for name in BACKENDS}
    # A model for each: the backend is chosen while a step is traced, and what is compiled for a model is kept with it.
    models = {name: LanguageModel(replace(config, context_length=length)) for name in BACKENDS}
    steps = {name: torch.compile(loss_function(models[name], recipe), dynamic=False) for name in BACKENDS}
    for turn in range(repeats + 2):
        for name in BACKENDS:
            os.environ["GF_KERNELS"] = name
            taken = _step(models[name], steps[name], ids, weights)
            if turn >= 2:
                seconds[name].append(taken)
    row: dict[str, Any] = {"sequences": batch, "tokens": length}
    for name, times in seconds.items():
        rates = [batch * length / t for t in times]
        row[name] = {"median": statistics.median(rates), "min": min(rates), "max": max(rates)}
    row["ratio"] = row["native"]["median"] / row["torch"]["median"]
    print(json.dumps(row), flush=True)
    return row


def _step(model: LanguageModel, loss_of: Callable[..., Any], ids: Tensor, weights: Tensor) -> float:
    watch = Stopwatch("cpu")
    loss, _ = loss_of(ids, ids, weights)
    loss.backward()
    taken = watch.seconds()[0]
    model.zero_grad(set_to_none=True)
    return taken


if __name__ == "__main__":
    main()

"""Train GoldFinch and the baselines on the same tokens and measure them alike; writes bench/results/compare.json.

    python -m bench.quality.compare_models -o runs/compare [--kinds goldfinch,llama] [--seeds 1,2] [--device cuda]
    python -m bench.quality.compare_models -o runs/compare --optimizers adamw,muon --shrink 10 --record FILE
    python -m bench.quality.compare_models -o runs/long --recipe bench/compare-long.toml --seeds 1

Interrupted runs resume; finished runs are skipped. The record grows with every model measured. On two cores,
two of these side by side with OMP_NUM_THREADS=1 and different kinds train 1.2 to 1.3 times as many tokens as one.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import gfkernels.threads  # noqa: F401

import torch

from bench.places import EMBEDDED, RESULTS, ROOT, add_record
from goldfinch import load_model
from goldfinch.datasets.corpora import data_directory
from goldfinch.evaluate.held_out import BOOKS, held_out_texts
from goldfinch.evaluate.perplexity import evaluate_positions
from goldfinch.evaluate.tasks import evaluate
from goldfinch.models.config import RopeConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.presets import presets
from goldfinch.train.recipe import Recipe, Stage, read_recipe
from goldfinch.train.trainer import train

RECIPE = ROOT / "bench" / "compare.toml"
RECORD = RESULTS / "compare.json"
KINDS = ("goldfinch", "gptalpha", "finch_c2", "llama", "finch")  # the order of their losses in the paper
ROPE = "goldfinch_rope"  # GoldFinch with rotary positions in its GOLD layers
INTERPOLATIONS = (4.0, 16.0)  # of those positions, for documents longer than the trained length
TASKS = ("perplexity", "questions", "facts")


def main() -> None:
    """Train, measure, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="compare.toml, or one for long documents")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--optimizers", default="adamw")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="of the training; by default that of the recipe"
    )
    parser.add_argument("--data")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--passages", type=int, default=250)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--shrink", type=int, default=1, help="divide all tokens by this, for a rehearsal")
    add_record(parser, RECORD)
    options = parser.parse_args()
    options.record = options.record or options.output / "compare.json"  # what is there is gone on with
    options.output.mkdir(parents=True, exist_ok=True)
    seeds = [int(n) for n in options.seeds.split(",")]
    for seed, kind, optimizer in product(seeds, options.kinds.split(","), options.optimizers.split(",")):
        known = [(row["kind"], row["seed"], row["optimizer"], row["shrink"]) for row in _record(options)["models"]]
        if (kind, seed, optimizer, options.shrink) not in known:
            row = _one(kind, seed, optimizer, options)
            record = _record(options)  # read again: another process may have added its models meanwhile
            record["models"].append(row)
            options.record.write_text(json.dumps(record, indent=2) + "\n")


def _record(options: argparse.Namespace) -> dict[str, Any]:
    empty = {"what": "architectures on the same tokens", "models": []}
    return json.loads(options.record.read_text()) if options.record.exists() else empty


def _one(kind: str, seed: int, optimizer: str, options: argparse.Namespace) -> dict[str, Any]:
    recipe = _recipe(read_recipe(options.recipe), kind, seed, options.shrink, options.output)
    directory = data_directory(options.data)
    recipe = replace(recipe, optimizer=optimizer, precision=options.precision or recipe.precision)
    folder = f"{kind}-{seed}-{optimizer}-{options.shrink}"
    print(f"{folder}: {recipe.total_steps} steps", flush=True)
    path = train(
        recipe,
        directory,
        options.output / folder,
        device=options.device,
        workers=options.workers,
        compile_model=not options.no_compile,
        report=lambda entry: print(json.dumps(entry), flush=True),
    )
    model = load_model(path, device=options.device, dtype=torch.float32)
    found = evaluate(model, directory, tasks=TASKS, documents=options.documents, passages=options.passages)
    row: dict[str, Any] = {"kind": kind, "seed": seed, "optimizer": optimizer, "shrink": options.shrink}
    row["precision"] = recipe.precision
    row["tokens"] = recipe.tokens_until(recipe.total_steps)
    row["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    row["positions"] = _positions(model, directory)
    print(json.dumps(row | {"loss": found["perplexity"]["encyclopedia"]["loss"]}), flush=True)
    return row | found


def _positions(model: LanguageModel, directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Loss by place in long documents, with rotary positions as trained and interpolated."""
    texts = held_out_texts(directory, BOOKS) + held_out_texts(directory)
    found = {"as trained": evaluate_positions(model, texts)}
    ropes = [layer.rope for layer in model.gold_layers if layer.rope is not None]
    for rescale in INTERPOLATIONS if ropes else ():
        for rope in ropes:
            rope.config = replace(rope.config, rescale=rescale)
        found[f"rescale {rescale:g}"] = evaluate_positions(model, texts)
    return found


def _recipe(recipe: Recipe, kind: str, seed: int, shrink: int, folder: Path) -> Recipe:
    """The common recipe for one architecture; one tokenizer for all."""
    preset = presets()[f"{kind.removesuffix('_rope')}-small"]
    model = replace(preset, context_length=recipe.model.context_length)
    if kind == ROPE:
        model = replace(model, rope=RopeConfig())
    stages: tuple[Stage, ...] = tuple(replace(stage, tokens=stage.tokens // shrink) for stage in recipe.stages)
    tokenizer = str(EMBEDDED / "tokenizer.json")
    folder.mkdir(parents=True, exist_ok=True)
    return replace(recipe, name=f"{kind}-{seed}", model=model, seed=seed, stages=stages, tokenizer=tokenizer)


if __name__ == "__main__":
    main()

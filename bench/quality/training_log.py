"""Join the logs of the runs that a model went through into one record: bench/results/training-gf-mini.json

    python -m bench.quality.training_log runs/gf-mini [--recipe goldfinch/train/recipes/gf-mini.toml]

The folder is the run folder of `gf train`, with a folder for each run of the recipe.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.places import RESULTS, ROOT, add_record
from goldfinch.train.recipe import read_runs

RECIPE = ROOT / "goldfinch" / "train" / "recipes" / "gf-mini.toml"
RECORD = RESULTS / "training-gf-mini.json"


def main() -> None:
    """Read, join, write where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    add_record(parser, RECORD)
    options = parser.parse_args()
    runs = []
    before = 0
    for run in read_runs(options.recipe):
        if not run.recipe.stages:
            continue
        log = run.folder(options.folder) / "log.jsonl"
        steps = [json.loads(line) for line in log.read_text().splitlines()]
        tokens = [entry["tokens"] for entry in steps]
        curve = [
            [before + n, entry["loss"], entry["answer_loss"], entry["tok_s"]]
            for n, entry in zip(tokens, steps, strict=True)
        ]
        name = run.name or run.recipe.name
        runs.append({"recipe": name, "tokens": tokens[-1], "seconds": _seconds(tokens, steps), "curve": curve})
        before += tokens[-1]
    columns = ["tokens so far", "weighted loss", "loss of answers", "tok/s"]
    lines = [json.dumps(run) for run in runs]
    head = f'{{"what": "training of gf-mini", "columns": {json.dumps(columns)}, "runs": [\n'
    if options.record is not None:
        options.record.write_text(head + ",\n".join(lines) + "\n]}\n")
    print(f"{len(runs)} runs, {before:,} tokens")


def _seconds(tokens: list[int], entries: list[dict[str, float]]) -> float:
    past = [0, *tokens[:-1]]
    return round(sum((n - m) / entry["tok_s"] for n, m, entry in zip(tokens, past, entries, strict=True)), 1)


if __name__ == "__main__":
    main()

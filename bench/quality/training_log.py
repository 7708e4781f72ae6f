"""Join the logs of the runs that a model went through into one record: bench/results/training-gf-mini.json

    python -m bench.quality.training_log gf-mini=runs/default gf-mini-phrasings=runs/second ...

Each argument is RECIPE=RUN: the name of a recipe in goldfinch/train/recipes and the folder of its run, in order.
`--append` puts them behind the runs that the record holds already.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.places import RESULTS, ROOT
from goldfinch.train.recipe import read_recipe

RECIPES = ROOT / "goldfinch" / "train" / "recipes"
RECORD = RESULTS / "training-gf-mini.json"


def main() -> None:
    """Read, join, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RECIPE=RUN")
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args()
    runs = json.loads(options.record.read_text())["runs"] if options.append else []
    before = sum(run["tokens"] for run in runs)
    for argument in options.runs:
        name, folder = argument.split("=")
        recipe = read_recipe(RECIPES / f"{name}.toml")
        # A run that was cut logs steps again that were not saved: the last word counts.
        entries = {
            entry["step"]: entry for entry in map(json.loads, (Path(folder) / "log.jsonl").read_text().splitlines())
        }
        steps = [entries[step] for step in sorted(entries)]
        tokens = [entry.get("tokens", recipe.tokens_until(entry["step"])) for entry in steps]
        curve = [
            [before + n, entry["loss"], entry["answer_loss"], entry["tok_s"]]
            for n, entry in zip(tokens, steps, strict=True)
        ]
        runs.append({"recipe": name, "tokens": tokens[-1], "seconds": _seconds(tokens, steps), "curve": curve})
        before += tokens[-1]
    columns = ["tokens so far", "weighted loss", "loss of answers", "tok/s"]
    lines = [json.dumps(run) for run in runs]
    head = f'{{"what": "training of gf-mini", "columns": {json.dumps(columns)}, "runs": [\n'
    options.record.write_text(head + ",\n".join(lines) + "\n]}\n")
    print(f"{options.record}: {len(runs)} runs, {before:,} tokens")


def _seconds(tokens: list[int], entries: list[dict[str, float]]) -> float:
    past = [0, *tokens[:-1]]
    return round(sum((n - m) / entry["tok_s"] for n, m, entry in zip(tokens, past, entries, strict=True)), 1)


if __name__ == "__main__":
    main()

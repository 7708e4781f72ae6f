"""What the self-check of `gf model import` finds in each architecture, with tiny random weights.

    python -m bench.quality.architectures [--record]

The same check decides about every real model when it is imported; this record is the table in docs/models.md.
"""

from __future__ import annotations

import argparse
import json
import platform
from typing import Any

import torch

from bench.others.tiny_models import CONFIGS, config_json
from bench.places import RESULTS
from goldfinch.errors import GoldFinchError
from goldfinch.foreign import library
from goldfinch.foreign.configuration import clean_config
from goldfinch.foreign.importing import tried_network
from goldfinch.measure.conditions import git_commit, processor

RECORD = RESULTS / "architectures.json"


def tried(name: str) -> dict[str, Any]:
    """What is found in one architecture: kinds of layers, schedule and figures, or the words of the refusal."""
    config = clean_config(config_json(name))
    tensors = library.published_tensors(library.random_network(config))
    network = library.network_of(config, tensors)
    layers = [layer.kind + (" + states" if layer.states and layer.kind != "linear" else "")
              for layer in library.layers_of(network)]  # fmt: skip
    row: dict[str, Any] = {"name": name, "layers": sorted(set(layers))}
    try:
        check = tried_network(network, config, tensors)
    except GoldFinchError as error:
        return row | {"schedule": "refused", "reason": str(error)}
    return row | {"schedule": check.schedule, "figures": check.figures}


def main() -> None:
    """Try all, print the rows, and record them where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    rows = []
    arguments = parser.parse_args()
    for name in CONFIGS:
        rows.append(tried(name))
        print(json.dumps(rows[-1]))
    if arguments.record:
        conditions = {
            "commit": git_commit(), "processor": processor(), "python": platform.python_version(),
            "torch": torch.__version__, "transformers": library.library_version(), "threads": torch.get_num_threads(),
        }  # fmt: skip
        RECORD.write_text(json.dumps({"conditions": conditions, "architectures": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

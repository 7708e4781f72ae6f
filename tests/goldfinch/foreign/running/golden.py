"""Makes the files of tests/golden/v1_1 anew, as long as format 1.1 is a draft: `python -m tests.goldfinch.foreign.running.golden`."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from goldfinch.engine.prefill import Start
from goldfinch.foreign import library
from tests.goldfinch.foreign.running.tiny import engine_on, network_of, random_ids

FOLDER = Path(__file__).parents[3] / "golden" / "v1_1"
# A file for each kind of layer, by the architecture that has it.
NAMES = {"attention": "llama", "sliding": "mistral", "mamba": "mamba", "hybrid": "lfm2"}
TOKENS, QUESTION, ANSWER = 60, [7, 21, 33, 9], 8


def make() -> None:
    """Weights, a cache file each, and what the models say to it."""
    expected = {}
    for kind, name in NAMES.items():
        folder = FOLDER / kind
        folder.mkdir(parents=True, exist_ok=True)
        save_file(library.published_tensors(network_of(name)), folder / "model.safetensors", {"format": "pt"})
        engine = engine_on(name, network_of(name))
        positions = tuple(engine.plan_checkpoints(TOKENS, "32"))
        cache = engine.prefill_from(Start(checkpoints=positions), random_ids(TOKENS))
        header = cache.save(folder / "document.gfc", created_at="2026-11-29T00:00:00+00:00")
        generated = engine.session(cache).generate(QUESTION, max_tokens=ANSWER)
        expected[kind] = {"architecture": name, "digest": header.digest, "generated": generated}
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    make()

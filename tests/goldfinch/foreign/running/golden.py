"""Makes files of tests/golden/v1_1 anew, while format 1.1 is a draft: `python -m tests.goldfinch.foreign.running.golden KIND...`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from goldfinch.caching.row_parts import PLAIN, Form
from goldfinch.engine.base import Start
from goldfinch.foreign import library
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.policies.dropping.named import Dropping
from tests.goldfinch.foreign.running.tiny import model_on, network_of, random_ids

FOLDER = Path(__file__).parents[3] / "golden" / "v1_1"
# A file for each kind of layer, by the architecture that has it.
NAMES = {
    "attention": "llama",
    "sliding": "mistral",
    "mamba": "mamba",
    "hybrid": "lfm2",
    "blocks": "llama",
    "kept": "llama",
    "hybrid_blocks": "lfm2",
}
IN_BLOCKS = ("blocks", "hybrid_blocks")
TOKENS, QUESTION, ANSWER = 60, [7, 21, 33, 9], 8
TEXT = "bird;place;weight\n" + "".join(f"crane {n};lake {n % 7};{n * 31} g\n" for n in range(24))


def make(kinds: Iterable[str] = NAMES) -> None:
    """Weights, a cache file each, and what the models say to it."""
    expected = json.loads((FOLDER / "expected.json").read_text())
    for kind in kinds:
        name = NAMES[kind]
        folder = FOLDER / kind
        folder.mkdir(parents=True, exist_ok=True)
        save_file(library.published_tensors(network_of(name)), folder / "model.safetensors", {"format": "pt"})
        engine = engine_for(kind, network_of(name))
        positions = tuple(engine.plan_checkpoints(TOKENS, "32"))
        start = Start(checkpoints=positions, form=Form(dropping=Dropping("h2o", 0.5)) if kind == "kept" else PLAIN)
        if kind in IN_BLOCKS:
            prompt = engine.document(TEXT)
            cache = engine.prefill_from(start, prompt.token_ids, document_range=prompt.document_range)
        else:
            cache = engine.prefill_from(start, random_ids(TOKENS))
        header = cache.save(folder / "document.gfc", created_at="2026-11-29T00:00:00+00:00")
        generated = engine.session(cache).generate(QUESTION, max_tokens=ANSWER)
        expected[kind] = {"architecture": name, "digest": header.digest, "generated": generated}
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def engine_for(kind: str, network: Any) -> ForeignEngine:
    """The engine that makes, and answers from, the file of a kind."""
    more = {"layout": "blocks", "context_length": 1024} if kind in IN_BLOCKS else {}
    return ForeignEngine(model_on(NAMES[kind], network, **more))


if __name__ == "__main__":
    torch.set_num_threads(1)
    make(sys.argv[1:] or NAMES)

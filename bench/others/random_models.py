"""Models of published shapes with random weights, where no trained ones can be had: their bytes and times are true.

    python -m bench.others.random_models mamba-130m FOLDER --tokenizer SmolLM2-135M-Instruct/tokenizer.json
    gf model import FOLDER

FOLDER gets config.json, model.safetensors and the tokenizer, as Hugging Face has them. Their quality means nothing, and
`gf bench methods` notices and shows none. RecurrentGemma is not among them: `gf model import` refuses it, for it keeps
its state in its modules (docs/models.md).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from goldfinch.foreign import library
from goldfinch.foreign.configuration import clean_config

# As their config.json has them: state-spaces/mamba-130m-hf (arXiv 2312.00752), LiquidAI/LFM2-350M (2511.23404).
PUBLISHED: dict[str, dict[str, Any]] = {
    "mamba-130m": {
        "model_type": "mamba", "architectures": ["MambaForCausalLM"], "vocab_size": 50_280, "hidden_size": 768,
        "intermediate_size": 1536, "num_hidden_layers": 24, "state_size": 16, "conv_kernel": 4, "expand": 2,
        "time_step_rank": 48, "use_bias": False, "use_conv_bias": True, "pad_token_id": 0, "bos_token_id": 0,
        "eos_token_id": 0,
    },
    "lfm2-350m": {
        "model_type": "lfm2", "architectures": ["Lfm2ForCausalLM"], "vocab_size": 65_536, "hidden_size": 1024,
        "intermediate_size": 6656, "block_auto_adjust_ff_dim": True, "block_ffn_dim_multiplier": 1.0,
        "block_multiple_of": 256, "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 8,
        "conv_L_cache": 3, "conv_bias": False, "max_position_embeddings": 128_000, "rope_theta": 1_000_000.0,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14], "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip
# Of matrices, as the libraries of such models draw them.
_SCALE = 0.02


def make(name: str, folder: Path, tokenizer: Path, seed: int = 0) -> None:
    """Write a model of a published shape.

    Args:
        name: in PUBLISHED.
        folder: must not be there yet.
        tokenizer: a tokenizer.json of no more tokens than the shape has.
    """
    from safetensors.torch import save_file

    network = library.random_network(clean_config(PUBLISHED[name]), seed, _SCALE)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(PUBLISHED[name], indent=2) + "\n")
    save_file(library.published_tensors(network), folder / "model.safetensors", {"format": "pt"})
    shutil.copyfile(tokenizer, folder / "tokenizer.json")


def main() -> None:
    """Write a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PUBLISHED)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make(options.name, options.folder, options.tokenizer, options.seed)


if __name__ == "__main__":
    main()

"""Folders of tiny models of others, as the hub has them: random weights, a tokenizer of bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from bench.others.tiny_models import config_json
from goldfinch.foreign import library
from goldfinch.foreign.configuration import clean_config

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def write_folder(folder: Path, name: str = "llama", *, tokenizer: bool = True, **changes: Any) -> Path:
    """A model folder with random weights.

    Args:
        name: of an architecture in `bench.others.tiny_models`.
        tokenizer: with tokenizer.json of 256 bytes and six control tokens, and a chat template.
        **changes: of config.json.
    """
    folder.mkdir(parents=True)
    values = config_json(name) | ({"vocab_size": 262, "vocab_size_per_layer_input": 262} if tokenizer else {}) | changes
    if name != "gemma4_text":
        values.pop("vocab_size_per_layer_input", None)
    (folder / "config.json").write_text(json.dumps(values))
    network = library.random_network(clean_config(values))
    save_file(library.published_tensors(network), folder / "model.safetensors", {"format": "pt"})
    if tokenizer:
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json()))
        settings = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "chat_template": CHAT_TEMPLATE}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def tokenizer_json() -> dict[str, Any]:
    """A byte-pair tokenizer without merges: a token for every byte. <|turn|> is not called special, as some do."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    letters = [chr(b) if b in printable else chr(next(others)) for b in range(256)]
    control = ["<|pad|>", "<|begin|>", "<|end|>", "<|turn|>", "<|tool|>", "<think>"]
    vocab = {text: number for number, text in enumerate([*control, *letters])}
    added = [
        {"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": text not in ("<|turn|>", "<think>")}
        for number, text in enumerate(control)
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": []},
    }  # fmt: skip

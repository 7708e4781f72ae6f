"""Tiny GGUF files of a Llama, as llama.cpp's converter writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.goldfinch.foreign.folders import CHAT_TEMPLATE, tokenizer_json

_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
_TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight"}  # fmt: skip


def write_gguf(
    path: Path, config: dict[str, Any], tensors: dict[str, Any], words: str = "gpt-2", **more: np.ndarray | str
) -> Path:
    """A GGUF file in f32 of a Llama with the tokenizer of bytes and one merge.

    Args:
        tensors: by the keys of a folder.
        words: how the file says that text is cut into words.
        **more: tensors and texts beyond, by name; __ stands for a dot.
    """
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config["vocab_size"])
    tokenizer = tokenizer_json()
    control = {one["content"]: one["special"] for one in tokenizer["added_tokens"]}
    vocab = [*tokenizer["model"]["vocab"], "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words)
    writer.add_token_list(vocab)
    writer.add_token_types([(3 if control[text] else 4) if text in control else 1 for text in vocab])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)
    for key, tensor in tensors.items():
        writer.add_tensor(_name(key), _as_stored(key, tensor.float().numpy(), config))
    for name, value in more.items():
        add = writer.add_string if isinstance(value, str) else writer.add_tensor
        add(name.replace("__", "."), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _name(key: str) -> str:
    if key in _TOP:
        return _TOP[key]
    _, _, number, rest = key.split(".", 3)
    return f"blk.{number}.{_NAMES[rest.removesuffix('.weight')]}.weight"


def _as_stored(key: str, values: np.ndarray, config: dict[str, Any]) -> np.ndarray:
    """Queries and keys with the two halves of each head's rotary pairs side by side."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    name = next((heads[part] for part in heads if part in key), None)
    if name is None:
        return values
    pairs = values.reshape(config[name], 2, -1, values.shape[-1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(values.shape))

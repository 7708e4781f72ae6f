"""Tiny shapes of the architectures that gf was tried with, as their config.json has them: for tests and records."""

from __future__ import annotations

from typing import Any

_SMALL = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_HEADS = {"head_dim": 8}
_MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_d_conv": 4,
           "mamba_expand": 2, "mamba_chunk_size": 8}  # fmt: skip
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_DELTA = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _SMALL,
    "qwen2": _SMALL,
    "qwen3": _SMALL | _HEADS,
    "mistral": _SMALL | _HEADS | {"sliding_window": 24},
    "phi3": _SMALL,
    "gemma2": _SMALL | _HEADS | {"sliding_window": 24, "query_pre_attn_scalar": 8},
    "gemma3_text": _SMALL | _HEADS | {
        "sliding_window": 24, "query_pre_attn_scalar": 8, "layer_types": ["sliding_attention", "full_attention"],
    },
    "gemma4_text": _SMALL | _HEADS | {
        "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"], "global_head_dim": 16,
        "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 128, "num_kv_shared_layers": 0,
    },
    "gpt_oss": _SMALL | _HEADS | _EXPERTS | {
        "sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"],
    },
    "falcon_h1": _SMALL | _HEADS | _MAMBA2 | {"mamba_d_ssm": 64},
    "mamba": {"vocab_size": 128, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 2, "pad_token_id": 0,
              "bos_token_id": 1, "eos_token_id": 2},
    "mamba2": {"vocab_size": 128, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 2, "num_heads": 8,
               "head_dim": 8, "n_groups": 1, "chunk_size": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    "falcon_mamba": {"vocab_size": 128, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 2,
                     "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    "lfm2": _SMALL | {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "granitemoehybrid": _SMALL | _MAMBA2 | _EXPERTS | {
        "layer_types": ["mamba", "attention"], "shared_intermediate_size": 32,
    },
    "qwen3_next": _SMALL | _HEADS | _DELTA | {
        "layer_types": ["linear_attention", "full_attention"], "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    },
    "qwen3_5_text": _SMALL | _HEADS | _DELTA | {"layer_types": ["linear_attention", "full_attention"]},
    "bamba": _SMALL | _MAMBA2 | {"attn_layer_indices": [1]},
    "jamba": _SMALL | _EXPERTS | {
        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "num_experts": 2, "mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False,
    },
    "zamba2": _SMALL | {
        "num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "hybrid_layer_ids": [1, 3],
        "mamba_d_state": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "chunk_size": 8, "num_key_value_heads": 4,
        "num_mem_blocks": 1, "use_mem_rope": True, "adapter_rank": 4,
    },
    "recurrent_gemma": _SMALL | {
        "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 24, "num_key_value_heads": 1,
    },
    "rwkv": {"vocab_size": 128, "hidden_size": 32, "attention_hidden_size": 32, "intermediate_size": 64,
             "num_hidden_layers": 2, "context_length": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}  # fmt: skip


def config_json(name: str) -> dict[str, Any]:
    """The config.json of a tiny model."""
    return {"model_type": name, "architectures": ["ForCausalLM"]} | CONFIGS[name]

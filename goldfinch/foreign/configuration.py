"""The config.json of others, as the library is given it: known fields, within limits, none that names code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goldfinch.errors import ConfigDamaged, ModelRefused, WeightsMismatch
from goldfinch.models.config import MOST
from goldfinch.weights.headers import Shape

from .library import library_version, text_fields

# Fields that older folders have, which the library turns into those of today.
FORMER_FIELDS = frozenset((
    "rope_theta", "rope_scaling", "rope_local_base_freq", "partial_rotary_factor", "rotary_pct", "rotary_emb_base",
    "local_rope_theta", "global_rope_theta", "swa_rope_theta", "sliding_window_pattern", "sliding_window_size",
    "sliding_window", "use_sliding_window", "moe_layer_freq", "first_k_dense_replace", "full_attention_interval",
    "num_global_key_value_heads", "global_head_dim", "tie_embedding", "tie_word_embeddings", "num_experts",
    "linear_attn_config", "global_attn_every_n_layers", "use_bias", "qkv_bias", "n_embed", "head_dim",
))  # fmt: skip
# What names code, places or how to compute, at any depth: never handed on.
_NEVER = frozenset((
    "auto_map", "attn_implementation", "experts_implementation", "quantization_config", "transformers_weights",
    "fusion_config", "distributed_config", "name_or_path", "use_kernels", "kernel_config", "custom_generate",
    "custom_pipelines", "dtype", "torch_dtype", "transformers_version", "output_attentions", "output_hidden_states",
    "return_dict", "use_cache", "chunk_size_feed_forward", "per_layer_config", "trust_remote_code", "adapter_path",
    "base_model_tp_plan", "base_model_pp_plan", "base_model_ep_plan", "base_model_fsdp_plan", "extra_files",
    "id2label", "label2id", "num_labels", "problem_type", "architectures", "is_encoder_decoder",
))  # fmt: skip
# A field that decides how many modules are built, by a part of its name.
_COUNTED = ("layers", "n_layer", "experts", "heads", "n_head", "blocks", "groups", "codebook", "depth")
_WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size")
_MOST_COUNT, _MOST_TEXT, _MOST_ENTRIES, _MOST_DEPTH = 1024, 4096, 8192, 8


def clean_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json as the library is given it: fields of its architecture only, within limits, none that names code.

    Raises:
        ModelRefused: an architecture that the library does not have, or not for text.
        ConfigDamaged: a value that no model has.
    """
    model_type = values.get("model_type")
    known = text_fields(model_type)
    if known is None:
        code = "; its folder brings code of its own, which gf never runs" if values.get("auto_map") else ""
        raise ModelRefused(
            f"model_type is {model_type!r:.60}, which transformers {library_version()} does not know as a model of "
            f"text{code}",
            hint="a newer transformers may know it: pip install -U 'goldfinch-gf[hf]'",
        )
    kept = {name: value for name, value in values.items() if name in known | FORMER_FIELDS and _may_stay(name)}
    for name, value in kept.items():
        kept[name] = _checked(name, value)
    return {"model_type": model_type} | kept


def _may_stay(name: str) -> bool:
    return name not in _NEVER and not name.startswith("_")


def _checked(name: str, value: Any, depth: int = 0) -> Any:
    """A value of plain JSON within limits, without what `_NEVER` lists."""
    if isinstance(value, dict):
        _demand(depth < _MOST_DEPTH and len(value) <= _MOST_ENTRIES, name, f"{len(value)} entries", "fewer, less deep")
        return {key: _checked(key, inner, depth + 1) for key, inner in value.items() if _may_stay(key)}
    if isinstance(value, list):
        _demand(depth < _MOST_DEPTH and len(value) <= _MOST_ENTRIES, name, f"{len(value)} entries", "fewer, less deep")
        return [_checked(name, inner, depth + 1) for inner in value]
    if isinstance(value, str):
        _demand(len(value) <= _MOST_TEXT, name, value, f"up to {_MOST_TEXT:,} characters")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        counted = any(part in name for part in _COUNTED) and "dim" not in name and "size" not in name
        most = _MOST_COUNT if counted else 1 << 31
        _demand(abs(value) <= most or isinstance(value, float), name, value, f"up to {most:,}")
        if name in ("vocab_size", "hidden_size", "intermediate_size"):
            limit = MOST["vocab_size" if name == "vocab_size" else "d_ffn"]
            _demand(0 < value <= limit, name, value, f"1 to {limit:,}")
    return value


def _demand(holds: bool, what: str, found: object, allowed: str) -> None:
    if not holds:
        raise ConfigDamaged(f"{what} in config.json is {found!r:.60}, allowed: {allowed}")


def check_counts(values: Mapping[str, Any], shapes: Mapping[str, Shape]) -> None:
    """Refuse a configuration with more layers than the weights have, before a module is built.

    Raises:
        WeightsMismatch: as said.
    """
    numbers = {int(part) for key in shapes for part in key.split(".") if part.isdecimal() and len(part) < 6}
    most = max(numbers, default=-1) + 1
    for name, value in values.items():
        if name in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") and value != most and value > most:
            raise WeightsMismatch(
                f"config.json says {name} {value}, the weights have up to {most} layers",
                hint="give the folder whole, as it was published",
            )
    rows, width = values.get("vocab_size"), values.get("hidden_size")
    if rows and width and not any(sorted(shape) == sorted((rows, width)) for shape in shapes.values()):
        raise WeightsMismatch(f"no tensor of the weights is {rows} x {width}, vocab_size x hidden_size of config.json")


def with_window(values: Mapping[str, Any], window: int) -> dict[str, Any] | None:
    """The configuration with another sliding window; None for a model without one that can be changed."""
    found = {name: window for name in _WINDOWS if isinstance(values.get(name), int)}
    if found:
        return dict(values) | found
    text = values.get("text_config")
    inner = with_window(text, window) if isinstance(text, Mapping) else None
    return None if inner is None else dict(values) | {"text_config": inner}

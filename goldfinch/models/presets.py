"""Presets by name: the paper's sizes, a small class and a tiny one for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .config import ModelConfig, RopeConfig


def _published_d_ffn(d_model: int) -> int:
    return int(3.5 * d_model) // 32 * 32


def _llama_d_ffn(d_model: int) -> int:
    return int(8 * d_model / 3) // 32 * 32


def _shape(n_layer: int, d_model: int, context_length: int) -> dict[str, Any]:
    return {
        "n_layer": n_layer,
        "d_model": d_model,
        "d_ffn": _published_d_ffn(d_model),
        "vocab_size": 65536,
        "context_length": context_length,
    }


_SIZES = {"6x512": (6, 512, 1024), "12x768": (12, 768, 1024), "24x2048": (24, 2048, 2048)}


_TYPES: dict[str, dict[str, Any]] = {
    "goldfinch": {},
    "finch": {"time_mix": "finch", "upper_time_mix": None},
    "finch_c2": {"upper_time_mix": None},
    "gptalpha": {"time_mix": "gptalpha", "upper_time_mix": None, "rope": RopeConfig()},
    "llama": {"time_mix": "llama", "upper_time_mix": None, "channel_mix": "llama", "rope": RopeConfig()},
}


def presets() -> dict[str, ModelConfig]:
    """Presets by name: the paper's sizes (sections 4.1, 4.2), a small class and a tiny one for tests."""
    out = {}
    for kind, changes in _TYPES.items():
        for size, shape in _SIZES.items():
            values = _shape(*shape) | changes
            if kind == "llama":
                values["d_ffn"] = _llama_d_ffn(shape[1])
            out[f"{kind}-{size}"] = ModelConfig(**values)
    # Narrow models of every kind, for tests and for what two cores can train.
    for kind in _TYPES:
        wide = out[f"{kind}-6x512"]
        for size, n_layer, width, vocab_size, context in (("tiny", 3, 64, 512, 256), ("small", 6, 192, 4096, 512)):
            d_ffn = _llama_d_ffn(width) if kind == "llama" else _published_d_ffn(width)
            narrow = replace(wide, n_layer=n_layer, d_model=width, d_ffn=d_ffn)
            out[f"{kind}-{size}"] = replace(narrow, vocab_size=vocab_size, context_length=context)
    out["goldfinch-tiny"] = replace(out["goldfinch-tiny"], d_ffn=96)
    out["llama-small"] = replace(out["llama-small"], d_ffn=672)  # as many parameters as goldfinch-small
    # The widest that fits 24 MB in bf16.
    small = replace(out["goldfinch-small"], n_layer=12, d_model=256, d_ffn=736, context_length=2048)
    out["goldfinch-12x256"] = small
    return out

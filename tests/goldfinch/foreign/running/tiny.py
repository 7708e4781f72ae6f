"""Tiny models of others with random weights, loaded without a directory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.others.tiny_models import config_json
from goldfinch.foreign import library
from goldfinch.foreign.configuration import clean_config
from goldfinch.foreign.models import ForeignModel
from goldfinch.foreign.running.engine import ForeignEngine
from goldfinch.text.template import PromptTemplate
from goldfinch.weights.foreign_config import ForeignConfig, Schedule

# Architectures that the self-check takes.
SOUND = (
    "llama", "qwen2", "qwen3", "mistral", "phi3", "gemma2", "gemma3_text", "gemma4_text", "gpt_oss", "falcon_h1", "mamba",
    "mamba2", "falcon_mamba", "lfm2", "granitemoehybrid", "qwen3_next", "qwen3_5_text", "bamba", "jamba",
)  # fmt: skip
# Those of them that are sound only in one piece and then token by token.
STEPPED = ("mamba", "falcon_mamba", "jamba")


class Letters:
    """Each character a token; "[" and "]" are control tokens of the template."""

    vocab_size, fingerprint = 128, "e" * 64
    added_tokens: Mapping[str, int] = {"[": 3, "]": 4}

    def encode(self, text: str) -> list[int]:
        return [ord(c) % 120 + 5 for c in text]

    def encode_template(self, text: str) -> list[int]:
        return [self.added_tokens.get(c, ord(c) % 120 + 5) for c in text]

    def decode(self, token_ids: list[int]) -> str:
        return "".join(chr(i - 5) for i in token_ids if i > 4)


@lru_cache
def network_of(name: str, dtype: str = "f32") -> Any:
    """The network of a tiny model."""
    return library.random_network(clean_config(config_json(name))).to(library.DTYPES[dtype])


def tiny_model(name: str, **how: Any) -> ForeignModel:
    """A tiny model, loaded.

    Args:
        **how: `dtype`, and as of `model_on`.
    """
    dtype = how.pop("dtype", "f32")
    return model_on(name, network_of(name, dtype), dtype=dtype, **how)


def model_on(
    name: str,
    network: Any,
    *,
    dtype: str = "f32",
    block_tokens: int = 16,
    context_length: int = 256,
    device: str = "cpu",
    layout: str = "auto",
) -> ForeignModel:
    """A model on a network, which is moved to the device."""
    network = network.to(device)
    layers = library.layers_of(network)
    schedule: Schedule = "whole_then_steps" if name in STEPPED else "blocks"
    template = PromptTemplate(None, None, "[", "][", "]", "", ("\n",))
    fingerprint = hashlib.sha256(name.encode()).hexdigest()
    config = ForeignConfig(
        name, len(layers), 32, 128, context_length, layers, None, {}, "0" * 64, (2,), schedule, block_tokens
    )
    return ForeignModel(
        network, name, Path("/nowhere"), config, Letters(), template, (2,), layers, context_length, schedule,
        block_tokens, dtype, device,
        {"prefill_fingerprint": fingerprint, "model_fingerprint": fingerprint, "tokenizer_fingerprint": "e" * 64},
        library.library_version(),
        layout,
    )  # fmt: skip


def engine_on(name: str, network: Any) -> ForeignEngine:
    """The engine of a network."""
    return ForeignEngine(model_on(name, network))


def tiny_engine(name: str, **how: Any) -> ForeignEngine:
    """The engine of a tiny model; arguments as of `tiny_model`."""
    return ForeignEngine(tiny_model(name, **how))


def random_ids(count: int, seed: int = 0) -> np.ndarray:
    """Token ids (count,) int64."""
    return torch.randint(5, 125, (1, count), generator=torch.Generator().manual_seed(seed))[0].numpy()

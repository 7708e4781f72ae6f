"""What makes two models the same: SHA-256 over the weights and the configuration that gives them meaning (SPEC 7.1)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from goldfinch.models.config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

# Configuration fields that give the weights their meaning. context_length only decides a warning.
MEANING_OF_ALL = (
    "n_layer", "d_model", "d_ffn", "vocab_size", "time_mix", "upper_time_mix", "channel_mix", "head_dim",
    "layer_ratio", "compression_ratio", "one_minus_w", "second_value", "rope", "group_norm_divisor",
)  # fmt: skip
# Of these, what prefill depends on. The number of GOLD layers decides how many tail rows are kept.
MEANING_OF_PREFILL = (
    "d_model", "d_ffn", "vocab_size", "time_mix", "channel_mix", "head_dim", "compression_ratio", "one_minus_w",
    "second_value", "group_norm_divisor",
)  # fmt: skip


def prefill_keys(config: ModelConfig, keys: Iterable[str]) -> list[str]:
    """The published keys that prefill reads: embedding, ln0, the Finch blocks, the key compression."""
    layer_of = re.compile(r"blocks\.(\d+)\.")
    out = []
    for key in sorted(keys):
        match = layer_of.match(key)
        in_finch_block = match is not None and int(match.group(1)) < config.n_finch
        if key == "emb.weight" or key.startswith("blocks.0.ln0.") or in_finch_block or key == "w_kv_cache_a.weight":
            out.append(key)
    return out


def fingerprints(config: ModelConfig, weights: Mapping[str, Tensor]) -> tuple[str, str]:
    """(prefill_fingerprint, model_fingerprint), hex SHA-256; of torch's tensors or numpy's arrays.

    Over the meaning-giving configuration and the sorted published keys, each with its shape and its values as
    little-endian float32, so that one set of values has one fingerprint whatever file or dtype it came in.
    """
    values = config.to_dict()
    prefill_meaning = {name: values[name] for name in MEANING_OF_PREFILL}
    prefill_meaning |= {"n_lower": config.n_lower, "n_gold": config.n_gold}
    all_meaning = {name: values[name] for name in MEANING_OF_ALL}
    digests = {key: _tensor_digest(key, weights[key]) for key in sorted(weights)}
    return (
        _combined(prefill_meaning, (digests[key] for key in prefill_keys(config, weights))),
        _combined(all_meaning, digests.values()),
    )


def _tensor_digest(key: str, tensor: Tensor) -> bytes:
    head = f"{key}\0{tuple(tensor.shape)}\0".encode()
    if isinstance(tensor, np.ndarray):
        values = np.ascontiguousarray(tensor, "<f4")
    else:
        values = tensor.detach().cpu().float().contiguous().numpy().astype("<f4", copy=False)
    digest = hashlib.sha256(head)
    digest.update(values.data)
    return digest.digest()


def _combined(meaning: Mapping[str, Any], digests: Iterable[bytes]) -> str:
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    for part in digests:
        digest.update(part)
    return digest.hexdigest()

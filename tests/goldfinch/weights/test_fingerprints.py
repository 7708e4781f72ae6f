"""Fingerprints see what the weights mean, and nothing else."""

from __future__ import annotations

import torch

from goldfinch.models.language_model import LanguageModel
from goldfinch.models.presets import presets
from goldfinch.weights.fingerprints import fingerprints, prefill_keys


def test_fingerprints_see_what_prefill_reads_and_nothing_else() -> None:
    torch.manual_seed(0)
    config = presets()["goldfinch-tiny"]
    weights = dict(LanguageModel(config).state_dict())
    prefill, model = fingerprints(config, weights)
    keys = set(prefill_keys(config, weights))
    assert "emb.weight" in keys
    assert "w_kv_cache_a.weight" in keys
    assert "w_kv_cache_b.weight" not in keys
    assert not any(key.startswith("blocks.2.") for key in keys)  # the GOLD layer
    for key in ("emb.weight", "blocks.0.ln0.weight", "blocks.1.att.time_decay", "w_kv_cache_a.weight", "head.weight"):
        changed = weights | {key: weights[key] + 1e-3}
        new_prefill, new_model = fingerprints(config, changed)
        assert new_model != model
        assert (new_prefill != prefill) == (key in keys), key
    half = {key: tensor.bfloat16() for key, tensor in weights.items()}
    assert fingerprints(config, half) == fingerprints(config, {key: t.float() for key, t in half.items()})

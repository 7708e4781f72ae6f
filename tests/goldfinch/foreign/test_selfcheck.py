"""The gatekeeper: what it finds in each architecture, and that it notices what is wrong."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from bench.others.tiny_models import CONFIGS, config_json
from goldfinch.errors import ModelRefused
from goldfinch.foreign import library, selfcheck
from goldfinch.foreign.configuration import clean_config
from goldfinch.foreign.importing import tried_network
from goldfinch.foreign.selfcheck import Check

# What transformers 5.24 computes wrongly: several tokens behind a state, or all that follows one.
STEPS_ONLY = ("mamba", "falcon_mamba", "jamba")
REFUSED = ("zamba2", "recurrent_gemma", "rwkv")


@functools.cache
def network_and_config(name: str) -> tuple[Any, dict[str, Any]]:
    config = clean_config(config_json(name))
    tensors = library.published_tensors(library.random_network(config))
    return library.network_of(config, tensors), config


def tried(name: str) -> Check:
    network, config = network_and_config(name)
    return tried_network(network, config, library.published_tensors(network))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in REFUSED])
def test_a_sound_architecture(name: str) -> None:
    check = tried(name)
    assert check.schedule == ("whole_then_steps" if name in STEPS_ONLY else "blocks")
    assert check.figures["library_version"] == library.library_version()


@pytest.mark.parametrize("name", REFUSED)
def test_an_unsound_architecture_is_refused(name: str) -> None:
    with pytest.raises(ModelRefused, match=name):
        tried(name)


def test_a_network_that_leaves_nothing_in_a_cache_is_named() -> None:
    with pytest.raises(ModelRefused, match="rwkv leaves nothing of a document in a cache"):
        tried("rwkv")


def test_positions_that_are_guessed_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bamba without explicit positions computes something else behind a cache."""
    network, config = network_and_config("bamba")
    plain = library.forward

    def without(network: Any, ids: torch.Tensor, cache: Any = None, start: int = 0) -> torch.Tensor:
        return plain(network, ids, cache, 0)

    monkeypatch.setattr(library, "forward", without)
    with pytest.raises(ModelRefused, match="bamba"):
        tried_network(network, config, library.published_tensors(network))


def test_a_window_that_would_not_slide_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that forgets one row too many is right until the window wraps: the copy with a short one finds it."""
    network, config = network_and_config("mistral")
    plain = library.forward

    def forgetful(network: Any, ids: torch.Tensor, cache: Any = None, start: int = 0) -> torch.Tensor:
        logits = plain(network, ids, cache, start)
        for layer in () if cache is None else cache.layers:
            if layer.keys.shape[-2] == layer.sliding_window - 1 == 15:
                layer.keys = torch.cat([layer.keys[..., :1, :] * 0, layer.keys[..., 1:, :]], dim=-2)
        return logits

    monkeypatch.setattr(library, "forward", forgetful)
    with pytest.raises(ModelRefused, match="mistral"):
        tried_network(network, config, library.published_tensors(network))


def test_a_state_outside_the_cache_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one document leaves in the network reaches another, which goes on with other bits."""
    network, config = network_and_config("llama")
    plain, left = library.forward, torch.zeros(())

    def leaking(network: Any, ids: torch.Tensor, cache: Any = None, start: int = 0) -> torch.Tensor:
        logits = plain(network, ids, cache, start) + left
        if cache is not None:
            left.copy_(ids[-1] * 1e-6)
        return logits

    monkeypatch.setattr(library, "forward", leaking)
    with pytest.raises(ModelRefused, match="other bits"):
        tried_network(network, config, library.published_tensors(network))


def test_a_state_that_is_not_kept_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    network, config = network_and_config("llama")
    monkeypatch.setattr(selfcheck, "restored", lambda network, cache, position: library.new_cache(network))
    with pytest.raises(ModelRefused, match="other bits"):
        tried_network(network, config, library.published_tensors(network))


def test_a_network_that_cannot_be_computed_is_refused_in_words() -> None:
    """Its configuration may say anything that builds."""
    slides = {"sliding_window": -5, "layer_types": ["sliding_attention"] * 2}
    config = clean_config(config_json("llama") | slides)
    tensors = library.published_tensors(library.random_network(config))
    with pytest.raises(ModelRefused, match="cannot be computed as its"):
        tried_network(library.network_of(config, tensors), config, tensors)

"""Sizes that the paper gives, and configurations that nothing can be built from."""

from __future__ import annotations

import pytest

from goldfinch.errors import ConfigError
from goldfinch.models.config import ModelConfig
from goldfinch.models.presets import presets


def test_presets_have_the_paper_s_proportions() -> None:
    shapes = presets()
    large = shapes["goldfinch-24x2048"]
    assert (large.n_prefill, large.n_gold, large.tail_length, large.d_compressed) == (16, 8, 17, 128)
    small = shapes["goldfinch-12x768"]
    assert (small.n_prefill, small.n_gold, small.d_ffn, small.vocab_size) == (8, 4, 2688, 65536)
    assert shapes["llama-12x768"].d_ffn == 2048


def test_what_is_missing_or_unknown_is_said_in_our_words() -> None:
    for values, words in (
        ({"n_layer": 12}, "the configuration has no d_model, d_ffn, vocab_size"),
        (presets()["goldfinch-tiny"].to_dict() | {"colour": 1}, "unknown key 'colour' in the configuration, known: "),
        (presets()["goldfinch-tiny"].to_dict() | {"rope": {"bass": 1}}, "unknown key 'bass' in rope in the config"),
    ):
        with pytest.raises(ConfigError, match=words) as refused:
            ModelConfig.from_dict(values)
        assert "__init__" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"d_model": 100}, {"n_layer": 0}, {"time_mix": "mamba"}, {"upper_time_mix": "silver"}, {"layer_ratio": 1},
        {"compression_ratio": 7}, {"time_mix": "llama"}, {"n_layer": "six"}, {"colour": "gold"}, {"rope": {"bass": 1}},
        {"rope": {"base": "x"}}, {"rope": 1}, {"context_length": None}, {"group_norm_divisor": 0}, {"one_minus_w": 1}, {"n_layer": True},
    ],
)  # fmt: skip
def test_impossible_configurations(change: dict[str, object]) -> None:
    values = presets()["goldfinch-tiny"].to_dict()
    ModelConfig.from_dict(values)
    with pytest.raises(ConfigError):
        ModelConfig.from_dict(values | change)

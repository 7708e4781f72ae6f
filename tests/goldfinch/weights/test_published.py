"""Configurations as others write them."""

from __future__ import annotations

import json

import pytest

from goldfinch.errors import ConfigError
from goldfinch.weights.published import config_from_published
from tests.conftest import SMALL_GOLDEN


def test_published_configuration() -> None:
    values = json.loads((SMALL_GOLDEN / "finch_gold" / "config.json").read_text())
    config = config_from_published(values)
    assert (config.model_type, config.n_prefill, config.n_gold) == ("finch_gold", 5, 1)
    with pytest.raises(ConfigError, match="dim_att"):
        config_from_published(values | {"dim_att": 32})
    with pytest.raises(ConfigError):
        config_from_published({"n_embd": 64})

"""Configurations as others write them: the published field names and ours. No other file knows the foreign ones."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goldfinch.errors import ConfigDamaged, ConfigError
from goldfinch.models.config import ModelConfig, RopeConfig, from_fields
from goldfinch.text.json_files import read_json

_MOST_BYTES = 1 << 20

PUBLISHED_TIME_MIX = {"x060": "finch", "x060c2": "finch_c2", "gold": "gold", "gptalpha": "gptalpha", "llama": "llama"}
PUBLISHED_CHANNEL_MIX = {"x060": "finch", "llama": "llama"}


def read_config(path: Path) -> ModelConfig:
    """Read a configuration file: ours, or the published flat one.

    Raises:
        FileNotFoundError: no such file.
        ConfigDamaged: not JSON, fields that neither form has, or values that no model has.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(2, "configuration does not exist", str(path))
    try:
        values = read_json(path, _MOST_BYTES)
        if not isinstance(values, dict):
            raise ConfigError("it is not a JSON object")
        if isinstance(values.get("config"), dict):  # the config.json of one of our model directories
            return ModelConfig.from_dict(values["config"])
        if "n_embd" not in values and ("architectures" in values or "hidden_size" in values):
            raise _of_others(path)
        return config_from_published(values) if "n_embd" in values else ModelConfig.from_dict(values)
    except ConfigDamaged:
        raise
    except (OSError, ValueError, ConfigError) as error:
        raise ConfigDamaged(f"cannot read the configuration {path}: {error}") from error


def _of_others(path: Path) -> ConfigDamaged:
    return ConfigDamaged(
        f"{path} is a configuration of Hugging Face, expected one of GoldFinch or RWKV weights",
        hint=f"import the folder that it belongs to, without --config: gf model import {shlex.quote(str(path.parent))}",
    )


def config_from_published(values: Mapping[str, Any]) -> ModelConfig:
    """Our configuration from the flat fields of a published checkpoint."""
    try:
        if values.get("dim_att", values["n_embd"]) != values["n_embd"]:
            raise ConfigError(f"dim_att is {values['dim_att']}, allowed: n_embd ({values['n_embd']})")
        tmix2 = values.get("tmix2") or None
        rope = values.get("rope")
        return ModelConfig(
            n_layer=values["n_layer"],
            d_model=values["n_embd"],
            d_ffn=values["dim_ffn"],
            vocab_size=values["vocab_size"],
            head_dim=values.get("head_size", 64),
            time_mix=PUBLISHED_TIME_MIX[values["tmix"]],
            upper_time_mix=PUBLISHED_TIME_MIX[tmix2] if tmix2 else None,
            channel_mix=PUBLISHED_CHANNEL_MIX[values.get("cmix", "x060")],
            layer_ratio=values.get("inv_other_layer_ratio", 3),
            compression_ratio=values.get("kv_cache_compression_ratio", 16),
            one_minus_w=_flag(values, "use_one_minus_w"),
            second_value=_flag(values, "use_v2"),
            rope=from_fields(RopeConfig, rope, "rope in the configuration") if rope else None,
            context_length=values.get("ctx_len", 1024),
            group_norm_divisor=values.get("head_size_divisor", 8),
        )
    except KeyError as error:
        raise ConfigError(f"the published configuration has no {error.args[0]}, or another than gf knows") from error
    except TypeError as error:
        raise ConfigError(f"the published configuration does not fit: {error}") from error


def _flag(values: Mapping[str, Any], name: str) -> bool:
    """A field that is 0, 1, false or true; 1 where it is absent."""
    value = values.get(name, 1)
    if value not in (0, 1):
        raise ConfigError(f"{name} is {value!r:.40}, allowed: 0 or 1")
    return bool(value)

"""Published weights: foreign configuration names, foreign files, fingerprints.

The only place that knows names that are not ours.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goldfinch.errors import CheckpointError, ConfigError
from goldfinch.models.config import ModelConfig, RopeConfig

from .files import INDEX_ENDING, files_of_index

PUBLISHED_TIME_MIX = {"x060": "finch", "x060c2": "finch_c2", "gold": "gold", "gptalpha": "gptalpha", "llama": "llama"}
PUBLISHED_CHANNEL_MIX = {"x060": "finch", "llama": "llama"}
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


def read_config(path: Path) -> ModelConfig:
    """Read a configuration file: ours, or the published flat one.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: not JSON, or fields that neither form has.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "configuration does not exist", str(path))
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the configuration {path} is not a JSON object")
    if isinstance(values.get("config"), dict):  # the config.json of one of our model directories
        return ModelConfig.from_dict(values["config"])
    return config_from_published(values) if "n_embd" in values else ModelConfig.from_dict(values)


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
            one_minus_w=bool(values.get("use_one_minus_w", 1)),
            second_value=bool(values.get("use_v2", 1)),
            rope=RopeConfig(**rope) if rope else None,
            context_length=values.get("ctx_len", 1024),
            group_norm_divisor=values.get("head_size_divisor", 8),
        )
    except KeyError as error:
        raise ConfigError(f"the published configuration lacks or does not know {error}") from error
    except TypeError as error:
        raise ConfigError(f"the published configuration does not fit: {error}") from error


def read_weights(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` or `.pth` file by published key, or of all the files that an index names.

    Args:
        path: the file, or the `.safetensors.index.json` of weights in several files (see `write_weights`).
        device, dtype: where and as what they are wanted; each tensor is converted as it is read, so that no two copies
            of all weights stand in memory together. As stored when dtype is None.

    Raises:
        FileNotFoundError: no such file.
        torch.OutOfMemoryError: not enough memory on the device.
        CheckpointError: damaged, or a `.pth` that holds anything but tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "weights file does not exist", str(path))
    if path.name.endswith(INDEX_ENDING):
        weights: dict[str, Tensor] = {}
        for file in files_of_index(path):
            weights |= read_weights(file, device, dtype)
        return weights
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "pt", device=str(device)) as file:
                names = file.keys()
                return {name: file.get_tensor(name).to(dtype) for name in names}
        # weights_only: a .pth is a pickle, and a pickle can run code.
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"cannot read the weights {path}: {reason}") from error
    except Exception as error:  # safetensors has an error class of its own
        raise CheckpointError(f"cannot read the weights {path}: {error}") from error
    if not isinstance(loaded, dict) or not all(isinstance(t, Tensor) for t in loaded.values()):
        raise CheckpointError(f"{path} is not a dictionary of tensors")
    for name in loaded:
        loaded[name] = loaded[name].to(device, dtype)
    return loaded


def write_weights(path: Path, weights: Mapping[str, Tensor], max_shard_bytes: int | None = None) -> list[Path]:
    """Write tensors to a `.safetensors` file, or to several that are no larger than asked for.

    Several are called model-00001-of-00003.safetensors and so on, with an index beside them
    (model.safetensors.index.json) that names the file of every tensor, as published checkpoints have it.

    Args:
        path: the file, when one is enough.
        max_shard_bytes: most bytes of tensors in a file, its header not counted; a larger tensor has a file of its
            own. None: one file.

    Returns:
        the files written.
    """
    from safetensors.torch import save_file

    shards: list[dict[str, Tensor]] = [{}]
    room = max_shard_bytes
    for key in sorted(weights):
        size = weights[key].nbytes
        if room is not None and max_shard_bytes is not None:
            if size > room and shards[-1]:
                shards.append({})
                room = max_shard_bytes
            room -= size
        shards[-1][key] = weights[key].contiguous()
    # Tied weights share memory, which the library refuses to write.
    seen: set[int] = set()
    for shard in shards:
        for key, tensor in shard.items():
            place = tensor.untyped_storage().data_ptr()
            shard[key] = tensor.clone() if place in seen else tensor
            seen.add(place)
    names = [path.name]
    if len(shards) > 1:
        names = [f"{path.stem}-{n:05}-of-{len(shards):05}{path.suffix}" for n in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, path.with_name(name))
        path.with_name(name).chmod(0o644)  # the library writes 0600
    files = [path.with_name(name) for name in names]
    if len(shards) > 1:
        where = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        total = sum(tensor.nbytes for tensor in weights.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        files.append(path.with_name(f"{path.name}{INDEX_ENDING}"))
        files[-1].write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return files


def check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless keys and shapes are those of the model."""
    missing = sorted(set(expected) - set(weights))
    surplus = sorted(set(weights) - set(expected))
    if missing or surplus:
        what = f"lack {missing[0]!r}" if missing else f"have {surplus[0]!r}, which the model does not"
        raise CheckpointError(
            f"the weights do not fit the configuration: they {what} ({len(missing)} missing, {len(surplus)} unknown)",
            hint="give the config.json that belongs to these weights",
        )
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise CheckpointError(
                f"the weights do not fit the configuration: {name} has shape {tuple(weights[name].shape)}, "
                f"expected {tuple(tensor.shape)}"
            )


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError when a weight is NaN or infinite: every cache made with it would be refused (SPEC W7)."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"the weights hold NaN or infinity: {name}", hint="get or train them again")


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
    """(prefill_fingerprint, model_fingerprint), hex SHA-256.

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
    values = tensor.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False)
    digest = hashlib.sha256(head)
    digest.update(values.data)
    return digest.digest()


def _combined(meaning: Mapping[str, Any], digests: Iterable[bytes]) -> str:
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
    for part in digests:
        digest.update(part)
    return digest.hexdigest()

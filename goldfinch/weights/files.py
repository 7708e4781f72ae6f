"""Weights in files: read from `.safetensors` or `.pth`, checked, and written, in one file or several."""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from goldfinch.errors import CheckpointError

from .directory import INDEX_ENDING, files_of_index


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
        _save(shard, path.with_name(name))
        path.with_name(name).chmod(0o644)  # the library writes 0600
    files = [path.with_name(name) for name in names]
    if len(shards) > 1:
        where = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        total = sum(tensor.nbytes for tensor in weights.values())
        index = {"metadata": {"total_size": total}, "weight_map": where}
        files.append(path.with_name(f"{path.name}{INDEX_ENDING}"))
        files[-1].write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return files


def _save(shard: dict[str, Tensor], path: Path) -> None:
    """Write a file of weights; what the library says of the system is an OSError again."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(shard, path)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


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

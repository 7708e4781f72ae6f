"""Weights in files: read from `.safetensors` or `.pth`, checked, and written, in one file or several."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from goldfinch.errors import WeightsDamaged

from .headers import Shape, check_shapes, damaged, read_shapes
from .parts import INDEX_ENDING, files_of_weights


def read_weights(
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    shapes: Mapping[str, Shape] | None = None,
) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` or `.pth` file by published key, or of all the files that an index names.

    Args:
        path: the file, or the `.safetensors.index.json` of weights in several files (see `write_weights`).
        device, dtype: where and as what they are wanted; each tensor is converted as it is read, so that no two copies
            of all weights stand in memory together. As stored when dtype is None.
        shapes: of the tensors by key, where `read_shapes` has been asked for them already.

    Raises:
        FileNotFoundError: no such file.
        torch.OutOfMemoryError: not enough memory on the device.
        WeightsDamaged: damaged, or anything but tensors of floating-point numbers.
        WeightsMismatch: other keys or shapes than before.
    """
    shapes = read_shapes(path) if shapes is None else shapes
    weights: dict[str, Tensor] = {}
    for file in files_of_weights(path):
        try:
            weights |= dict(_tensors_of(file, device, dtype))
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # safetensors has an error class of its own, and torch raises in many ways
            if "allocate memory" in str(error):
                raise MemoryError(f"not enough memory for the weights {file}") from error
            # What these say of it is advice for programmers, and may be bad: to read it without weights_only.
            reader = "torch" if file.suffix == ".pth" else "safetensors"
            raise damaged(file, ValueError(f"{reader} cannot read them")) from error
    # The files may have been replaced since, and torch reads a .pth in its own way.
    check_shapes(shapes_of(weights), shapes)
    return weights


def _tensors_of(path: Path, device: torch.device | str, dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    if path.suffix == ".pth":
        # weights_only: a .pth is a pickle, and a pickle can run code. What else it could do: `pickles`.
        for key, tensor in torch.load(path, map_location="cpu", weights_only=True).items():
            yield key, tensor.to(device, dtype)
        return
    from safetensors import safe_open

    with safe_open(path, "pt", device=str(device)) as file:
        names = file.keys()
        for key in names:
            yield key, file.get_tensor(key).to(dtype)


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
    """Raise WeightsMismatch unless keys and shapes are those of the model."""
    check_shapes(shapes_of(weights), shapes_of(expected))


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Shapes by key."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise WeightsDamaged when a weight is NaN or infinite: every cache made with it would be refused (SPEC W7)."""
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsDamaged(f"the weights hold NaN or infinity: {name}", hint="get or train them again")

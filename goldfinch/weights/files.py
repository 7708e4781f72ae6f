"""Which files the weights of a model directory are in: model.safetensors, or several and their index.

Importing this needs no torch.
"""

from __future__ import annotations

import json
from pathlib import Path

from goldfinch.errors import CheckpointError

WEIGHTS_FILE = "model.safetensors"
INDEX_ENDING = ".index.json"


def weights_file_of(directory: Path) -> Path:
    """model.safetensors of a model directory, or the index of the files that stand for it."""
    whole = directory / WEIGHTS_FILE
    index = directory / f"{WEIGHTS_FILE}{INDEX_ENDING}"
    return index if index.is_file() and not whole.is_file() else whole


def files_of_index(path: Path) -> list[Path]:
    """The files beside an index that hold its tensors, sorted.

    Raises:
        CheckpointError: no index, or one that names anything but .safetensors files beside it.
    """
    try:
        names = set(json.loads(path.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"cannot read the index {path}: {type(error).__name__} {error}") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"the index {path} names {name!r}, which is no .safetensors file beside it")
    return [path.parent / name for name in sorted(names)]


def weights_bytes_of(directory: Path) -> int | None:
    """Size of the weights of a model directory in bytes; None when any of their files is missing."""
    found = weights_file_of(directory)
    try:
        files = files_of_index(found) if found.name.endswith(INDEX_ENDING) else [found]
        return sum(file.stat().st_size for file in files)
    except (OSError, CheckpointError):
        return None

"""The files that weights lie in: one, or several and their index."""

from __future__ import annotations

import os
from pathlib import Path

from goldfinch.errors import WeightsDamaged
from goldfinch.text.json_files import is_text, read_json

WEIGHTS_FILE = "model.safetensors"
INDEX_ENDING = ".index.json"
_MOST_INDEX_BYTES, _MOST_FILES = 16 << 20, 4096


def weights_file_of(directory: Path) -> Path:
    """model.safetensors of a model directory, or the index of the files that stand for it."""
    whole = directory / WEIGHTS_FILE
    index = directory / f"{WEIGHTS_FILE}{INDEX_ENDING}"
    return index if os.path.lexists(index) and not os.path.lexists(whole) else whole


def check_regular(path: Path) -> None:
    """Refuse weights that are no file: a pipe never ends, a device has no size.

    Raises:
        FileNotFoundError: nothing of that name.
        WeightsDamaged: something else than a file, or a link to one.
    """
    if not os.path.lexists(path):
        raise FileNotFoundError(2, "weights file does not exist", str(path))
    if not path.is_file():
        raise WeightsDamaged(f"cannot read the weights {path}: not a regular file")


def files_of_index(path: Path) -> list[Path]:
    """The files beside an index that hold its tensors, sorted.

    Raises:
        WeightsDamaged: no index, or one that names anything but .safetensors files beside it.
    """
    try:
        places = read_json(path, _MOST_INDEX_BYTES)["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsDamaged(f"cannot read the index {path}: {type(error).__name__} {error}") from error
    for name in places:
        if not is_text(name, 200) or Path(name).name != name or not name.endswith(".safetensors") or "\0" in name:
            raise WeightsDamaged(f"the index {path} names {name!r:.60}, which is not a .safetensors file beside it")
    names = sorted(set(places))
    if not 0 < len(names) <= _MOST_FILES:
        raise WeightsDamaged(f"the index {path} names {len(names):,} files, allowed: 1 to {_MOST_FILES:,}")
    return [path.parent / name for name in names]


def files_of_weights(path: Path) -> list[Path]:
    """The files that hold tensors: those of an index, or the file itself.

    Raises:
        WeightsDamaged: see `files_of_index`.
    """
    return files_of_index(path) if path.name.endswith(INDEX_ENDING) else [path]

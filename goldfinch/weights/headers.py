"""What weights say of themselves, read and compared with the configuration before anything is built; no torch here.

A .safetensors file begins with the length of its header (8 bytes, little-endian) and the header, JSON: for each tensor
its dtype, shape and the two ends of its bytes behind the header.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gfcache.files.regular import open_regular

from goldfinch.errors import CheckpointError, ModelDamaged, WeightsDamaged, WeightsMismatch
from goldfinch.models.config import ModelConfig
from goldfinch.text.json_files import is_text, parse_json
from goldfinch.text.kinds import HEAD_BYTES, in_place_of, next_step

from .directory import ModelCard, list_directories
from .foreign_config import ForeignConfig
from .parts import check_regular, files_of_weights, weights_file_of

Shape = tuple[int, ...]
# The largest model that a configuration allows has a header of half of that; a stranger's may be 100 MB.
_MOST_HEADER_BYTES = 16 << 20
_MOST_AXES, _MOST_KEY = 5, 200
_MOST_BYTES = 1 << 50
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_LAYER = re.compile(r"blocks\.(\d{1,9})\.")


def read_shapes(path: Path) -> dict[str, Shape]:
    """Shapes of the tensors by key, of a .safetensors file, of all that an index names, or of a .pth.

    Raises:
        FileNotFoundError: a file is missing.
        WeightsDamaged: a header that is damaged, or states what no weights have.
    """
    return shapes_of_files(files_of_weights(path))


def shapes_of_files(files: Iterable[Path]) -> dict[str, Shape]:
    """Shapes of the tensors in several files; errors as of `read_shapes`."""
    shapes: dict[str, Shape] = {}
    for file in files:
        for key, shape in _shapes_of_file(file).items():
            if key in shapes:
                raise WeightsDamaged(f"two files beside {file} hold {key}")
            shapes[key] = shape
    return shapes


def _shapes_of_file(path: Path) -> dict[str, Shape]:
    check_regular(path)
    try:
        if path.suffix == ".pth":
            from .pickles import shapes_of_pickle  # 4 ms that gf model list need not take

            return shapes_of_pickle(path)
        with open(path, "rb") as stream:
            found = _stored_in(stream, os.fstat(stream.fileno()).st_size)
            return {key: one.shape for key, one in found.items()}
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> WeightsDamaged:
    """What is wrong with weights: that the file is something else, or what its reader says."""
    with contextlib.suppress(OSError):
        with open(open_regular(path, follow=True), "rb") as stream:
            start = stream.read(HEAD_BYTES)
        other = in_place_of(start, "weights")
        if other is not None:
            return WeightsDamaged(f"cannot read the weights {path}: {other}", hint=next_step(start, path))
    return WeightsDamaged(f"cannot read the weights {path}: {error}", hint="download or copy the file again")


class Stored(NamedTuple):
    """A tensor in a .safetensors file: its dtype there, its shape, and the two ends of its bytes in the file."""

    dtype: str
    shape: Shape
    start: int
    end: int


def stored_in(path: Path) -> dict[str, Stored]:
    """The tensors of a .safetensors file by key.

    Raises:
        FileNotFoundError: it is missing.
        WeightsDamaged: its header is damaged, or states what no weights have.
    """
    check_regular(path)
    try:
        with open(path, "rb") as stream:
            return _stored_in(stream, os.fstat(stream.fileno()).st_size)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def _stored_in(stream: BinaryIO, size: int) -> dict[str, Stored]:
    """What a .safetensors file states; every byte behind the header belongs to one tensor.

    Raises:
        ValueError: naming what does not hold.
    """
    length = int.from_bytes(stream.read(8), "little")
    _demand(size > 8 and length <= min(size - 8, _MOST_HEADER_BYTES), "the header's length", length,
            f"up to {min(max(size - 8, 0), _MOST_HEADER_BYTES):,} bytes")  # fmt: skip
    header = parse_json(stream.read(length))
    _demand(isinstance(header, dict), "the header", header, "a JSON object")
    found = {key: _described(key, entry, 8 + length) for key, entry in header.items() if key != "__metadata__"}
    at = 8 + length
    for start, end in sorted((one.start, one.end) for one in found.values()):
        if start != at:
            _demand(False, "the start of a tensor", start - 8 - length, f"{at - 8 - length}, the end of the one before")
        at = end
    _demand(at == size, "the size of the file", size, f"{at}, as its header says")
    return found


def _described(key: str, entry: Any, before: int) -> Stored:
    """One tensor; `before` bytes stand in front of all. Words are made for what does not hold only: a model has
    thousands."""
    if not is_text(key, _MOST_KEY) or not isinstance(entry, dict):
        _demand(False, "a tensor", key, f"a name of up to {_MOST_KEY} characters with an object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        _demand(False, f"dtype of {key}", dtype, ", ".join(_ITEM_BYTES))
    if not _are_counts(shape) or len(shape) > _MOST_AXES:
        _demand(False, f"shape of {key}", shape, f"up to {_MOST_AXES} counts")
    if not _are_counts(offsets) or len(offsets) != 2:
        _demand(False, f"data_offsets of {key}", offsets, "two counts")
    start, end = offsets
    if end - start != math.prod(shape) * _ITEM_BYTES[dtype]:
        _demand(False, f"bytes of {key}", end - start, f"{math.prod(shape) * _ITEM_BYTES[dtype]}")
    return Stored(dtype, tuple(shape), before + start, before + end)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(count) is int and 0 <= count < _MOST_BYTES for count in value)


def _demand(holds: object, what: str, found: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{what} is {found!r:.60}, allowed: {allowed}")


def check_sizes(config: ModelConfig, shapes: Mapping[str, Shape]) -> None:
    """Refuse weights whose number of layers, width or vocabulary is not the configuration's.

    Quick, and enough for the modules of a model to be built: they are as many as the weights have layers then.

    Raises:
        WeightsMismatch: naming the first that differs.
    """
    layers = {int(found[1]) for found in map(_LAYER.match, shapes) if found}
    _fit(len(layers) == max(layers, default=-1) + 1 == config.n_layer, f"they have {len(layers)} layers",
         f"n_layer is {config.n_layer}")  # fmt: skip
    wide = (config.vocab_size, config.d_model)
    for key in ("emb.weight", "head.weight"):
        _fit(key in shapes, f"they lack {key!r}", "every model has it")
        _fit(shapes[key] == wide, f"{key} has shape {shapes[key]}", f"expected {wide}")


def check_shapes(found: Mapping[str, Shape], expected: Mapping[str, Shape]) -> None:
    """Refuse weights whose keys or shapes are not those of the model.

    Raises:
        WeightsMismatch: naming the first that differs.
    """
    missing = sorted(set(expected) - set(found))
    surplus = sorted(set(found) - set(expected))
    if missing or surplus:
        what = f"lack {missing[0]!r}" if missing else f"have {surplus[0]!r:.80}, which the model does not"
        _fit(False, f"they {what}", f"{len(missing)} missing, {len(surplus)} unknown")
    for key, shape in expected.items():
        if found[key] != shape:
            _fit(False, f"{key} has shape {found[key]}", f"expected {shape}")


def _fit(holds: bool, found: str, expected: str) -> None:
    if not holds:
        raise WeightsMismatch(
            f"the weights do not fit the configuration: {found} ({expected})",
            hint="give the config.json that belongs to these weights",
        )


def checked_directories() -> Iterator[tuple[Path, ModelCard | None, Exception | None]]:
    """Model directories that have a name here: path, card, and what is wrong with the card or the weights' header."""
    for path, card in list_directories():
        if isinstance(card, ModelDamaged):
            yield path, None, card
            continue
        try:
            check_directory(card)
            yield path, card, None
        except (CheckpointError, OSError) as error:
            yield path, card, error


def check_directory(card: ModelCard) -> dict[str, Shape]:
    """Shapes of a directory's tensors by key, if they can be those of its card, as far as number and size tell.

    Raises:
        FileNotFoundError, WeightsDamaged, WeightsMismatch.
    """
    if isinstance(card.config, ForeignConfig):
        return shapes_of_files(card.config.files_in(card.path))
    shapes = read_shapes(weights_file_of(card.path))
    check_sizes(card.config, shapes)
    return shapes

"""Published `.pth` files, looked through before torch opens them.

A .pth is a zip archive of a pickle and the bytes of its tensors. torch reads it without running code (`weights_only`),
but a hostile one may still take all memory: members that unpack to a thousand times their size, a pickle of millions of
open marks, tensors without bytes, with more than the archive holds (which torch then reads beyond their end), or with
strides that show one number a billion times. So only what published weights are made of is let through: members that
are stored as they are, and a pickle of plain tensors in a dictionary, that is first read into descriptions of them.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from goldfinch.text.json_files import is_count

_MOST_MEMBERS, _MOST_PICKLE_BYTES, _MOST_MARKS, _MOST_AXES = 1 << 16, 8 << 20, 64, 5
_ITEM_BYTES = {"FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2}
_GLOBALS = {f"torch {storage}" for storage in _ITEM_BYTES} | {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
}
_OPCODES = {
    "PROTO", "STOP", "MARK", "POP", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "DICT", "TUPLE", "TUPLE1", "TUPLE2",
    "TUPLE3", "SETITEM", "SETITEMS", "APPEND", "APPENDS", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2",
    "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "GLOBAL", "BINPERSID", "REDUCE", "BUILD", "BINPUT",
    "LONG_BINPUT", "BINGET", "LONG_BINGET", "MEMOIZE", "FRAME",
}  # fmt: skip
# A byte of the pickle each, and a hundred of memory.
_CONTAINERS, _MOST_CONTAINERS = {"EMPTY_DICT", "EMPTY_LIST", "DICT", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}, 1 << 18
_CLOSING = {"DICT", "TUPLE", "SETITEMS", "APPENDS"}


class _Storage(NamedTuple):
    """Numbers of a tensor: bytes of one, how many."""

    item_bytes: int
    numbers: int


class _Tensor(NamedTuple):
    """A tensor as a pickle describes it."""

    storage: _Storage
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def shapes_of_pickle(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a .pth by key; nothing of torch is loaded for it.

    Raises:
        OSError: as the system says.
        ValueError: it holds more than a dictionary of plain tensors, or tensors of more bytes than the file has.
    """
    found = described(path)
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(t, _Tensor) for k, t in found.items()):
        raise ValueError("not a dictionary of tensors")
    return {key: tensor.shape for key, tensor in found.items()}


def described(path: Path) -> Any:
    """What a file of torch.save holds: dictionaries, lists and plain values, and descriptions in place of tensors.

    Raises:
        OSError: as the system says.
        ValueError: it holds other things, or tensors of more bytes than the file has.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, size)
            data = archive.read(members["data.pkl"])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError("not a zip archive as torch.save has written since version 1.6") from error
    _check_opcodes(data)
    try:
        reader = _Described(data, {name: member.file_size for name, member in members.items()})
        found = reader.load()
    except (pickle.UnpicklingError, AttributeError, TypeError, IndexError, KeyError, EOFError) as error:
        raise ValueError(f"its pickle describes no tensors ({error})") from error
    # Twice: tied weights stand in two places, and are stored once.
    if reader.shown_bytes > 2 * size:
        raise ValueError(f"its tensors have {reader.shown_bytes:,} bytes, more than the file ({size:,})")
    return found


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Members by their names inside the archive's one folder, none of them compressed."""
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        raise ValueError(f"it has {len(members):,} members, allowed: {_MOST_MEMBERS:,}")
    packed = next((member for member in members if member.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise ValueError(f"{packed.filename!r:.60} in it is compressed, allowed: members stored as they are")
    held = sum(member.file_size for member in members)
    if held > size:
        raise ValueError(f"its members have {held:,} bytes, more than the file ({size:,})")
    named = {member.filename.partition("/")[2]: member for member in members}
    if len(named) != len(members) or "data.pkl" not in named:
        raise ValueError("not an archive of one data.pkl and the bytes of its tensors")
    if named["data.pkl"].file_size > _MOST_PICKLE_BYTES:
        raise ValueError(f"its data.pkl has {named['data.pkl'].file_size:,} bytes, allowed: {_MOST_PICKLE_BYTES:,}")
    return named


def _check_opcodes(data: bytes) -> None:
    """Refuse a pickle that does, or nests, more than a dictionary of tensors needs; it is not run for it."""
    marks = containers = 0
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in _OPCODES:
            raise ValueError(f"its pickle uses {opcode.name}, allowed: what a dictionary of tensors needs")
        if opcode.name == "GLOBAL" and argument not in _GLOBALS:
            raise ValueError(f"it holds {argument!r:.80}, allowed: a dictionary of plain tensors")
        # Python's unpickler makes room for as many as the highest number that a value is kept under.
        if opcode.name in ("BINPUT", "LONG_BINPUT") and (argument or 0) > len(data):
            raise ValueError(f"its pickle keeps a value under the number {argument}")
        containers += opcode.name in _CONTAINERS
        if containers > _MOST_CONTAINERS:
            raise ValueError(f"its pickle makes more than {_MOST_CONTAINERS:,} containers")
        marks += (opcode.name == "MARK") - (opcode.name in _CLOSING)
        if marks > _MOST_MARKS:
            raise ValueError(f"its pickle opens more than {_MOST_MARKS} containers in each other")


class _Described(pickle.Unpickler):
    """Descriptions in place of tensors: every name in the pickle means one of the functions below, and no other."""

    def __init__(self, data: bytes, sizes: dict[str, int]) -> None:
        super().__init__(io.BytesIO(data))
        self._sizes = sizes
        self.shown_bytes = 0

    def find_class(self, module: str, name: str) -> Any:
        if f"{module} {name}" not in _GLOBALS:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return self._tensor if name == "_rebuild_tensor_v2" else _STAND_INS.get(name, name)

    def _tensor(self, *stated: Any) -> _Tensor:
        tensor = _tensor(*stated)
        self.shown_bytes += math.prod(tensor.shape) * tensor.storage.item_bytes
        return tensor

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, count = pid
        item_bytes = _ITEM_BYTES[storage]
        if kind != "storage" or not is_count(count, 1 << 50) or self._sizes[f"data/{key}"] != count * item_bytes:
            raise ValueError(f"the bytes of a tensor are not those that it states ({count} numbers)")
        return _Storage(item_bytes, count)


def _tensor(storage: Any, start: Any, shape: Any, strides: Any, *rest: Any) -> _Tensor:
    """What `torch._utils._rebuild_tensor_v2` is given."""
    counts = (start, *shape, *strides)
    fits = isinstance(storage, _Storage) and len(shape) == len(strides) <= _MOST_AXES
    if not fits or not all(is_count(n, 1 << 50) for n in counts):
        raise ValueError("a tensor without bytes of its own, or of no shape")
    last = start + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > storage.numbers or (all(shape) and last >= storage.numbers):
        raise ValueError(f"a tensor of shape {tuple(shape)} in {storage.numbers} numbers")
    return _Tensor(storage, start, tuple(shape), tuple(strides))


_STAND_INS: dict[str, Any] = {
    "OrderedDict": OrderedDict,
    "_rebuild_parameter": lambda tensor, *rest: tensor,
}

"""GGUF files of llama.cpp: their header, read within limits, and unpacking them once into a folder like others.

The header is read here before the library is given the file, and the tokenizer is made here: its pre-tokenizer has a
name in the file, and text cut otherwise would be other tokens than the model was trained with.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from goldfinch.errors import ModelRefused, WeightsDamaged, WeightsMismatch
from goldfinch.text.bpe_file import PATTERNS
from goldfinch.text.json_files import is_count, is_text
from goldfinch.weights.files import write_weights

from . import library
from .recognise import GGUF_MAGIC, Found

_MOST_ENTRIES, _MOST_STRING, _MOST_ARRAY, _MOST_HEADER = 1 << 16, 1 << 20, 1 << 22, 1 << 28
# Texts of a file: a vocabulary of 262,144 and as many merges twice over. The library takes microseconds for each.
_MOST_TEXTS = 1 << 20
_MOST_NAME, _MOST_AXES, _MOST_KIND, _MOST_COUNT = 200, 4, 64, 1024
# Value types of the metadata: struct's letter by number; 8 is a string, 9 an array.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
# How text is cut into words, by the name in the file.
_WORDS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_BYTE_LEVEL | {"use_regex": True}],
    "default": [_BYTE_LEVEL | {"use_regex": True}],
    "smollm": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL | {"use_regex": True}],
    **{
        name: [
            {"type": "Split", "pattern": {"Regex": PATTERNS[pattern]}, "behavior": "Isolated", "invert": False},
            _BYTE_LEVEL | {"use_regex": False},
        ]
        for name, pattern in (("llama-bpe", "llama-3"), ("llama3", "llama-3"), ("qwen2", "qwen-2"))
    },
}
_CONTROL, _USER_DEFINED = 3, 4


class _Reader:
    """The header of a GGUF file, read in order."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left, self._texts = stream, min(size, _MOST_HEADER), 0

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self._left:
            raise ValueError(f"a field of {count:,} bytes, where at most {self._left:,} are left")
        self._left -= count
        data = self._stream.read(count)
        if len(data) != count:
            raise ValueError("the file ends inside its header")
        return data

    def number(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self.take(struct.calcsize(letter)))[0]

    def text(self) -> str:
        self._texts += 1
        if self._texts > _MOST_TEXTS:
            raise ValueError(f"more than {_MOST_TEXTS:,} texts")
        length = self.number("Q")
        if length > _MOST_STRING:
            raise ValueError(f"a text of {length:,} bytes, allowed: {_MOST_STRING:,}")
        return self.take(length).decode("utf-8", errors="surrogateescape")

    def count(self, most: int, what: str) -> int:
        found = int(self.number("Q"))
        if found > most:
            raise ValueError(f"{found:,} {what}, allowed: {most:,}")
        return found

    def value(self) -> Any:
        kind = self.number("I")
        if kind != _ARRAY:
            return self._one(kind)
        kind = self.number("I")
        count = self.count(_MOST_ARRAY, "values of an array")
        if kind in _NUMBERS:
            return list(struct.unpack(f"<{count}{_NUMBERS[kind]}", self.take(count * struct.calcsize(_NUMBERS[kind]))))
        return [self._one(kind) for _ in range(count)]

    def _one(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind not in _NUMBERS:
            raise ValueError(f"a value of type {kind}, allowed: 0 to 12, no array in an array")
        return self.number(_NUMBERS[kind])


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The metadata of a GGUF file by key, and how many values its tensors have, by name.

    Raises:
        WeightsDamaged: it cannot be understood, or states what no model has.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as stream:
            reader = _Reader(stream, size)
            if reader.take(4) != GGUF_MAGIC:
                raise ValueError("it does not begin with GGUF")
            version = reader.number("I")
            if version not in (2, 3):
                raise ValueError(f"its version is {version}, allowed: 2, 3")
            tensors = reader.count(_MOST_ENTRIES, "tensors")
            entries = reader.count(_MOST_ENTRIES, "entries")
            values = {reader.text(): reader.value() for _ in range(entries)}
            _check_counts(values)
            elements: dict[str, int] = {}
            total = 0
            for _ in range(tensors):
                name, count = _tensor(reader, size)
                total += count
                _demand_fit(total, size, f"{tensors:,} tensors")
                if name in elements:
                    raise ValueError(f"two tensors are called {name!r:.60}")
                elements[name] = count
            return values, elements
    except (OSError, ValueError, struct.error, OverflowError) as error:
        raise WeightsDamaged(f"cannot read the GGUF file {path}: {error}") from error


def _check_counts(values: Mapping[str, Any]) -> None:
    """Refuse layers and heads without end: the library makes lists of them before there is a configuration to check."""
    of_model = f"{values.get('general.architecture')}."
    for key, value in values.items():
        if key.startswith(of_model) and key.endswith("_count"):
            for one in value if isinstance(value, list) else [value]:
                if not is_count(one, _MOST_COUNT + 1):
                    raise ValueError(f"{key} is {one!r:.40}, allowed: 0 to {_MOST_COUNT:,}")


def _tensor(reader: _Reader, size: int) -> tuple[str, int]:
    """Name and number of values of the next tensor in the list."""
    name, axes = reader.text(), reader.number("I")
    if not name or len(name) > _MOST_NAME or axes > _MOST_AXES:
        raise ValueError(f"a tensor {name!r:.60} of {axes} axes, allowed: up to {_MOST_AXES}")
    elements = 1
    for _ in range(axes):
        elements *= reader.number("Q")
    kind, offset = reader.number("I"), reader.number("Q")
    if kind >= _MOST_KIND or offset > size:
        raise ValueError(f"the tensor {name!r:.60} of type {kind} at {offset:,} does not fit {size:,} bytes")
    _demand_fit(elements, size, f"the tensor {name!r:.60}")
    return name, elements


def _demand_fit(elements: int, size: int, what: str) -> None:
    if elements > 8 * size:  # the smallest type has less than 2 bits a value
        raise ValueError(f"{what} of {elements:,} values does not fit {size:,} bytes")


def _refuse_parts(path: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse a part of a model, and what is added to one.

    Raises:
        ModelRefused: as said.
    """
    parts, kind = metadata.get("split.count", 0), metadata.get("general.type", "model")
    if parts not in (0, 1):
        raise ModelRefused(
            f"{path} is one of {parts!r:.20} parts of a model",
            hint="join them: llama-gguf-split --merge FIRST-PART model.gguf",
        )
    if kind != "model":
        raise ModelRefused(
            f"{path} holds no model: its type is {kind!r:.40}", hint="import the model that it belongs to"
        )


def _refuse_stretched(path: Path, metadata: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse positions that the library would compute as they are not, without a word.

    It takes their scaling from a GGUF file for gpt-oss alone.

    Raises:
        ModelRefused: as said.
    """
    kind = metadata.get("general.architecture")
    found = [name for name in names if name.startswith("rope_f")]  # rope_freqs, rope_factors_long, rope_factors_short
    for key, plain in (("scaling.type", ("none", None)), ("scaling.factor", (0.0, 1.0)), ("scale_linear", (0.0, 1.0))):
        name = f"{kind}.rope.{key}"
        found += [name] if name in metadata and metadata[name] not in plain else []
    if found and kind != "gpt-oss":
        raise ModelRefused(
            f"{path} scales its positions ({found[0]:.60}), which transformers does not take from a GGUF file",
            hint="take the model's folder with safetensors",
        )


def _demand_all_used(path: Path, elements: Mapping[str, int], tensors: Mapping[str, Any]) -> None:
    """Refuse a file with more than its model: the library leaves out, without a word, what it has no name for.

    Raises:
        WeightsMismatch: as said.
    """
    held, used = sum(elements.values()), sum(tensor.numel() for tensor in tensors.values())
    if held > used:
        raise WeightsMismatch(
            f"{path} holds {held:,} weights, of which the model that it describes has {used:,}",
            hint="take the model's folder with safetensors, or the file as it was published",
        )


def unpacked(found: Found, folder: Path) -> Found:
    """A GGUF file as a folder: safetensors, tokenizer.json and the configuration.

    Args:
        folder: an empty one, to write into.

    Raises:
        WeightsDamaged: a file that cannot be read.
        WeightsMismatch: weights that its model does not have.
        ModelRefused: an architecture or a tokenizer that is not known, positions that are scaled.
    """
    metadata, elements = read_header(found.path)
    _refuse_parts(found.path, metadata)
    _refuse_stretched(found.path, metadata, elements)
    # A folder with nothing else in it: the library looks for more beside the file.
    alone = folder / "gguf"
    alone.mkdir()
    (alone / "model.gguf").symlink_to(found.path)
    tokenizer = _tokenizer(metadata, alone)
    config, tensors = library.gguf_contents(alone, "model.gguf", sum(elements.values()))
    _demand_all_used(found.path, elements, tensors)
    files = write_weights(folder / "model.safetensors", {key: _smallest(one) for key, one in tensors.items()})
    (folder / "tokenizer.json").write_text(tokenizer)
    tokens = metadata.get("tokenizer.ggml.tokens")
    tokens = tokens if isinstance(tokens, list) else []
    special: dict[str, str] = {}
    ends: list[int] = []
    for name in ("bos", "eos", "unknown", "padding", "eot"):
        number = metadata.get(f"tokenizer.ggml.{name}_token_id")
        if isinstance(number, int) and is_count(number, len(tokens)) and is_text(tokens[number], 256):
            special[{"unknown": "unk_token", "padding": "pad_token"}.get(name, f"{name}_token")] = tokens[number]
            ends += [number] if name in ("eos", "eot") else []
    template = metadata.get("tokenizer.chat_template")
    begins = metadata.get("tokenizer.ggml.add_bos_token", metadata.get("tokenizer.ggml.model") == "llama")
    return replace(
        found, config=config, files=tuple(files), tokenizer_file=folder / "tokenizer.json",
        chat_template=template if is_text(template, _MOST_STRING) else None, special_texts=special,
        end_token_ids=tuple(ends), begins_with_bos=bool(begins),
    )  # fmt: skip


def _tokenizer(metadata: Mapping[str, Any], alone: Path) -> str:
    """tokenizer.json of a GGUF: made here where the file names how to cut words, else by the library."""
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        return library.gguf_tokenizer(alone, "model.gguf")
    name = metadata.get("tokenizer.ggml.pre", "default")
    words = _WORDS.get(name) if isinstance(name, str) else None
    if words is None:
        raise ModelRefused(
            f"the GGUF file cuts text into words as {name!r:.40}, which gf does not know; known: {', '.join(_WORDS)}",
            hint="take the model's folder with safetensors and tokenizer.json",
        )
    tokens: Any = metadata.get("tokenizer.ggml.tokens")
    kinds = metadata.get("tokenizer.ggml.token_type", [])
    merges = metadata.get("tokenizer.ggml.merges")
    are_texts = all(isinstance(one, list) and all(isinstance(text, str) for text in one) for one in (tokens, merges))
    if not are_texts or not isinstance(kinds, list) or len(kinds) not in (0, len(tokens)):
        raise WeightsDamaged("the GGUF file lacks the tokens or merges of its tokenizer")
    added = [
        {"id": number, "content": tokens[number], "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": mark == _CONTROL}
        for number, mark in enumerate(kinds) if mark in (_CONTROL, _USER_DEFINED)
    ]  # fmt: skip
    split = words[0] if len(words) == 1 else {"type": "Sequence", "pretokenizers": words}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "NFC"} if name == "qwen2" else None, "pre_tokenizer": split, "post_processor": None,
        "decoder": _BYTE_LEVEL | {"use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": name in ("llama-bpe", "llama3"),
            "vocab": {text: number for number, text in enumerate(tokens)}, "merges": merges,
        },
    })  # fmt: skip


def _smallest(tensor: Any) -> Any:
    """The tensor in 16 bits where these hold every value of it."""
    return next(
        (small for small in library.halves_of(tensor) if bool((small.to(tensor.dtype) == tensor).all())), tensor
    )

"""What lies under a path: a folder as the Hugging Face hub has it, or a GGUF file; refused before weights are read.

Nothing is imported from there, and nothing is fetched. Links to files are followed: the hub's
own cache consists of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfcache.files.regular import NotRegular, read_regular

from goldfinch.errors import ConfigDamaged, ModelRefused
from goldfinch.text import bpe_file
from goldfinch.text.json_files import is_count, is_text, read_json
from goldfinch.weights.parts import check_regular, files_of_weights, weights_file_of

GGUF_MAGIC = b"GGUF"
_LFS_POINTER = b"version https://git-lfs"
_MOST_CONFIG_BYTES = 1 << 20
_MOST_TEMPLATE = 1 << 18
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")
# A folder of the hub's cache: models--ORGANISATION--NAME/snapshots/COMMIT.
_HUB_FOLDER = re.compile(r"models--(?:.+--)?(.+)")
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_QUANTISED = ("quantize_config.json", "quant_config.json", "quantization_config.json")


@dataclass(frozen=True)
class Found:
    """A model of others, as it lies on the disk.

    Attributes:
        path: the folder, or the .gguf file; absolute.
        name: that it may be given here.
        config: of the folder's config.json, as it is; empty for a GGUF.
        files: the .safetensors files; none for a GGUF.
        tokenizer_file: tokenizer.json, or None.
        chat_template: in Jinja, or None.
        special_texts: text by name ("bos_token") as templates use them.
        end_token_ids: tokens that end an answer, as generation_config.json and config.json say.
        begins_with_bos: whether the tokenizer puts bos_token before every text, where its settings say so.
    """

    path: Path
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    tokenizer_file: Path | None = None
    chat_template: str | None = None
    special_texts: Mapping[str, str] = field(default_factory=dict)
    end_token_ids: tuple[int, ...] = ()
    begins_with_bos: bool | None = None

    @property
    def is_gguf(self) -> bool:
        """Whether it is one file of llama.cpp."""
        return not self.files


def recognise(path: Path) -> Found:
    """What a path holds.

    Raises:
        FileNotFoundError: nothing of that name.
        ModelRefused: not a model that gf takes, and why.
        ConfigDamaged, WeightsDamaged: a file that cannot be understood.
    """
    path = Path(os.path.abspath(path))
    if not os.path.lexists(path):
        raise FileNotFoundError(2, "no such folder or file", str(path))
    if path.is_dir():
        return _folder(path)
    start = _start_of(path)
    if start.startswith(_LFS_POINTER):
        raise _pointer(path)
    if start.startswith(GGUF_MAGIC):
        return Found(path, path.stem)
    if path.suffix.lower() in _PICKLED:
        raise _pickled(path)
    hint = "name the folder that holds config.json and the weights, or a .gguf file"
    if path.suffix == ".safetensors" or path.name.endswith(".index.json"):
        hint = f"name its folder: gf model import {path.parent}; GoldFinch weights also take --config"
    raise ModelRefused(f"{path} is neither a model folder nor a GGUF file", hint=hint)


def _folder(path: Path) -> Found:
    names = set(os.listdir(path))
    adapter = next((name for name in _ADAPTERS if name in names), None)
    if adapter:
        raise ModelRefused(
            f"{path} holds an adapter ({adapter}), not a model",
            hint="merge it into its base model first (peft: merge_and_unload, save_pretrained)",
        )
    if "config.json" not in names:
        gguf = sorted(name for name in names if name.endswith(".gguf"))
        hint = f"name the file: gf model import {path / gguf[0]}" if gguf else "a model folder has a config.json"
        raise ModelRefused(f"{path} has no config.json", hint=hint)
    config = _config(path / "config.json")
    _refuse_quantised(path, config, names)
    files = _weights(path, names)
    tokenizer = _settings(path / "tokenizer_config.json")
    generation = _settings(path / "generation_config.json")
    return Found(
        path, _name_of(path), config, files,
        path / "tokenizer.json" if "tokenizer.json" in names else None,
        _chat_template(path, names, tokenizer), _special_texts(path, tokenizer),
        _end_ids(generation.get("eos_token_id"), config.get("eos_token_id")),
        begins if isinstance(begins := tokenizer.get("add_bos_token"), bool) else None,
    )  # fmt: skip


def _config(path: Path) -> dict[str, Any]:
    try:
        values = read_json(path, _MOST_CONFIG_BYTES)
    except (OSError, ValueError) as error:
        if _is_pointer(path):
            raise _pointer(path) from error
        raise ConfigDamaged(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigDamaged(f"{path} holds {values!r:.40}, allowed: a JSON object")
    if values.get("library") == "transformers" or isinstance(values.get("config"), dict):
        raise ModelRefused(f"{path.parent} is a model folder of gf already", hint="name it with -m")
    return values


def _refuse_quantised(path: Path, config: Mapping[str, Any], names: set[str]) -> None:
    inner = config.get("text_config")
    settings = config.get("quantization_config") or (isinstance(inner, dict) and inner.get("quantization_config"))
    file = next((name for name in _QUANTISED if name in names), None)
    if not settings and file is None:
        return
    method = settings.get("quant_method", "unnamed") if isinstance(settings, dict) else file or "unnamed"
    raise ModelRefused(
        f"{path} is quantised ({method!s:.40}), in a form that gf does not compute with",
        hint="take the folder that it was made from, or a GGUF file, whose weights gf unpacks",
    )


def _weights(path: Path, names: set[str]) -> tuple[Path, ...]:
    """The .safetensors files, each looked at: no pipe, no pointer, none that an index names outside the folder."""
    first = weights_file_of(path)
    if first.name not in names:
        single = sorted(name for name in names if name.endswith(".safetensors"))
        if len(single) == 1:
            first = path / single[0]
        else:
            pickled = next((name for name in sorted(names) if name.endswith(_PICKLED)), None)
            if pickled is not None:
                raise _pickled(path / pickled)
            raise ModelRefused(f"{path} has no weights: no model.safetensors, and no index of several")
    if _is_pointer(first):
        raise _pointer(first)
    files = tuple(files_of_weights(first))
    for file in files:
        check_regular(file)
        if _is_pointer(file):
            raise _pointer(file)
    return files


def _pickled(path: Path) -> ModelRefused:
    return ModelRefused(
        f"{path} holds pickled weights, which can run code when they are read",
        hint="take the model's .safetensors files; most models have them beside these, or in another revision",
    )


def _pointer(path: Path) -> ModelRefused:
    return ModelRefused(
        f"{path} is a Git LFS pointer, not the file itself", hint="run `git lfs pull` in its folder, or hf download"
    )


def _is_pointer(path: Path) -> bool:
    return _start_of(path).startswith(_LFS_POINTER)


def _start_of(path: Path) -> bytes:
    """The first bytes of a regular file; NotRegular for anything else."""
    if not path.is_file():
        raise NotRegular(22, "this is no regular file, expected one", str(path))
    with open(path, "rb") as stream:
        return stream.read(64)


def _settings(path: Path) -> dict[str, Any]:
    """A JSON object of settings; empty where there is none.

    Raises:
        ConfigDamaged: it cannot be understood.
    """
    if not os.path.lexists(path):
        return {}
    try:
        values = read_json(path, bpe_file.MOST_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigDamaged(f"cannot read {path}: {error}") from error
    return values if isinstance(values, dict) else {}


def _chat_template(path: Path, names: set[str], tokenizer: Mapping[str, Any]) -> str | None:
    """The template in chat_template.jinja, or in tokenizer_config.json; the one called default among several."""
    if "chat_template.jinja" in names:
        try:
            return read_regular(path / "chat_template.jinja", _MOST_TEMPLATE).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigDamaged(f"cannot read {path / 'chat_template.jinja'}: {error}") from error
    found = tokenizer.get("chat_template")
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, dict)}
        found = named.get("default")
    return found if is_text(found, _MOST_TEMPLATE) else None


def _special_texts(path: Path, tokenizer: Mapping[str, Any]) -> dict[str, str]:
    """bos_token and the like, from tokenizer_config.json and special_tokens_map.json."""
    values = _settings(path / "special_tokens_map.json") | dict(tokenizer)
    out = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = values.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if is_text(value, 256):
            out[name] = str(value)
    return out


def _end_ids(*found: Any) -> tuple[int, ...]:
    ids: list[int] = []
    for value in found:
        ids += [one for one in (value if isinstance(value, list) else [value]) if is_count(one, 1 << 31)]
    return tuple(dict.fromkeys(ids))[:32]


def _name_of(path: Path) -> str:
    """The name of a folder; of a snapshot in the hub's cache, that of the model."""
    for folder in (path, *path.parents[:2]):
        hub = _HUB_FOLDER.fullmatch(folder.name)
        if hub:
            return hub[1]
    return path.name

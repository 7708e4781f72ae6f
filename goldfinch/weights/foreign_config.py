"""What config.json says of a model of others; read without torch, and without the library that runs it.

Such a model directory leads to weights that lie elsewhere, or holds them. Its `library_config.json` is the
configuration of the folder that it was made from, cleaned of all that names code (`goldfinch.foreign`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from goldfinch.errors import ConfigError
from goldfinch.models.config import MOST
from goldfinch.text.json_files import is_count, is_text
from goldfinch.text.template import PromptTemplate

# What the field `library` of a card says for these models.
LIBRARY = "transformers"
LIBRARY_CONFIG_FILE = "library_config.json"
# What a layer keeps of the tokens before: all keys and values, those of a window, a state alone, nothing.
LayerKind = Literal["full", "sliding", "linear", "none"]
# How a document may be computed: in blocks of any size; or in one piece, and what follows token by token.
Schedule = Literal["blocks", "whole_then_steps"]
KINDS, SCHEDULES = ("full", "sliding", "linear", "none"), ("blocks", "whole_then_steps")
DTYPES = ("f64", "f32", "bf16")
_MOST_FILES, _MOST_STOPS, _MOST_STATES, _MOST_AXIS = 4096, 64, 16, 1 << 31
_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class LayerShape:
    """What one layer keeps of a sequence, batch 1.

    Attributes:
        kind: what the attention of the layer keeps; "linear" for a layer that has states and no attention. A layer
            with both (Falcon-H1) is "full" or "sliding" and has `states`.
        kv_heads, head_dim, value_dim: of keys (kv_heads, rows, head_dim) and values (kv_heads, rows, value_dim); 0
            without attention.
        window: rows that a query sees, its own among them, where kind is "sliding"; window - 1 are kept.
        states: shape by role ("conv", "recurrent"; a second of a kind is "conv.1"), without the batch.
        state_dtypes: dtype by role: "f32", "bf16", "f64".
    """

    kind: LayerKind
    kv_heads: int = 0
    head_dim: int = 0
    value_dim: int = 0
    window: int | None = None
    states: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    state_dtypes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Any) -> LayerShape:
        """Build from JSON; ConfigError for what no layer has."""
        _known(cls, values, "a layer")
        _demand(values.get("kind") in KINDS, "kind of a layer", values.get("kind"), ", ".join(KINDS))
        for name in ("kv_heads", "head_dim", "value_dim"):
            _demand(is_count(values.get(name), 1 << 16), f"{name} of a layer", values.get(name), "0 to 65,535")
        window, states = values.get("window"), values.get("states", {})
        _demand((values["kind"] == "sliding") == (window is not None), "window of a layer", window, "where it slides")
        _demand(window is None or (is_count(window, 1 << 31) and window > 1), "window of a layer", window, "from 2")
        _demand(isinstance(states, dict) and len(states) <= _MOST_STATES, "states of a layer", states, "by role")
        for role, shape in states.items():
            fits = isinstance(shape, list) and len(shape) <= 5 and all(is_count(n, _MOST_AXIS) for n in shape)
            _demand(is_text(role, 40) and role.isprintable() and fits and math.prod(shape) < _MOST_AXIS,
                    f"the state {role!r:.40}", shape, "up to 5 counts")  # fmt: skip
        dtypes = values.get("state_dtypes", {})
        fits = isinstance(dtypes, dict) and set(dtypes) == set(states)
        _demand(fits and all(one in DTYPES for one in dtypes.values()), "state_dtypes of a layer", dtypes,
                "one of " + ", ".join(DTYPES) + " for every state")  # fmt: skip
        return cls(**values | {"states": {role: tuple(shape) for role, shape in states.items()}})


@dataclass(frozen=True)
class ForeignConfig:
    """A model of others.

    Attributes:
        model_type: its architecture, as its own config.json names it ("llama").
        n_layer, d_model, vocab_size: layers, width, rows of the embedding.
        context_length: most positions.
        layers: one for each layer.
        folder: where the weights are, absolute; None for the model directory itself.
        files: of the weights: (bytes, SHA-256) by name.
        library_config_digest: SHA-256 of library_config.json.
        stop_token_ids: tokens that end an answer.
        schedule: how documents are computed, as the self-check found.
        block_tokens: what one step of a document should hold where the schedule is "blocks".
        check: what the self-check saw: the library's version and figures.
        prompts: the prompt templates that the model can use, by name: "plain", "chat".
        prompt: which of them the card's template was taken from, or "own".
        prompt_figures: what the choice of the prompt rests on.
    """

    model_type: str
    n_layer: int
    d_model: int
    vocab_size: int
    context_length: int
    layers: tuple[LayerShape, ...]
    folder: str | None
    files: Mapping[str, tuple[int, str]]
    library_config_digest: str
    stop_token_ids: tuple[int, ...] = ()
    schedule: Schedule = "blocks"
    block_tokens: int = 512
    check: Mapping[str, str | float | None] = field(default_factory=dict)
    prompts: Mapping[str, PromptTemplate] = field(default_factory=dict)
    prompt: str = "own"
    prompt_figures: Mapping[str, str | float | None] = field(default_factory=dict)

    @property
    def head_dim(self) -> int:
        """Of the first layer with attention; the width of the model without any."""
        return next((layer.head_dim for layer in self.layers if layer.head_dim), self.d_model)

    @property
    def library_version(self) -> str:
        """The version of the library that the self-check ran with."""
        return str(self.check.get("library_version", ""))

    def files_in(self, directory: Path) -> list[Path]:
        """The files of weights of a model directory."""
        folder = directory if self.folder is None else Path(self.folder)
        return [folder / name for name in sorted(self.files)]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"prompts": {name: prompt.to_dict() for name, prompt in self.prompts.items()}}

    @classmethod
    def from_dict(cls, values: Any) -> ForeignConfig:
        """Build from the words of a model directory, which may be a stranger's.

        Raises:
            ConfigError: an unknown field, or a value that is not allowed.
        """
        _known(cls, values, "the configuration")
        for name in ("n_layer", "d_model", "vocab_size", "context_length"):
            found = values.get(name)
            _demand(is_count(found, MOST[name] + 1) and found > 0, name, found, f"1 to {MOST[name]:,}")
        _demand(is_count(values.get("block_tokens"), 1 << 20) and values["block_tokens"] > 0, "block_tokens",
                values.get("block_tokens"), "1 to 1,048,575")  # fmt: skip
        _demand(_is_word(values.get("model_type")), "model_type", values.get("model_type"), "a short name")
        layers = values.get("layers")
        _demand(isinstance(layers, list) and len(layers) == values["n_layer"], "layers", layers, "n_layer of them")
        _demand(values.get("schedule") in SCHEDULES, "schedule", values.get("schedule"), ", ".join(SCHEDULES))
        stops = values.get("stop_token_ids")
        fits = isinstance(stops, list) and len(stops) <= _MOST_STOPS
        _demand(fits and all(is_count(one, values["vocab_size"]) for one in stops), "stop_token_ids", stops,
                f"up to {_MOST_STOPS} token ids")  # fmt: skip
        _demand(_is_digest(values.get("library_config_digest")), "library_config_digest",
                values.get("library_config_digest"), "64 hex digits")  # fmt: skip
        prompts = values.get("prompts", {})
        _demand(isinstance(prompts, dict) and set(prompts) <= {"plain", "chat"}, "prompts", prompts, "plain, chat")
        _demand(values.get("prompt") in ("plain", "chat", "own"), "prompt", values.get("prompt"), "plain, chat, own")
        for name in ("check", "prompt_figures"):
            _check_figures(name, values.get(name, {}))
        made: dict[str, Any] = {
            "layers": tuple(map(LayerShape.from_dict, layers)),
            "files": _files(values.get("files")),
            "folder": _folder(values.get("folder")),
            "stop_token_ids": tuple(stops),
            "prompts": {name: PromptTemplate.from_dict(prompt) for name, prompt in prompts.items()},
        }
        return cls(**values | made)


def _files(files: Any) -> dict[str, tuple[int, str]]:
    fits = isinstance(files, dict) and 0 < len(files) <= _MOST_FILES
    _demand(fits, "files", type(files).__name__, f"1 to {_MOST_FILES:,} files")
    for name, entry in files.items():
        is_name = is_text(name, 200) and name.endswith(".safetensors") and Path(name).name == name and "\0" not in name
        _demand(is_name, "a file of weights", name, "names of .safetensors files")
        fits = isinstance(entry, list) and len(entry) == 2 and is_count(entry[0], 1 << 50) and _is_digest(entry[1])
        _demand(fits, f"{name} in files", entry, "bytes and SHA-256")
    return {name: (entry[0], entry[1]) for name, entry in files.items()}


def _folder(folder: Any) -> str | None:
    fits = folder is None or (is_text(folder, 4096) and os.path.isabs(folder) and "\0" not in folder)
    _demand(fits, "folder", folder, "an absolute path, or null")
    return None if folder is None else str(folder)


def _check_figures(what: str, figures: Any) -> None:
    fits = isinstance(figures, dict) and len(figures) <= 64
    _demand(fits, what, figures, "a JSON object of figures")
    for name, value in figures.items():
        fits = value is None or isinstance(value, int | float) or (is_text(value, 200) and value.isprintable())
        _demand(_is_word(name) and fits, f"{name!r:.40} in {what}", value, "a number or a short text")


def _known(cls: type, values: Any, what: str) -> None:
    _demand(isinstance(values, dict), what, values, "a JSON object")
    unknown = sorted(set(values) - {one.name for one in fields(cls)})
    _demand(not unknown, f"a field of {what}", unknown[:1], ", ".join(one.name for one in fields(cls)))


def _is_word(value: object) -> bool:
    return is_text(value, 80) and str(value).isprintable() and bool(str(value).strip())


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= _DIGITS


def _demand(holds: object, what: str, found: object, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"{what} is {found!r:.60}, allowed: {allowed}")

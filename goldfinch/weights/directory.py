"""Model directories: config.json, model.safetensors (or several and their index), and a tokenizer where there is one.

Names are looked up in GF_MODELS_DIR (by default the XDG data folder) and then among the package's assets.
Reading a card needs no torch, so `gf model list` starts at once. Nothing is ever fetched from a network.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfcache.files.places import expanded, folder_of, user_folder
from gfcache.files.regular import read_regular

from goldfinch.errors import ConfigError, ModelDamaged, ModelNotFound, TokenizerError, WeightsDamaged
from goldfinch.models.config import ModelConfig
from goldfinch.text.json_files import is_text, parse_json, read_json
from goldfinch.text.template import PromptTemplate
from goldfinch.text.tokenizer import Tokenizer, read_tokenizer

DEFAULT_MODEL = "gf-mini"
ASSETS = Path(__file__).parent.parent / "assets"
CONFIG_FILE = "config.json"
# The only names that gf gives to tokenizers; no card may lead out of its directory.
TOKENIZER_FILES = ("tokenizer.json", "rwkv_vocab.txt")
MOST_NAME = 128
_MOST_CARD_BYTES = 1 << 20
_DIGESTS = ("prefill_fingerprint", "model_fingerprint", "tokenizer_fingerprint")
_DIGEST = re.compile("[0-9a-f]{64}")
_NEEDED_FIELDS = {"name", "config", "template", "prefill_fingerprint", "model_fingerprint"}
_CARD_FIELDS = ("name", "model_type", "config", "template", "tokenizer_file", *_DIGESTS)


@dataclass(frozen=True)
class ModelCard:
    """What a model directory says of itself.

    Attributes:
        name: of the model; the directory may be called otherwise.
        config: its ModelConfig.
        template: how documents and questions are joined.
        prefill_fingerprint, model_fingerprint: see `fingerprints.fingerprints`.
        tokenizer_file: file name inside the directory, or None.
        tokenizer_fingerprint: SHA-256 of that file, or None.
        path: the directory.
    """

    name: str
    config: ModelConfig
    template: PromptTemplate
    prefill_fingerprint: str
    model_fingerprint: str
    tokenizer_file: str | None = None
    tokenizer_fingerprint: str | None = None
    path: Path = field(default=Path("."), compare=False)

    def to_json(self) -> str:
        values = {
            "name": self.name,
            "model_type": self.config.model_type,
            "config": self.config.to_dict(),
            "template": self.template.to_dict(),
            "prefill_fingerprint": self.prefill_fingerprint,
            "model_fingerprint": self.model_fingerprint,
            "tokenizer_file": self.tokenizer_file,
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
        }
        return json.dumps(values, indent=2) + "\n"


def read_card(path: Path) -> ModelCard:
    """Read the card of a model directory. Every field is checked: the directory may be a stranger's.

    Raises:
        ModelNotFound: no config.json there.
        ModelDamaged: the card cannot be understood, or asks for what no model has.
    """
    file = path / CONFIG_FILE
    if not os.path.lexists(file):
        raise ModelNotFound(f"{path} is not a model directory: it has no {CONFIG_FILE}")
    try:
        return _card_of(parse_json(read_regular(file, _MOST_CARD_BYTES)), path)
    except (OSError, ValueError, ConfigError) as error:
        reason = f"{type(error).__name__} {error}" if isinstance(error, UnicodeError) else str(error)
        raise ModelDamaged(
            f"{file} cannot be understood: {reason}", hint="make the directory again with gf model import"
        ) from error


def _card_of(values: Any, path: Path) -> ModelCard:
    """The card that JSON describes.

    Raises:
        ValueError, ConfigError: naming the first field that is not allowed.
    """
    _demand(isinstance(values, dict), "it", values, "a JSON object")
    unknown = sorted(set(values) - set(_CARD_FIELDS))
    missing = sorted(_NEEDED_FIELDS - set(values))
    _demand(not unknown, "a field", unknown[:1], ", ".join(_CARD_FIELDS))
    _demand(not missing, "a field that is missing", missing[:1], "nowhere")
    check_name(values["name"])
    config, template = ModelConfig.from_dict(values["config"]), PromptTemplate.from_dict(values["template"])
    template.check_token_ids(config.vocab_size)
    _demand(values.get("model_type", config.model_type) == config.model_type, "model_type", values.get("model_type"),
            f"{config.model_type}, as config says")  # fmt: skip
    digests = {name: values.get(name) for name in _DIGESTS}
    for name, found in digests.items():
        absent = found is None and name not in _NEEDED_FIELDS
        _demand(absent or (isinstance(found, str) and _DIGEST.fullmatch(found)), name, found, "64 hex digits")
    file = values.get("tokenizer_file")
    _demand(file in (None, *TOKENIZER_FILES), "tokenizer_file", file, ", ".join(TOKENIZER_FILES) + " or null")
    _demand((file is None) == (digests["tokenizer_fingerprint"] is None), "tokenizer_fingerprint",
            digests["tokenizer_fingerprint"], "there if, and only if, tokenizer_file is")  # fmt: skip
    return ModelCard(values["name"], config, template, tokenizer_file=file, path=path, **digests)


def check_name(name: object) -> None:
    """Refuse a name that no model may have.

    Raises:
        ConfigError: not a text, empty, too long, or with anything in it that a terminal does not show.
    """
    if not is_text(name, MOST_NAME) or not str(name).isprintable() or not str(name).strip():
        raise ConfigError(f"the name of the model is {name!r:.60}, allowed: 1 to {MOST_NAME} printable characters")


def _demand(holds: object, what: str, found: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{what} is {found!r:.60}, allowed: {allowed}")


def models_folder() -> Path:
    """GF_MODELS_DIR, or goldfinch/models in the user's data folder (XDG_DATA_HOME, ~/.local/share)."""
    return folder_of("GF_MODELS_DIR") or user_folder("data", "goldfinch") / "models"


def list_directories() -> Iterator[tuple[Path, ModelCard | ModelDamaged]]:
    """Model directories that have a name here, the user's first, then the package's: each with its card, or with what
    is wrong with it."""
    for folder in (models_folder(), ASSETS):
        try:
            paths = sorted(folder.iterdir())
        except OSError:
            continue
        for path in paths:
            # A broken link, or a config.json that is no file, is a broken directory, and no reason to be silent.
            if os.path.lexists(path / CONFIG_FILE):
                try:
                    yield path, read_card(path)
                except ModelDamaged as error:
                    yield path, error
                except ModelNotFound as error:
                    yield path, ModelDamaged(str(error))


def list_models() -> Iterator[ModelCard]:
    """Cards of the models that have a name here: the user's first, then the package's. Damaged ones are left out."""
    return (card for _, card in list_directories() if isinstance(card, ModelCard))


def find_model(path_or_name: str | os.PathLike[str] | None = None) -> ModelCard:
    """The card of a directory or of a named model; without either, of the embedded default.

    Raises:
        ModelNotFound: neither a model directory nor a known name.
    """
    name = DEFAULT_MODEL if path_or_name is None else os.fspath(path_or_name)
    path = expanded(name)
    if os.path.lexists(path / CONFIG_FILE) and (os.sep in name or not _named(name)):
        return read_card(path)
    found = _named(name)
    if found is not None:
        return found
    known = ", ".join(sorted({card.name for card in list_models()})) or "none"
    raise ModelNotFound(
        f"no model named {name!r}, and no such folder", hint=f"known models: {known} (see gf model list)"
    )


def _named(name: str) -> ModelCard | None:
    for card in list_models():
        if name in (card.name, card.path.name):
            return card
    return None


def find_model_by_fingerprint(prefill_fingerprint: str, model_fingerprint: str | None = None) -> ModelCard | None:
    """The model that made a cache: one with both fingerprints if there is one, else with the first."""
    fitting = [card for card in list_models() if card.prefill_fingerprint == prefill_fingerprint]
    for card in fitting:
        if card.model_fingerprint == model_fingerprint:
            return card
    return fitting[0] if fitting else None


def find_tokenizer(fingerprint: str, card: ModelCard | None = None) -> Tokenizer:
    """The tokenizer of that fingerprint, from the first model that has it.

    Args:
        card: of a model to look at first.

    Raises:
        ModelNotFound: no model here has it.
    """
    for one in (*(() if card is None else (card,)), *list_models()):
        if one.tokenizer_file is None or one.tokenizer_fingerprint != fingerprint:
            continue
        with contextlib.suppress(OSError, TokenizerError):
            found = read_tokenizer(one.path / one.tokenizer_file)
            if found.fingerprint == fingerprint:
                return found
    raise ModelNotFound(
        f"no model here has the tokenizer of this cache ({fingerprint[:16]})",
        hint="put the directory of its model under GF_MODELS_DIR",
    )


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


def weights_bytes_of(directory: Path) -> int | None:
    """Size of the weights of a model directory in bytes; None when any of their files is missing."""
    try:
        return sum(file.stat().st_size for file in files_of_weights(weights_file_of(directory)))
    except (OSError, WeightsDamaged):
        return None

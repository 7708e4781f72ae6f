"""Model directories: config.json, model.safetensors (or several and their index), and a tokenizer where there is one.

Names are looked up in GF_MODELS_DIR (by default the XDG data folder) and then among the package's assets.
Reading a card needs no torch, so `gf model list` starts at once. Nothing is ever fetched from a network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfcache.files.places import expanded, folder_of, user_folder
from gfcache.files.regular import read_regular

from goldfinch.errors import (
    CheckpointError,
    ConfigError,
    ModelChanged,
    ModelDamaged,
    ModelNotFound,
    TokenizerError,
    WeightsDamaged,
)
from goldfinch.models.config import ModelConfig
from goldfinch.text.json_files import is_text, parse_json
from goldfinch.text.template import PromptTemplate
from goldfinch.text.tokenizer import Tokenizer, read_tokenizer

from .foreign_config import LIBRARY, ForeignConfig
from .parts import files_of_weights, weights_file_of

DEFAULT_MODEL = "gf-mini-4"
ASSETS = Path(__file__).parent.parent / "assets"
CONFIG_FILE = "config.json"
# The only names that gf gives to tokenizers; no card may lead out of its directory.
TOKENIZER_FILES = ("tokenizer.json", "rwkv_vocab.txt")
MOST_NAME = 128
_MOST_CARD_BYTES = 1 << 20
_DIGESTS = ("prefill_fingerprint", "model_fingerprint", "tokenizer_fingerprint", "template_fingerprint")
_DIGEST = re.compile("[0-9a-f]{64}")
_NEEDED_FIELDS = {"name", "config", "template", "prefill_fingerprint", "model_fingerprint"}
_CARD_FIELDS = ("name", "library", "model_type", "config", "template", "tokenizer_file", *_DIGESTS)


@dataclass(frozen=True)
class ModelCard:
    """What a model directory says of itself.

    Attributes:
        name: of the model; the directory may be called otherwise.
        config: its ModelConfig; of a model of others, its ForeignConfig.
        template: how documents and questions are joined.
        prefill_fingerprint, model_fingerprint: see `fingerprints.fingerprints`.
        tokenizer_file: file name inside the directory, or None.
        tokenizer_fingerprint: SHA-256 of that file, or None.
        path: the directory.
        template_fingerprint: of the whole template, as it was when the directory was made; None in directories that
            were made before it was noted.
        config_digest: SHA-256 of config.json; None for a card that was not read.
    """

    name: str
    config: ModelConfig | ForeignConfig
    template: PromptTemplate
    prefill_fingerprint: str
    model_fingerprint: str
    tokenizer_file: str | None = None
    tokenizer_fingerprint: str | None = None
    path: Path = field(default=Path("."), compare=False)
    template_fingerprint: str | None = field(default=None, compare=False)
    config_digest: str | None = field(default=None, compare=False)

    @property
    def is_foreign(self) -> bool:
        """Whether this is a model of others."""
        return isinstance(self.config, ForeignConfig)

    @property
    def own_config(self) -> ModelConfig:
        """The configuration of a model of ours.

        Raises:
            CheckpointError: it is a model of others.
        """
        if isinstance(self.config, ForeignConfig):
            raise CheckpointError(
                f"{self.name} is a model of others ({self.config.model_type}), which this cannot take",
                hint="name a GoldFinch model with -m: gf model list",
            )
        return self.config

    def to_json(self) -> str:
        values = {
            "name": self.name,
            **({"library": LIBRARY} if self.is_foreign else {}),
            "model_type": self.config.model_type,
            "config": self.config.to_dict(),
            "template": self.template.to_dict(),
            "prefill_fingerprint": self.prefill_fingerprint,
            "model_fingerprint": self.model_fingerprint,
            "tokenizer_file": self.tokenizer_file,
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
            "template_fingerprint": self.template.fingerprint(),
        }
        return json.dumps(values, indent=2) + "\n"


def read_card(path: Path, *, adopt: bool = False) -> ModelCard:
    """Read the card of a model directory. Every field is checked: the directory may be a stranger's.

    Args:
        adopt: take the template as it stands now, even where it is not the one that its fingerprint was taken of.

    Raises:
        ModelNotFound: no config.json there, or one of a Hugging Face folder.
        ModelChanged: the template is not as it was when the directory was made.
        ModelDamaged: the card cannot be understood, or asks for what no model has.
    """
    file = path / CONFIG_FILE
    if not os.path.lexists(file):
        raise ModelNotFound(f"{path} is not a model directory: it has no {CONFIG_FILE}")
    try:
        data = read_regular(file, _MOST_CARD_BYTES)
        values = parse_json(data)
        if isinstance(values, dict) and "architectures" in values:
            raise ModelNotFound(
                f"{path} is a Hugging Face folder, which gf takes once it is imported",
                hint=f"gf model import {path}",
            )
        card = _card_of(values, path, hashlib.sha256(data).hexdigest())
    except (OSError, ValueError, ConfigError) as error:
        reason = f"{type(error).__name__} {error}" if isinstance(error, UnicodeError) else str(error)
        raise ModelDamaged(
            f"{file} cannot be understood: {reason}", hint="make the directory again with gf model import"
        ) from error
    if card.template_fingerprint not in (None, card.template.fingerprint()) and not adopt:
        raise ModelChanged(path, f"the prompt template in {file} is not the one that the model was made with")
    return card


def _card_of(values: Any, path: Path, digest: str) -> ModelCard:
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
    library = values.get("library")
    _demand(library in (None, LIBRARY), "library", library, f"{LIBRARY}, or nothing")
    config = (ForeignConfig if library else ModelConfig).from_dict(values["config"])
    template = PromptTemplate.from_dict(values["template"])
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
    return ModelCard(values["name"], config, template, tokenizer_file=file, path=path, config_digest=digest, **digests)


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


def find_model(
    path_or_name: str | os.PathLike[str] | None = None,
    *,
    made: Made | None = None,
    remark: Callable[[str], object] = warnings.warn,
) -> ModelCard:
    """The card of a directory or of a named model; without either, of the embedded default.

    Args:
        made: the fingerprints of a cache: among several models of one name, the one that made it is taken.
        remark: takes what the user should know: that several different models have this name.

    Raises:
        ModelNotFound: neither a model directory nor a known name.
        ModelDamaged: it is broken.
    """
    name = DEFAULT_MODEL if path_or_name is None else os.fspath(path_or_name)
    found = _candidates(name)
    if isinstance(found, Path):
        return read_card(found)
    chosen, card = found[0]
    if made is not None:
        cards = [(place, c) for place, c in found if isinstance(c, ModelCard)]
        best = max(cards, key=lambda item: made.likeness(item[1]), default=None)
        if best is not None and made.likeness(best[1]):
            chosen, card = best
    if isinstance(card, ModelDamaged):
        raise card
    others = [str(place) for place, other in found if place != chosen and not _is_same(card, other)]
    if others:
        remark(f"{len(others) + 1} different models are called {name}: {chosen} is used, not {', '.join(others)}")
    return card


def directory_of(path_or_name: str) -> Path:
    """The directory of a model that may have been changed, so that its card is not believed.

    Raises:
        ModelNotFound: neither a model directory nor a known name.
    """
    found = _candidates(path_or_name)
    return found if isinstance(found, Path) else found[0][0]


def _candidates(name: str) -> Path | list[tuple[Path, ModelCard | ModelDamaged]]:
    """The model directory of a path, or those of a name, best first.

    Raises:
        ModelNotFound: none at all.
    """
    path = expanded(name)
    # A broken link or a pipe of that name is a broken directory, not a name to look for elsewhere.
    is_directory = os.path.lexists(path / CONFIG_FILE)
    named = [] if is_directory and os.sep in name else _named(name)
    if not named and is_directory:
        return path
    if not named:
        known = ", ".join(sorted({card.name for card in list_models()})) or "none"
        if path.is_file():
            raise ModelNotFound(
                f"{name} is a file, expected a model folder or name", hint=f"gf model import {shlex.quote(name)}"
            )
        lacking = f"the folder of that name has no {CONFIG_FILE}" if path.is_dir() else "no such folder"
        raise ModelNotFound(
            f"no model named {name!r}, and {lacking}", hint=f"known models: {known} (see gf model list)"
        )
    return named


def _named(name: str) -> list[tuple[Path, ModelCard | ModelDamaged]]:
    """Directories of a name: the user's before the package's, and of these the one that is called so first."""
    found = [(path, card) for path, card in list_directories() if name in (path.name, getattr(card, "name", None))]
    return sorted(found, key=lambda item: (item[0].parent == ASSETS, item[0].name != name))


def _is_same(card: ModelCard, other: ModelCard | ModelDamaged) -> bool:
    return isinstance(other, ModelCard) and _whole_identity(card) == _whole_identity(other)


def _whole_identity(card: ModelCard) -> tuple[str | None, ...]:
    return card.model_fingerprint, card.tokenizer_fingerprint, card.template.fingerprint()


@dataclass(frozen=True)
class Made:
    """The fingerprints of the model that made a cache, as the cache names them."""

    prefill_fingerprint: str
    model_fingerprint: str | None = None
    template_fingerprint: str | None = None

    def likeness(self, card: ModelCard) -> int:
        """0: another model; 1: its prefill layers; 2: the model; 3: its template, too."""
        if card.prefill_fingerprint != self.prefill_fingerprint:
            return 0
        if card.model_fingerprint != self.model_fingerprint:
            return 1
        return 2 + (card.template.fingerprint() == self.template_fingerprint)


def find_model_by_fingerprint(
    prefill_fingerprint: str, model_fingerprint: str | None = None, template_fingerprint: str | None = None
) -> ModelCard | None:
    """The model that made a cache: with all of its fingerprints if there is one, else with its prefill layers."""
    made = Made(prefill_fingerprint, model_fingerprint, template_fingerprint)
    best = max(list_models(), key=made.likeness, default=None)
    return best if best is not None and made.likeness(best) else None


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
            found = read_tokenizer(one.path / one.tokenizer_file, every_byte=not one.is_foreign)
            if found.fingerprint == fingerprint:
                return found
    raise ModelNotFound(
        f"no model here has the tokenizer of this cache ({fingerprint[:16]})",
        hint="put the directory of its model under GF_MODELS_DIR",
    )


def weights_files_of(card: ModelCard) -> list[Path]:
    """The files that hold the tensors of a model, those of a model of others where they were registered.

    Raises:
        WeightsDamaged: see `files_of_index`.
    """
    if isinstance(card.config, ForeignConfig):
        return card.config.files_in(card.path)
    return files_of_weights(weights_file_of(card.path))


def weights_bytes_of(card: ModelCard) -> int | None:
    """Size of the weights of a model in bytes; None when any of their files is missing."""
    try:
        return sum(file.stat().st_size for file in weights_files_of(card))
    except (OSError, WeightsDamaged):
        return None

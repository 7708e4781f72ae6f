"""Model directories: config.json, model.safetensors (or several and their index), and a tokenizer where there is one.

Names are looked up in GF_MODELS_DIR (by default the XDG data folder) and then among the package's assets.
Reading a card needs no torch, so `gf model list` starts at once. Nothing is ever fetched from a network.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gfcache.files.places import expanded, folder_of, user_folder

from goldfinch.errors import CheckpointError, ConfigError, ModelDamaged, ModelNotFound, TokenizerError
from goldfinch.models.config import ModelConfig
from goldfinch.text.template import PromptTemplate
from goldfinch.text.tokenizer import Tokenizer, read_tokenizer

DEFAULT_MODEL = "gf-mini"
ASSETS = Path(__file__).parent.parent / "assets"
CONFIG_FILE = "config.json"


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
    """Read the card of a model directory.

    Raises:
        ModelNotFound: no config.json there.
        ModelDamaged: it cannot be understood.
    """
    file = path / CONFIG_FILE
    if not file.is_file():
        raise ModelNotFound(f"{path} is not a model directory: it has no {CONFIG_FILE}")
    try:
        values = json.loads(file.read_text())
        return ModelCard(
            name=values["name"],
            config=ModelConfig.from_dict(values["config"]),
            template=PromptTemplate.from_dict(values["template"]),
            prefill_fingerprint=values["prefill_fingerprint"],
            model_fingerprint=values["model_fingerprint"],
            tokenizer_file=values.get("tokenizer_file"),
            tokenizer_fingerprint=values.get("tokenizer_fingerprint"),
            path=path,
        )
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ModelDamaged(
            f"{file} cannot be understood: {type(error).__name__} {error}",
            hint="make the directory again with gf model import",
        ) from error


def models_folder() -> Path:
    """GF_MODELS_DIR, or goldfinch/models in the user's data folder (XDG_DATA_HOME, ~/.local/share)."""
    return folder_of("GF_MODELS_DIR") or user_folder("data", "goldfinch") / "models"


def list_models() -> Iterator[ModelCard]:
    """Cards of the models that have a name here: the user's first, then the package's. Damaged ones are left out."""
    for folder in (models_folder(), ASSETS):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            if (path / CONFIG_FILE).is_file():
                try:
                    yield read_card(path)
                except ModelDamaged:
                    continue


def find_model(path_or_name: str | os.PathLike[str] | None = None) -> ModelCard:
    """The card of a directory or of a named model; without either, of the embedded default.

    Raises:
        ModelNotFound: neither a model directory nor a known name.
    """
    name = DEFAULT_MODEL if path_or_name is None else os.fspath(path_or_name)
    path = expanded(name)
    if (path / CONFIG_FILE).is_file() and (os.sep in name or not _named(name)):
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
            raise CheckpointError(f"the index {path} names {name!r}, which is not a .safetensors file beside it")
    return [path.parent / name for name in sorted(names)]


def weights_bytes_of(directory: Path) -> int | None:
    """Size of the weights of a model directory in bytes; None when any of their files is missing."""
    found = weights_file_of(directory)
    try:
        files = files_of_index(found) if found.name.endswith(INDEX_ENDING) else [found]
        return sum(file.stat().st_size for file in files)
    except (OSError, CheckpointError):
        return None

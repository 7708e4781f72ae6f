"""Model directories: config.json, model.safetensors (or several and their index), and where there is one a tokenizer.

Names are looked up in GF_MODELS_DIR (by default the XDG data folder) and then among the package's assets.
Reading a card needs no torch, so `gf model list` starts at once. Nothing is ever fetched from a network.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfinch.errors import ConfigError, DeviceError, ModelDamaged, ModelNotFound
from goldfinch.models.config import ModelConfig
from goldfinch.text.template import PromptTemplate

from .files import weights_file_of

if TYPE_CHECKING:
    import torch

    from goldfinch.models.language_model import LanguageModel

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
        prefill_fingerprint, model_fingerprint: see `checkpoint.fingerprints`.
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
    """GF_MODELS_DIR, or goldfinch/models under the XDG data folder."""
    given = os.environ.get("GF_MODELS_DIR")
    if given:
        return Path(given).expanduser()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "goldfinch" / "models"


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
    path = Path(name).expanduser()
    if (path / CONFIG_FILE).is_file() and (os.sep in name or not _named(name)):
        return read_card(path)
    found = _named(name)
    if found is not None:
        return found
    known = ", ".join(sorted({card.name for card in list_models()})) or "none"
    raise ModelNotFound(f"no model called or at {name!r}", hint=f"known models: {known} (see gf model list)")


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


def load_model(
    path_or_name: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> LanguageModel:
    """Load a model for inference.

    Args:
        path_or_name: a model directory, or the name of a model (see `list_models`); None for the default.
        device: "cpu", "cuda", "cuda:N".
        dtype: of weights and arithmetic; float32 by default, also bfloat16 and float64.

    Returns:
        the model in evaluation mode, with `.config`, `.tokenizer` (None when the directory has none) and `.card`.

    Raises:
        ModelNotFound, ModelDamaged, CheckpointError, TokenizerError, DeviceError.
    """
    import torch

    from goldfinch.models.language_model import LanguageModel
    from goldfinch.text.tokenizer import read_tokenizer

    from .published import check_weights, read_weights

    card = find_model(path_or_name)
    device = available_device(device)
    make_current(device)
    model = empty_model(LanguageModel, card.config)
    try:
        weights = read_weights(weights_file_of(card.path), device, dtype or torch.float32)
        check_weights(weights, model.state_dict())
    except torch.OutOfMemoryError as error:
        raise DeviceError(f"not enough memory on {device} for the weights of {card.name}") from error
    model.load_state_dict(weights, assign=True)
    model.eval().requires_grad_(False)
    model.card = card
    if card.tokenizer_file is not None:
        model.tokenizer = read_tokenizer(card.path / card.tokenizer_file)
        if model.tokenizer.fingerprint != card.tokenizer_fingerprint:
            raise ModelDamaged(f"the tokenizer of {card.path} is not the one that its config.json names")
    return model


def available_device(name: str | torch.device) -> torch.device:
    """The device of that name. Only asks: processes may still be forked afterwards.

    Raises:
        DeviceError: it is not there.
    """
    import torch

    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"device {device} is not available here", hint="use --device cpu")
    return device


def make_current(device: torch.device) -> None:
    """Make a GPU the current one, where Triton's kernels and new streams go."""
    import torch

    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)


def empty_model(kind: type[LanguageModel], config: ModelConfig) -> LanguageModel:
    """The model with parameters that hold nothing yet: initial values would be thrown away at once.

    Memory that nobody writes is not taken from the system. (The meta device would do without the address space, but its
    arithmetic imports torch's compiler, which takes a second.)
    """
    from torch.overrides import TorchFunctionMode

    class SkipInitialisation(TorchFunctionMode):
        """Leaves out everything that fills tensors."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if getattr(func, "__module__", None) == "torch.nn.init":
                return kwargs["tensor"] if "tensor" in kwargs else args[0]
            name = getattr(func, "__name__", "")
            if name in ("normal_", "uniform_", "copy_", "mul_"):
                return args[0]
            if name == "linalg_qr":  # of nn.init.orthogonal_, which is not announced as a whole
                matrix = args[0]
                return matrix, matrix.new_empty(matrix.shape[1], matrix.shape[1])
            return func(*args, **kwargs)

    with SkipInitialisation():
        return kind(config)


def verify_model(card: ModelCard) -> list[str]:
    """What does not match the card's fingerprints, in words; empty when all is well."""
    from goldfinch.models.language_model import LanguageModel
    from goldfinch.text.tokenizer import read_tokenizer

    from .published import check_finite, check_weights, fingerprints, read_weights

    weights = read_weights(weights_file_of(card.path))
    check_weights(weights, empty_model(LanguageModel, card.config).state_dict())
    check_finite(weights)
    found = dict(zip(("prefill_fingerprint", "model_fingerprint"), fingerprints(card.config, weights), strict=True))
    if card.tokenizer_file is not None:
        found["tokenizer_fingerprint"] = read_tokenizer(card.path / card.tokenizer_file).fingerprint
    expected: dict[str, Any] = {name: getattr(card, name) for name in found}
    return [
        f"{name} is {found[name]}, config.json says {expected[name]}" for name in found if found[name] != expected[name]
    ]

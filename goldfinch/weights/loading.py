"""A model directory becomes a model: found, read, checked, on its device."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from goldfinch.backends.choose import choose_executor
from goldfinch.devices import available_device, make_current
from goldfinch.errors import DeviceError, ModelDamaged
from goldfinch.models.config import ModelConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.text.tokenizer import read_tokenizer

from .directory import ModelCard, find_model, weights_file_of
from .files import check_finite, check_weights, read_weights
from .fingerprints import fingerprints


def load_model(
    path_or_name: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> LanguageModel:
    """Load a model for inference.

    Args:
        path_or_name: a model directory, or the name of a model (see `list_models`); None for the default.
        device: "cpu", "cuda", "cuda:N".
        dtype: of weights and arithmetic; float32 by default, also bfloat16 and float64.
        backend: who runs the layers: "native", "triton", "torch" or "reference"; by default GF_KERNELS, and without
            it what suits the device.

    Returns:
        the model in evaluation mode, with `.config`, `.tokenizer` (None when the directory has none) and `.card`.

    Raises:
        ModelNotFound, ModelDamaged, CheckpointError, TokenizerError, DeviceError.
        gfkernels.BackendUnavailable: the backend asked for cannot run this model here.
    """
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
    model.choose_executor(partial(choose_executor, requested=backend))
    model.card = card
    if card.tokenizer_file is not None:
        model.tokenizer = read_tokenizer(card.path / card.tokenizer_file)
        if model.tokenizer.fingerprint != card.tokenizer_fingerprint:
            raise ModelDamaged(f"the tokenizer of {card.path} is not the one that its config.json names")
    return model


def empty_model(kind: type[LanguageModel], config: ModelConfig) -> LanguageModel:
    """The model with parameters that hold nothing yet: initial values would be thrown away at once.

    Memory that nobody writes is not taken from the system. (The meta device would do without the address space, but its
    arithmetic imports torch's compiler, which takes a second.)
    """

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

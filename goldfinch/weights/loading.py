"""A model directory becomes a model: found, read, checked, on its device."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from goldfinch.backends.choose import choose_executor
from goldfinch.devices import available_device, make_current
from goldfinch.errors import DeviceError
from goldfinch.models.config import ModelConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.text.tokenizer import read_tokenizer

from .checking import check_identity, fingerprint_differences
from .directory import ModelCard, find_model
from .files import check_finite, read_weights, shapes_of
from .headers import check_shapes, check_sizes, read_shapes
from .noted import note, state_of
from .parts import weights_file_of


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
    state = state_of(card)
    try:
        model, weights = fitting_weights(card.own_config, weights_file_of(card.path), device, dtype or torch.float32)
    except torch.OutOfMemoryError as error:
        raise DeviceError(f"not enough memory on {device} for the weights of {card.name}") from error
    if card.tokenizer_file is not None:
        model.tokenizer = read_tokenizer(card.path / card.tokenizer_file)
    check_identity(card, state, weights, model.tokenizer, read_weights)
    model.load_state_dict(weights, assign=True)
    model.eval().requires_grad_(False)
    model.choose_executor(partial(choose_executor, requested=backend))
    model.card = card
    return model


def empty_model(config: ModelConfig) -> LanguageModel:
    """A model whose tensors have shapes and no memory, until `load_state_dict(..., assign=True)` puts others there."""
    with torch.device("meta"):
        return LanguageModel(config, initial_values=False)


def fitting_weights(
    config: ModelConfig, path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> tuple[LanguageModel, dict[str, Tensor]]:
    """An empty model and weights for it. The weights' header is compared before the model is built, and keys and shapes
    before a tensor is read: either file may be a stranger's.

    Raises:
        FileNotFoundError, WeightsDamaged, WeightsMismatch, torch.OutOfMemoryError: see `read_weights`.
    """
    shapes = read_shapes(path)
    check_sizes(config, shapes)
    model = empty_model(config)
    check_shapes(shapes, shapes_of(model.state_dict()))
    return model, read_weights(path, device, dtype, shapes=shapes)


def checked_weights(card: ModelCard) -> dict[str, Tensor]:
    """The weights of a model directory as they are stored, if they are those that its card was written for.

    Raises:
        FileNotFoundError, WeightsDamaged, WeightsMismatch: see `read_weights`.
        ModelChanged: they are others.
    """
    state = state_of(card)
    _, weights = fitting_weights(card.own_config, weights_file_of(card.path))
    check_identity(card, state, weights, None, read_weights)
    return weights


def verify_model(card: ModelCard) -> list[str]:
    """What does not match the card's fingerprints, in words; empty when all is well, which is noted."""
    state = state_of(card)
    _, weights = fitting_weights(card.own_config, weights_file_of(card.path))
    check_finite(weights)
    differences = fingerprint_differences(card, weights)
    if card.tokenizer_file is not None:
        found = read_tokenizer(card.path / card.tokenizer_file).fingerprint
        if found != card.tokenizer_fingerprint:
            differences.append(f"tokenizer_fingerprint is {found}, config.json says {card.tokenizer_fingerprint}")
    if not differences and state_of(card) == state:
        note(card, state)
    return differences

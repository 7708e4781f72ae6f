"""A model directory becomes a model: found, read, checked, on its device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from goldfinch.backends.choose import choose_executor
from goldfinch.devices import available_device, make_current
from goldfinch.errors import DeviceError, ModelChanged, ModelDamaged
from goldfinch.models.config import ModelConfig
from goldfinch.models.language_model import LanguageModel
from goldfinch.text.tokenizer import Tokenizer, read_tokenizer

from .directory import ModelCard, find_model
from .files import check_finite, read_weights, shapes_of
from .fingerprints import fingerprints
from .headers import check_shapes, check_sizes, read_shapes
from .noted import note, noted, state_of
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
    check_identity(card, state, weights, model.tokenizer)
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
    check_identity(card, state, weights, None)
    return weights


def check_identity(
    card: ModelCard, state: dict[str, Any], weights: Mapping[str, Tensor], tokenizer: Tokenizer | None
) -> None:
    """Refuse a model that is not what its card says; what was checked before, and has not changed, is believed.

    Args:
        state: of the directory before the weights were read (`noted.state_of`).
        weights: as they were loaded, in any dtype.
        tokenizer: as it was loaded.

    Raises:
        ModelChanged: weights, tokenizer or template are not those that the card was written for.
    """
    if tokenizer is not None and tokenizer.fingerprint != card.tokenizer_fingerprint:
        raise ModelChanged(card.path, f"the tokenizer of {card.path} is not the one that its config.json names")
    if tokenizer is not None and tokenizer.vocab_size > card.config.vocab_size:
        highest, rows = tokenizer.vocab_size - 1, card.config.vocab_size
        raise ModelDamaged(f"the tokenizer of {card.path} has ids up to {highest}, the model {rows} rows for them")
    before = noted(card)
    if before == state:
        return
    # A directory whose card names no fingerprint of its template: the note does.
    unnamed = card.template_fingerprint is None
    if before is not None and unnamed and before.get("template_fingerprint") != state["template_fingerprint"]:
        raise ModelChanged(card.path, f"the prompt template of {card.path} has changed since the model was last used")
    if any(tensor.dtype != torch.float32 for tensor in weights.values()):
        weights = read_weights(weights_file_of(card.path))
    differences = fingerprint_differences(card, weights)
    if differences:
        raise ModelChanged(card.path, f"{card.path} is not the model that its config.json describes: {differences[0]}")
    if state_of(card) == state:
        note(card, state)


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


def fingerprint_differences(card: ModelCard, weights: Mapping[str, Tensor]) -> list[str]:
    """Fingerprints of weights that are not the card's, in words."""
    names = ("prefill_fingerprint", "model_fingerprint")
    found = dict(zip(names, fingerprints(card.own_config, weights), strict=True))
    expected = {name: getattr(card, name) for name in names}
    return [
        f"{name} is {found[name]}, config.json says {expected[name]}" for name in names if found[name] != expected[name]
    ]

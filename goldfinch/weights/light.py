"""The light path: a model of ours on the CPU in float32 without torch, whose import takes longer than most questions.

What computes are the C kernels, on numpy's arrays (`backends.light`). Here alone it is decided whether a
model can go that way; whoever asks for a model gives his own reasons against it (`opening.load`). Who names a backend
in GF_KERNELS gets that one, and with it torch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gfkernels.dispatch import requested_backend
from gfkernels.native.build import unavailable
from gfkernels.wkv.native import supports

from goldfinch.backends.light import LightExecutor
from goldfinch.errors import WeightsDamaged
from goldfinch.models.config import ModelConfig
from goldfinch.models.running.light_model import LightModel
from goldfinch.models.running.light_shapes import light_shapes
from goldfinch.text.tokenizer import read_tokenizer

from .checking import check_identity
from .directory import ModelCard
from .headers import check_shapes, check_sizes, stored_in
from .noted import state_of
from .parts import files_of_weights, weights_file_of


def obstacle(card: ModelCard, device: str, dtype: str) -> str | None:
    """Why a model cannot run without torch, None where it can; builds the kernels if need be.

    Args:
        card: of its directory.
        device: "cpu", "cuda", "cuda:N".
        dtype: compute dtype as files name it.
    """
    config = card.config
    if not isinstance(config, ModelConfig):
        return "it is a model of others"
    if device != "cpu":
        return f"it computes on {device}"
    if dtype != "f32":
        return f"it computes in {dtype}"
    if config.model_type != "goldfinch" or config.channel_mix != "finch" or config.rope is not None:
        return f"layers of {config.model_type} models run in torch"
    if not supports(np.dtype(np.float32), config.head_dim):
        return f"no kernels for heads of {config.head_dim}"
    if requested_backend() != "auto":
        return f"GF_KERNELS is {requested_backend()}"
    return unavailable()


def load_light(card: ModelCard) -> LightModel:
    """Load a model without torch; it has no `obstacle`.

    Raises:
        ModelChanged, ModelDamaged, WeightsDamaged, WeightsMismatch, TokenizerDamaged, FileNotFoundError.
    """
    config, file = card.own_config, weights_file_of(card.path)
    state = state_of(card)
    weights = read_arrays(config, file)
    tokenizer = None if card.tokenizer_file is None else read_tokenizer(card.path / card.tokenizer_file)
    check_identity(card, state, weights, tokenizer, lambda path: read_arrays(config, path))
    model = LightModel(config, weights, LightExecutor)
    model.tokenizer, model.card = tokenizer, card
    return model


def read_arrays(config: ModelConfig, path: Path) -> dict[str, np.ndarray]:
    """Weights in float32 by published key, mapped from the file where they are stored so, else converted.

    Args:
        config: that they belong to.
        path: the file, or the index of several.

    Raises:
        FileNotFoundError, WeightsDamaged, WeightsMismatch: see `files.read_weights`.
    """
    found = {}
    for file in files_of_weights(path):
        for key, stored in stored_in(file).items():
            if key in found:
                raise WeightsDamaged(f"two files beside {file} hold {key}")
            found[key] = (file, stored)
    shapes = {key: stored.shape for key, (_, stored) in found.items()}
    check_sizes(config, shapes)
    check_shapes(shapes, light_shapes(config))
    maps = {file: np.memmap(file, np.uint8, mode="r") for file in {file for file, _ in found.values()}}
    weights = {}
    for key, (file, stored) in found.items():
        if stored.end > len(maps[file]):  # it was replaced since
            raise WeightsDamaged(f"cannot read the weights {file}: it became shorter", hint="try again")
        weights[key] = _f32(np.asarray(maps[file][stored.start : stored.end]), stored.dtype).reshape(stored.shape)
    return weights


def _f32(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Bytes of a tensor as float32, the bytes themselves where they are that."""
    if dtype == "BF16":
        return (_numbers(stored, "<u2").astype(np.uint32) << 16).view(np.float32)
    return _numbers(stored, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32, copy=False)


def _numbers(stored: np.ndarray, dtype: str) -> np.ndarray:
    aligned = stored if stored.ctypes.data % np.dtype(dtype).itemsize == 0 else stored.copy()
    return aligned.view(dtype)

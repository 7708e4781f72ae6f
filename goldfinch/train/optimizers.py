"""The optimisers of a training run, and which parameters go to which."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from goldfinch.models.language_model import LanguageModel

from ..errors import ConfigError
from .recipe import Recipe


def split_parameters(model: LanguageModel) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(matrices, the rest): the square-ish matrices of the layers, which alone are decayed (paper, section 4), and
    embeddings, head, low-rank pairs, mix vectors, decays, norms and the key compression."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = name.startswith("blocks.") and name.endswith(".weight") and parameter.dim() == 2
        (matrices if is_matrix else rest).append(parameter)
    return matrices, rest


def build_optimizers(model: LanguageModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices and AdamW for the rest.

    Muon (Jordan et al., 2024) steps by the orthogonalised momentum of a matrix; its rate is scaled so that a step has
    the root mean square of AdamW's (Liu et al., arXiv 2502.16982), so one learning rate serves both.

    Raises:
        ConfigError: this PyTorch has no Muon.
    """
    matrices, rest = split_parameters(model)
    adam: dict[str, Any] = {"lr": recipe.learning_rate, "betas": recipe.betas, "eps": 1e-9, "fused": True}
    if recipe.optimizer == "adamw":
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        return [torch.optim.AdamW(groups, **adam)]
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        raise ConfigError(
            f"torch {torch.__version__} has no Muon", hint='use torch 2.9 or later, or optimizer = "adamw"'
        )
    of_matrices = muon(
        matrices,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        momentum=recipe.muon_momentum,
        adjust_lr_fn="match_rms_adamw",
    )
    return [of_matrices, torch.optim.AdamW(rest, weight_decay=0.0, **adam)]

"""The language model: a stack of layers, who runs them, and what a sequence leaves behind.

Notation: B batch, T tokens, C d_model, R = C / compression_ratio, V vocab_size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .config import ModelConfig
from .executor import Executor
from .initialise import initialise
from .running.sequences import Sequences
from .stack import Stack
from .state import ModelState
from .torch_executor import TorchExecutor


class LanguageModel(Sequences, Stack):
    """Any model of the family, built from its configuration.

    Args:
        config: the ModelConfig.
        initial_values: draw the values that training starts with; without them the weights hold nothing yet.

    Attributes:
        config: the ModelConfig.
        executor: who runs the layers.
        tokenizer: object with encode(text) -> list of ids and decode(ids) -> text, or None.
        card: what the model directory says of itself (`directory.ModelCard`), or None for bare weights.
    """

    def __init__(self, config: ModelConfig, *, initial_values: bool = True) -> None:
        super().__init__(config)
        if initial_values:
            initialise(self)
        self.tokenizer: Any = None
        self.card: Any = None
        self.choose_executor(TorchExecutor)

    def choose_executor(self, choose: Callable[[LanguageModel], Executor]) -> None:
        """Let `choose` say who runs the layers, now and again whenever the weights are moved, converted or replaced."""
        self._choose = choose
        self.executor = choose(self)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LanguageModel:
        """What `to`, `double`, `cuda` and the like go through."""
        super()._apply(fn, recurse)
        self.executor = self._choose(self)
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch."""
        result = super().load_state_dict(state_dict, strict, assign)
        self.executor = self._choose(self)
        return result

    @property
    def element_bytes(self) -> int:
        return self.emb.weight.element_size()

    @property
    def threads(self) -> int | None:
        return torch.get_num_threads() if self.device.type == "cpu" else None

    @property
    def library(self) -> str:
        return f"torch {torch.__version__}"

    def row_of(self, token_ids: Sequence[int] | np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(token_ids, np.int64))[None].to(self.device)

    def forward(self, token_ids: Tensor, state: ModelState | None = None) -> tuple[Tensor, ModelState]:
        """Run all layers over new tokens; see `Sequences.run`."""
        return self.run(token_ids, state)


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean cross entropy in float32: logits (N, V), targets (N,), weights (N,)."""
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp_min(1e-6)

"""A GoldFinch model on numpy's arrays, for questions and pre-fills without torch: the twin of `LanguageModel`.

Notation: B batch (1), T tokens, C d_model, R = C / compression_ratio, V vocab_size.

Its weights hang together as the modules of torch do, by the keys of the published checkpoints, so that what lays them
out for kernels reads either. Layer norms and products are in C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from gfkernels.arrays import HOST
from gfkernels.layer import native
from gfkernels.layer.product import product
from gfkernels.native.call import threads

from goldfinch.models.config import ModelConfig
from goldfinch.models.state import ModelState

from .light_pointer import LightPointer
from .sequences import Sequences

EPS = 1e-5  # of torch's layer norms
# The mixed inputs of Finch-C2 in the order of its matrices, as in `finch.FinchC2TimeMix`.
GROUPS = ("r", "k", "v", "w", "v2")


class Norm(SimpleNamespace):
    """A layer norm: weight and bias (C,) float32."""

    weight: Any
    bias: Any
    eps = EPS

    def __call__(self, x: Any) -> Any:
        """(..., C) -> (..., C)."""
        rows = np.array(x, np.float32, order="C").reshape(-1, x.shape[-1])
        return native.add_norm(rows, None, self.weight, self.bias, self.eps).reshape(x.shape)  # type: ignore[arg-type]


class Linear(SimpleNamespace):
    """A matrix product: weight (N, K) float32."""

    weight: Any

    def __call__(self, x: Any) -> Any:
        """(..., K) -> (..., N)."""
        return product(x, self.weight)


class LightModel(Sequences):
    """A model with its weights.

    Args:
        config: of a model of Finch-C2 and GOLD layers without rotary positions.
        weights: float32 by published key; never written to.
        choose_executor: gives who runs the layers.
    """

    device = HOST
    dtype = np.dtype(np.float32)

    def __init__(
        self, config: ModelConfig, weights: Mapping[str, np.ndarray], choose_executor: Callable[[LightModel], Any]
    ) -> None:
        self.config, self.tokenizer, self.card = config, None, None
        tree = _tree(weights)
        self.emb, self.w_kv_cache_b = tree.emb, tree.w_kv_cache_b
        self.blocks = [getattr(tree.blocks, str(n)) for n in range(config.n_layer)]
        for block in self.blocks:
            block.att.config, block.att.groups, block.att.rope = config, GROUPS, None
        self.ln_out, self.head, self.compress_keys = tree.ln_out, tree.head, tree.w_kv_cache_a
        self.pointer = LightPointer(config, tree.pointer) if config.pointer_width else None
        self.executor = choose_executor(self)

    @property
    def gold_layers(self) -> list[Any]:
        """The GOLD time mixes, bottom up."""
        return [block.att for block in self.blocks[self.config.n_prefill :]]

    @property
    def element_bytes(self) -> int:
        return 4

    @property
    def threads(self) -> int | None:
        return threads()

    @property
    def library(self) -> str:
        return f"numpy {np.__version__}"

    def row_of(self, token_ids: Sequence[int] | np.ndarray) -> Any:
        return np.asarray(token_ids, np.int64)[None]

    def embed(self, token_ids: Any) -> Any:
        """e = LN_ln0(emb[token]), (B, T) -> (B, T, C)."""
        return self.blocks[0].ln0(self.emb.weight[token_ids])

    def logits(self, x: Any) -> Any:
        """LN_ln_out(x) head^T, (B, T, C) -> (B, T, V)."""
        return self.head(self.ln_out(x))

    def __call__(self, token_ids: Any, state: ModelState | None = None) -> tuple[Any, ModelState]:
        """As `Sequences.run`."""
        return self.run(token_ids, state)


def _tree(weights: Mapping[str, np.ndarray]) -> Any:
    """Weights by the parts of their keys."""
    root = SimpleNamespace()
    parts: dict[str, dict[str, Any]] = {}
    for key, values in weights.items():
        place, _, name = key.rpartition(".")
        parts.setdefault(place, {})[name] = values
    for place, held in sorted(parts.items()):
        part = root
        *above, last = place.split(".")
        for name in above:
            if not hasattr(part, name):
                setattr(part, name, SimpleNamespace())
            part = getattr(part, name)
        if set(held) == {"weight", "bias"}:
            setattr(part, last, Norm(**held))
        elif set(held) == {"weight"}:
            setattr(part, last, Linear(**held))
        else:
            node = getattr(part, last, None) or SimpleNamespace()
            vars(node).update(held)
            setattr(part, last, node)
    return root

"""What a model of others attends with: the queries and keys of its layers, beside the library's own computation.

Here, and in `library`, are the names that the library has for attention.

Notation: H query heads, G key-value heads, n new tokens, t rows held, D channels.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from goldfinch.errors import ModelRefused
from goldfinch.foreign.library import library

# Called with the number of the layer, q (H, n, D) of the new tokens, and k (G, t, D) of all rows held, theirs included.
See = Callable[[int, Tensor, Tensor], None]
_NAME = "gf_watched"
# What some architectures do to their scores, which a softmax of products does not say.
_BENDS = {"softcap": "caps its scores", "s_aux": "attends to a sink that is no token", "position_bias": "adds a bias"}


def takes_positions(network: Any) -> bool:
    """Whether it can be told at which positions tokens stand."""
    return "position_ids" in inspect.signature(network.forward).parameters


def obstacle_to_watching(network: Any) -> str | None:
    """Why the attention of a network cannot be seen, None where it can."""
    if network.config._attn_implementation == "eager":
        return f"{network.config.model_type} attends in a way of its own, where they cannot be seen"
    return None


@contextmanager
def watched(network: Any, see: See) -> Iterator[None]:
    """Show the attention of every layer, while passes run inside. What is computed, and its bits, stay the same.

    Keys are as queries meet them. Queries are such that a softmax of q k / sqrt(D) gives the weights of the layer.

    Raises:
        ModelRefused: an architecture whose weights these do not give, at its first pass.
    """
    library()
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    if (obstacle := obstacle_to_watching(network)) is not None:
        raise ModelRefused(obstacle)
    config = network.config
    usual = config._attn_implementation
    own = AttentionInterface()[usual]

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **given: Any) -> Any:
        bent = next((words for name, words in _BENDS.items() if given.get(name) is not None), None)
        if bent is not None:
            raise ModelRefused(f"{config.model_type} {bent}: its weights cannot be told from queries and keys")
        scaling = given.get("scaling")
        q = query[0] if scaling is None else query[0] * (scaling * math.sqrt(query.shape[-1]))
        see(module.layer_idx, q, key[0])
        return own(module, query, key, value, mask, **given)

    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, AttentionMaskInterface()[usual])
    network.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        network.set_attn_implementation(usual)
        for interface in (AttentionInterface, AttentionMaskInterface):
            interface._global_mapping.pop(_NAME, None)

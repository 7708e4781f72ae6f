"""Whether a question to a cache can go without torch (`weights.light`): the one place that decides.

What only torch does is done by torch, and whatever decides for it costs an import of some seconds, never an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from goldfinch.caching.numerics import Numerics
from goldfinch.models.config import ModelConfig
from goldfinch.models.executor import WITHOUT_TORCH
from goldfinch.models.memory import expanded_bytes
from goldfinch.policies.measured import record_of
from goldfinch.policies.named import ATTENTION, AUTO
from goldfinch.weights.noted import place_of

if TYPE_CHECKING:
    import gfcache

    from goldfinch.policies.base import Chosen
    from goldfinch.weights.directory import ModelCard

BYTES = 4  # of a number


@dataclass(frozen=True)
class Wanted:
    """What a question needs, as far as it decides who computes.

    Attributes:
        device, dtype: "cpu", "cuda", "cuda:N"; "f32", "bf16", "f64".
        read: the reading policy, or blocks that are chosen already.
        memory_bytes: what keys and values of the document may take.
        same_numerics: whether differences to those that made the cache matter.
        torch_for: what else of it torch alone does, None for nothing.
    """

    device: str
    dtype: str
    read: str | Chosen
    memory_bytes: int
    same_numerics: bool = False
    torch_for: str | None = None


def reason_for_torch(card: ModelCard, header: gfcache.Header, wanted: Wanted) -> str | None:
    """Why torch must answer a question to a cache; None where numpy and the C kernels can.

    Args:
        card: of the model that is to answer.
        header: of the cache.
    """
    if wanted.torch_for is not None:
        return wanted.torch_for
    if wanted.same_numerics and Numerics.from_dict(header.numerics).backend != WITHOUT_TORCH:
        return "the cache was computed by another backend"
    config = card.config
    if not isinstance(config, ModelConfig):
        return "it is a model of others"
    needed = expanded_bytes(config, header.tokens, BYTES)
    if needed > wanted.memory_bytes:
        return f"keys and values take {needed:,} bytes, {wanted.memory_bytes:,} allowed"
    policy = wanted.read if isinstance(wanted.read, str) else wanted.read.policy
    if policy == AUTO:
        record = record_of(card.model_fingerprint, place_of(card.model_fingerprint))
        policy = record.reading(header.tokens).policy
    if policy == ATTENTION:
        return "blocks are chosen by the model's attention"
    from goldfinch.weights.light import obstacle

    return obstacle(card, wanted.device, wanted.dtype)

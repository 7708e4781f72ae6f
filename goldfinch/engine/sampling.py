"""Choosing the next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from goldfinch.errors import GoldFinchError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How answers are generated.

    Attributes:
        max_tokens: most tokens of an answer.
        temperature: 0 is greedy.
        top_p: keep the smallest set of tokens whose probability reaches this (1 keeps all).
        top_k: keep the k most likely tokens (0 keeps all).
        seed: of the random choice; None draws one.
        stop: strings that end the answer, in addition to the template's; they are not part of it.
        quote: the answer must be words that stand in what was read, or "Not stated." (`quoting`).
        least_likelihood: an answer that the model finds less likely (`Usage.likelihood`) is withheld, and "Not stated."
            given instead; 0 gives every answer; None is what was measured for the model and what was read
            (`policies.measured`), else 0, and 0 for quotes and with a temperature, which it was not measured for. Text
            that only goes on is never withheld.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    quote: bool = False
    least_likelihood: float | None = None

    def __post_init__(self) -> None:
        for holds, name, allowed in (
            (self.max_tokens >= 1, "max_tokens", "1 or more"),
            (self.temperature >= 0, "temperature", "0 or more"),
            (0 < self.top_p <= 1, "top_p", "above 0, at most 1"),
            (self.top_k >= 0, "top_k", "0 or more"),
            (0 <= (self.least_likelihood or 0.0) <= 1, "least_likelihood", "0 to 1"),
        ):
            if not holds:
                raise GoldFinchError(f"{name} is {getattr(self, name)}, allowed: {allowed}")

    def generator(self) -> torch.Generator | None:
        """A generator on the CPU, so that a seed means the same on every device; none where nothing is drawn."""
        if self.temperature == 0:
            return None
        import torch

        generator = torch.Generator()
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.seed)
        return generator


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling` as keyword arguments: what may be given to whatever answers."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    stop: tuple[str, ...]
    quote: bool
    least_likelihood: float | None


# Below it a float32 divisor would be 0; the likeliest token has been the only one for long.
LEAST_TEMPERATURE = 1e-30


def log_probability(logits: Tensor, token: int, *, whole: bool = False) -> float:
    """The logarithm of a token's probability, from logits (V,) of torch or numpy, in float32 or better.

    Args:
        whole: as the softmax of all tokens gives it, which rounds otherwise.
    """
    if isinstance(logits, np.ndarray):
        most = logits.max()
        return float(logits[token] - (most + np.log(np.exp(logits - most).sum())))
    logits = logits.float()
    return float(logits.log_softmax(-1)[token]) if whole else float(logits[token] - logits.logsumexp(-1))


def choose_token(logits: Tensor, sampling: Sampling, generator: torch.Generator | None) -> int:
    """The next token from logits (V,); with a temperature, of torch's alone."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    import torch

    logits = logits.float().cpu()
    scores = (logits - logits.max()) / max(sampling.temperature, LEAST_TEMPERATURE)  # at most 0: nothing to overflow
    if sampling.top_k:
        kept = scores.topk(min(sampling.top_k, scores.numel())).values[-1]
        scores = scores.masked_fill(scores < kept, -torch.inf)
    probabilities = scores.softmax(-1)
    if sampling.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        # A token is dropped when those before it reach top_p already; the first one always stays.
        dropped = ordered.cumsum(-1) - ordered >= sampling.top_p
        probabilities[order[dropped]] = 0
    return int(torch.multinomial(probabilities, 1, generator=generator))

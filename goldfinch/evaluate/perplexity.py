"""Perplexity on held-out text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..model import LanguageModel


@torch.no_grad()
def evaluate_perplexity(
    model: LanguageModel, texts: Sequence[str], *, tokens: int = 200_000, window: int = 1024
) -> dict[str, Any]:
    """Next-token loss in windows that each start afresh; every token of a window but its first is predicted.

    Args:
        texts: documents, read from their beginnings until there are enough tokens.
        tokens: predicted tokens at most.
        window: tokens that the model sees at a time.

    Returns:
        loss (nats per token), perplexity, bits_per_byte (comparable between tokenizers), tokens.
    """
    total = nats = size = 0.0
    for text in texts:
        ids = model.tokenizer.encode(text)
        for start in range(0, len(ids) - 1, window):
            piece = torch.tensor([ids[start : start + window]], device=model.device)
            if piece.shape[1] < 2:
                continue
            logits, _ = model(piece)
            losses = F.cross_entropy(logits[0, :-1].float(), piece[0, 1:], reduction="sum")
            nats += float(losses)
            total += piece.shape[1] - 1
            size += len(model.tokenizer.decode(piece[0, 1:].tolist()).encode())
            if total >= tokens:
                return _row(nats, total, size)
    return _row(nats, total, size)


def _row(nats: float, tokens: float, size: float) -> dict[str, Any]:
    loss = nats / tokens
    return {
        "loss": loss,
        "perplexity": math.exp(loss),
        "bits_per_byte": nats / math.log(2) / size,
        "tokens": int(tokens),
    }

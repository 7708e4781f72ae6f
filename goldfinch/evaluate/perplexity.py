"""Perplexity on held-out text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from goldfinch.models.language_model import LanguageModel


@torch.no_grad()
def evaluate_perplexity(
    model: LanguageModel, texts: Sequence[str], *, tokens: int = 200_000, window: int = 1024
) -> dict[str, Any]:
    """Next-token loss in windows that each start afresh, as a document does: after its first token.

    Every token of a window is predicted, but the first where the model has no such token.

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
            piece = torch.tensor([_begin(model) + ids[start : start + window]], device=model.device)
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


@torch.no_grad()
def evaluate_positions(
    model: LanguageModel,
    texts: Sequence[str],
    *,
    edges: Sequence[int] = (512, 1024, 2048, 4096, 8192, 16384),
    documents: int = 4,
) -> list[dict[str, Any]]:
    """Next-token loss by place in long documents: does a model read on where training never went?

    The same documents are read for every range, so that rows differ in place alone.

    Args:
        texts: documents; the first `documents` that have edges[-1] tokens are read, else the longest ones.
        edges: ends of the ranges of places, ascending.
    """
    encoded = sorted((_begin(model) + model.tokenizer.encode(text) for text in texts), key=len, reverse=True)
    sums, counts = [0.0] * len(edges), [0] * len(edges)
    for ids in encoded[:documents]:
        row = torch.tensor([ids[: edges[-1] + 1]], device=model.device)
        state = model.empty_state()
        for at in range(0, row.shape[1] - 1, 1024):
            piece = row[:, at : at + 1024]
            x, state = model.hidden(piece, state)
            targets = row[0, at + 1 : at + 1 + piece.shape[1]]
            losses = F.cross_entropy(model.logits(x)[0, : len(targets)].float(), targets, reduction="none")
            for i, end in enumerate(edges):
                begin = edges[i - 1] if i else 0
                part = losses[max(begin - at, 0) : max(end - at, 0)]
                sums[i], counts[i] = sums[i] + float(part.sum()), counts[i] + len(part)
    return [
        {"until": end, "loss": sums[i] / counts[i], "tokens": counts[i]} for i, end in enumerate(edges) if counts[i]
    ]


def _begin(model: LanguageModel) -> list[int]:
    token = model.card.template.bos_token_id
    return [] if token is None else [token]


def _row(nats: float, tokens: float, size: float) -> dict[str, Any]:
    loss = nats / tokens
    return {
        "loss": loss,
        "perplexity": math.exp(loss),
        "bits_per_byte": nats / math.log(2) / size,
        "tokens": int(tokens),
    }

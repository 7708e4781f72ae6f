"""Prefill of several short documents in one pass: rows behind each other, no padding, a state for each.

A GPU is far from busy with a document of some hundred tokens; the matrix products of many together fill it. Only the
Triton kernels take rows of several documents (`Executor.lower_layers`). On the CPU nothing is gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.identity import identity_of
from goldfinch.caching.numerics import numerics_of
from goldfinch.errors import DeviceError, EmptyInput
from goldfinch.models.language_model import LanguageModel


@dataclass(frozen=True)
class Unpacked:
    """A document to be packed with others; fields as the arguments of `prefill`."""

    token_ids: Tensor
    document_range: tuple[int, int]
    source: dict[str, Any] | None = None

    @classmethod
    def of(cls, token_ids: np.ndarray, document_range: tuple[int, int], source: dict[str, Any] | None) -> Unpacked:
        """The same of token_ids (T,), as `Engine.document` gives them."""
        return cls(torch.from_numpy(token_ids)[None], document_range, source)


def most_packed_tokens(model: LanguageModel) -> int:
    """A longer document has blocks, checkpoints and work enough of its own."""
    return model.executor.block_tokens


def prefill_packed(model: LanguageModel, documents: Sequence[Unpacked]) -> list[DocumentCache]:
    """Pre-fill several documents in one pass.

    Args:
        model: one whose executor has no `packing_obstacle`.
        documents: each of 1 to `most_packed_tokens` tokens; what fits in memory together is for the caller to know.

    Returns:
        their caches, without checkpoints. Values are those of `prefill` up to rounding, and `numerics.packed` says so.

    Raises:
        EmptyInput: a document without tokens.
        DeviceError: not enough memory on the device.
        ValueError: a longer document, or a model that cannot.
    """
    obstacle = model.executor.packing_obstacle
    if obstacle is not None:
        raise ValueError(f"documents cannot be packed: {obstacle}")
    lengths, most = [document.token_ids.shape[1] for document in documents], most_packed_tokens(model)
    if not documents:
        return []
    if 0 in lengths:
        raise EmptyInput("a document is empty: there is nothing to pre-fill")
    if max(lengths) > most:
        raise ValueError(f"a document of {max(lengths)} tokens, at most {most} can be packed")
    try:
        with torch.no_grad():
            return _prefill(model, documents, lengths)
    except torch.OutOfMemoryError as error:
        raise DeviceError(f"not enough memory on {model.device} to pre-fill {sum(lengths)} tokens at once") from error


def _prefill(model: LanguageModel, documents: Sequence[Unpacked], lengths: list[int]) -> list[DocumentCache]:
    empty, kept = model.empty_state(), model.config.tail_length
    row = torch.cat([document.token_ids for document in documents], dim=1).to(model.device)
    x, states = model.executor.lower_layers(row, empty.layers, lengths)
    compressed_k = model.compress_keys(x) if model.config.n_gold else None
    identity = identity_of(model)
    numerics = numerics_of(model, packed=True)
    caches, start = [], 0
    for n, (document, length) in enumerate(zip(documents, lengths, strict=True)):
        end = start + length
        layers = tuple(state.select(slice(n, n + 1)).map(Tensor.clone) for state in states)
        caches.append(
            DocumentCache(
                token_ids=document.token_ids[0].cpu().numpy(),
                # A slice would keep the rows of all documents alive.
                compressed_k=None if compressed_k is None else compressed_k[:, start:end].clone(),
                state=replace(empty, layers=layers, position=length),
                tail_hidden=x[:, max(start, end - kept) : end].clone(),
                document_range=document.document_range,
                identity=identity,
                numerics=numerics,
                source=document.source,
                tokenizer=model.tokenizer,
            )
        )
        start = end
    return caches

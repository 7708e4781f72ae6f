"""Prefill: one pass over a document through the layers below the GOLD layers, block by block.

Notation: B batch (1), T tokens, C d_model, R = C / compression_ratio, K tail_length.

No GOLD layer runs here: keys and values never depend on one (golden rule; GoldFinch section 3.4). What stays is
compressed_k per token, the final layer states, and the residual stream at the last K tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .cache import DocumentCache, identity_of, numerics_of
from .errors import DeviceError, EmptyInput, TokenizerError
from .model import LanguageModel
from .template import PromptTemplate

# Tokens per block: large enough for the matrix products, small enough for the caches of the processor.
BLOCK_TOKENS = 512

Progress = Callable[[int, int], None]


def prefill(
    model: LanguageModel,
    token_ids: Tensor,
    *,
    progress: Progress | None = None,
    block_tokens: int = BLOCK_TOKENS,
    document_range: tuple[int, int] | None = None,
    source: dict[str, Any] | None = None,
) -> DocumentCache:
    """Pre-fill a document.

    Args:
        model: any model type; attention baselines keep their full keys and values.
        token_ids: (1, T) int64, T >= 1, every id below vocab_size.
        progress: called with (tokens done, T) after each block.
        block_tokens: tokens per block; the result is the same up to rounding.
        document_range: (start, end) of the document's own tokens; all of them by default.
        source: provenance for the file.

    Returns:
        the cache, on the model's device; memory beyond it is constant in T.

    Raises:
        EmptyInput: no tokens.
        DeviceError: not enough memory on the device.
    """
    if token_ids.dim() != 2 or token_ids.shape[0] != 1:
        raise ValueError(f"token_ids of shape {tuple(token_ids.shape)}, expected (1, T)")
    T = token_ids.shape[1]
    if T == 0:
        raise EmptyInput("the document is empty: there is nothing to pre-fill")
    try:
        with torch.no_grad():
            return _prefill(model, token_ids, progress, block_tokens, document_range or (0, T), source)
    except torch.OutOfMemoryError as error:
        raise DeviceError(f"not enough memory on {model.device} to pre-fill {T} tokens") from error


def _prefill(
    model: LanguageModel,
    token_ids: Tensor,
    progress: Progress | None,
    block_tokens: int,
    document_range: tuple[int, int],
    source: dict[str, Any] | None,
) -> DocumentCache:
    config, T = model.config, token_ids.shape[1]
    token_ids = token_ids.to(model.device)
    state = model.empty_state()
    compressed_k = None
    if config.n_gold:
        compressed_k = torch.empty(1, T, config.d_compressed, dtype=model.dtype, device=model.device)
    tail: Tensor | None = None
    for start in range(0, T, block_tokens):
        block = token_ids[:, start : start + block_tokens]
        x, state = model.run_prefill_layers(block, state)
        if compressed_k is not None:
            compressed_k[:, start : start + block.shape[1]] = model.compress_keys(x)
        rows = x if tail is None else torch.cat([tail, x], dim=1)
        tail = rows[:, -config.tail_length :].clone()
        if progress is not None:
            progress(start + block.shape[1], T)
    assert tail is not None
    return DocumentCache(
        token_ids=token_ids,
        compressed_k=compressed_k,
        state=state,
        tail_hidden=tail,
        document_range=document_range,
        identity=identity_of(model),
        numerics=numerics_of(model),
        source=source,
    )


def document_token_ids(model: LanguageModel, text: str) -> tuple[Tensor, tuple[int, int]]:
    """Tokens of a document as prefill takes them, with what the prompt template puts before it.

    Returns:
        token_ids (1, T) and the (start, end) of the document's own tokens.

    Raises:
        TokenizerError: the model directory has no tokenizer.
        EmptyInput: the text is empty or blank.
    """
    if model.tokenizer is None:
        raise TokenizerError(
            "this model has no tokenizer, so it cannot read text",
            hint="import it again with gf model import ... --tokenizer FILE",
        )
    if not text.strip():
        raise EmptyInput("the document is empty: there is nothing to pre-fill")
    template: PromptTemplate = model.card.template if model.card is not None else PromptTemplate()
    prefix = [] if template.bos_token_id is None else [template.bos_token_id]
    if template.document_prefix:
        prefix += model.tokenizer.encode(template.document_prefix)
    ids = prefix + model.tokenizer.encode(text)
    return torch.tensor([ids], dtype=torch.int64), (len(prefix), len(ids))

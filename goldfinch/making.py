"""Making a cache from what there is already: the file in its place, a base, the journal of an interrupted run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .cache import DocumentCache
from .journal import Journal, reusable
from .model import LanguageModel
from .prefilling import Progress, block_tokens_of, first_difference, plan_checkpoints, prefill, reusable_tokens


@dataclass
class Made:
    """A cache, and how much of it had to be computed.

    Attributes:
        cache: not saved yet.
        tokens_reused: taken over from a base.
        first_changed_token: where the document departs from that base; None when all of it is shared, or without one.
    """

    cache: DocumentCache
    tokens_reused: int
    first_changed_token: int | None


def make_cache(
    model: LanguageModel,
    token_ids: Tensor,
    path: Path,
    *,
    document_range: tuple[int, int],
    source: dict[str, Any],
    checkpoints: str | Sequence[int] = "auto",
    bases: Sequence[DocumentCache] = (),
    journal: Journal | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Made:
    """Compute the cache of a document from the best of what may be taken over; the result is that of a cold run.

    Args:
        path: where the cache will be: what lies there, or was begun there, is gone on from.
        checkpoints: positions, or "none", "auto" or a number of tokens (`plan_checkpoints`).
        bases: other caches whose beginning may be taken over.
        journal: notes the way; not removed here.
        fresh: take over nothing but from `bases`.
    """
    candidates = list(bases)
    if not fresh:
        old = reusable(path, model) if path.exists() else None
        begun = journal.read(model) if journal is not None and journal.path.exists() else None
        candidates += [base for base in (old, begun) if base is not None]
    block = block_tokens_of(model)
    base = max(candidates, key=lambda b: reusable_tokens(b, token_ids, block), default=None)
    if isinstance(checkpoints, str):
        element_bytes = model.emb.weight.element_size()
        checkpoints = plan_checkpoints(model.config, token_ids.shape[1], checkpoints, element_bytes, block)
    cache = prefill(
        model,
        token_ids,
        progress=progress,
        document_range=document_range,
        source=source,
        checkpoints=checkpoints,
        base=base,
        journal=journal,
    )
    if base is None:
        return Made(cache, 0, None)
    return Made(cache, reusable_tokens(base, token_ids, block), first_difference(base.token_ids, token_ids))

"""Making a cache from what there is already: the file in its place, a base, the journal of an interrupted run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.journal import Journal, reusable
from goldfinch.engine.base import Progress
from goldfinch.engine.checkpoints import first_difference, plan_checkpoints, reusable_tokens
from goldfinch.engine.prefill import prefill
from goldfinch.models.language_model import LanguageModel


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
    exact: bool | None = None,
    parent_tokens: int = 0,
    journal: Journal | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Made:
    """Compute the cache of a document from the best of what may be taken over; the result is that of a cold run.

    Args:
        path: where the cache will be: what lies there, or was begun there, is gone on from.
        checkpoints: positions, or "none", "auto" or a number of tokens (`plan_checkpoints`).
        bases: other caches whose beginning may be taken over.
        exact: every position asked for is made, if need be by computing again what a base without it holds; by default
            for all but "auto", which leaves out those that would cost that.
        parent_tokens: how much of the document the parent of the file holds, whose positions need not stand in it.
        journal: notes the way; not removed here.
        fresh: take over nothing but from `bases`.
    """
    candidates = list(bases)
    if not fresh:
        old = reusable(path, model) if path.exists() else None
        begun = journal.read(model) if journal is not None and journal.path.exists() else None
        candidates += [base for base in (old, begun) if base is not None]
    block, T = model.executor.block_tokens, token_ids.shape[1]
    exact = checkpoints != "auto" if exact is None else exact
    if isinstance(checkpoints, str):
        checkpoints = plan_checkpoints(model.config, T, checkpoints, model.emb.weight.element_size(), block)
    needed = [p for p in checkpoints if p > parent_tokens] if exact else []

    def usable(base: DocumentCache) -> int:
        """Most tokens to take over: up to the first position that it lacks."""
        held = {c.position for c in base.checkpoints}
        return min((p - 1 for p in needed if p not in held and p != base.length), default=T)

    def reused(base: DocumentCache) -> int:
        return reusable_tokens(base, token_ids[:, : usable(base)], block)

    base = max(candidates, key=reused, default=None)
    cache = prefill(
        model,
        token_ids,
        progress=progress,
        document_range=document_range,
        source=source,
        checkpoints=checkpoints,
        base=base,
        base_tokens=None if base is None else usable(base),
        journal=journal,
    )
    if base is None:
        return Made(cache, 0, None)
    return Made(cache, reused(base), first_difference(base.token_ids, token_ids))


def length_remark(label: str, tokens: int, model: LanguageModel) -> str | None:
    """What to say of a document that is longer than those that the model was trained on; None for a shorter one."""
    trained = model.config.context_length
    if tokens <= trained:
        return None
    return f"{label} has {tokens:,} tokens, this model was trained on {trained:,}: answers may suffer"

"""Making a cache from what there is already: the file in its place, a base, the journal of an interrupted run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gfcache
import numpy as np

from goldfinch.caching.journal import Journal
from goldfinch.caching.row_parts import PLAIN, Form, can_continue
from goldfinch.engine.base import Engine, Progress, Start
from goldfinch.engine.checkpoints import first_difference
from goldfinch.errors import GoldFinchError
from goldfinch.policies.measured import record_of
from goldfinch.policies.named import ALL
from goldfinch.weights.noted import place_of

from .known import MADE, is_verified, note
from .opening import Model, engine_of


@dataclass
class Made:
    """A cache, and how much of it had to be computed.

    Attributes:
        cache: not saved yet.
        tokens_reused: taken over from a base, or from lenders.
        is_own: all of it was computed by runs of this user.
        lenders: caches whose blocks it took over.
        first_changed_token: where the document departs from that base; None when all of it is shared, or without one.
    """

    cache: Any
    tokens_reused: int
    first_changed_token: int | None
    is_own: bool = True
    lenders: tuple[Any, ...] = ()


def where_to_start(
    model: Model,
    token_ids: np.ndarray,
    path: Path,
    *,
    checkpoints: str | Sequence[int] = "auto",
    exact: bool | None = None,
    bases: Sequence[Any] = (),
    form: Form = PLAIN,
    journal: Journal | None = None,
    fresh: bool = False,
    lenders: Sequence[Any] = (),
) -> Start:
    """The best of what a cache may be made from, so that the result is that of a cold run.

    Args:
        token_ids: (T,) int64 of the whole document.
        path: where the cache will be: what lies there, or was begun there, may be resumed.
        checkpoints: positions, or "none", "auto" or a number of tokens (`plan_checkpoints`).
        exact: every position asked for is made, if need be by computing again what a base without it holds; by default
            for all but "auto", which leaves out those that would cost that.
        bases: other caches whose beginning may be taken over.
        form: of the file: what its parent holds needs no positions in it, and rows that another codec has rounded are
            not taken over.
        journal: notes the way; not removed here.
        fresh: take over nothing but from `bases` and `lenders`.
        lenders: other caches whose blocks may be taken over, wherever they stand.
    """
    engine, candidates = engine_of(model), list(bases)
    trusted = all(is_verified(base.digest) for base in bases)
    if journal is not None and trusted:
        journal.noted = lambda digest: note(digest, MADE)
    if not fresh:
        old = reusable(engine, path) if path.exists() else None
        begun = journal.left_by(partial(reusable, engine)) if journal is not None and journal.path.exists() else None
        # Anybody may have put them there: their states are taken over only where a run of this user made them.
        candidates += [base for base in (old, begun) if base is not None and is_verified(base.digest)]
    T = len(token_ids)
    wanted = form.parts(T)
    candidates = [base for base in candidates if can_continue(getattr(base, "row_parts", ()), wanted)]
    exact = checkpoints != "auto" if exact is None else exact
    if isinstance(checkpoints, str):
        checkpoints = engine.plan_checkpoints(T, checkpoints)
    needed = [p for p in checkpoints if p > form.parent_tokens] if exact else []

    def usable(base: Any) -> int:
        """Most tokens to take over: up to the first position that it lacks."""
        held = {c.position for c in base.checkpoints}
        return min((p - 1 for p in needed if p not in held and p != base.length), default=T)

    def reused(base: Any) -> int:
        return engine.reusable_tokens(base, token_ids[: usable(base)])

    base = max(candidates, key=reused, default=None)
    return Start(base, None if base is None else usable(base), tuple(checkpoints), journal, form, tuple(lenders))


def make_cache(
    start: Start,
    model: Model,
    token_ids: np.ndarray,
    *,
    document_range: tuple[int, int],
    source: dict[str, Any],
    progress: Progress | None = None,
) -> Made:
    """Compute the cache of a document; arguments and errors as of `prefill_from`."""
    engine = engine_of(model)
    cache = engine.prefill_from(start, token_ids, progress=progress, document_range=document_range, source=source)
    reused = engine.reusable_tokens(start.base, token_ids[: start.base_tokens], start.lenders)
    is_own = all(is_verified(one.digest) for one in (start.base, *start.lenders) if one is not None)
    changed = None if start.base is None else first_difference(start.base.token_ids, token_ids)
    return Made(cache, reused, changed, is_own, start.lenders)


def reusable(engine: Engine[Any], path: Path) -> Any:
    """A cache from which a prefill may resume, bit for bit; None when absent, damaged or another's."""
    try:
        cache = engine.open(path)
    except (OSError, gfcache.CacheFormatError, GoldFinchError):
        return None
    return cache if engine.difference(cache.numerics) is None else None


def length_remark(label: str, tokens: int, model: Model) -> str | None:
    """What to say of a document that is longer than those that the model was trained on; None for a shorter one, and
    where blocks of it are read, which was measured to answer as well as a short document does."""
    engine = engine_of(model)
    trained = engine.trained_tokens
    if trained is None or tokens <= trained:
        return None
    fingerprint = None if engine.card is None else engine.card.model_fingerprint
    if fingerprint and record_of(fingerprint, place_of(fingerprint)).reading(tokens).policy != ALL:
        return None
    name = "this model" if engine.card is None else engine.card.name
    return (
        f"{label} is {tokens:,} tokens long; {name} was trained on at most {trained:,} and usually answers wrongly here"
    )

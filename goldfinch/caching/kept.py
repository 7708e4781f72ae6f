"""Caches that keep some of their rows: dropped at the end of a pre-fill, noted in the file (SPEC 1.1, kept_positions).

Notation: T document tokens, N rows that are stored, R width of compressed_k.

Token ids stay, all of them: they are a hundredth of what rows take, and of them citations, the index of words, a later
`append` and a replay are made. What is dropped are rows of compressed_k. A key is made of a row and the one before it,
so the row before each run that is kept is stored as well, its halo; no question attends to it. Of models without GOLD
layers, each head of each attention layer keeps keys and values of rows of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gfcache.format.kept import tokens_stored
from gfkernels import arrays

from goldfinch.errors import GoldFinchError
from goldfinch.policies.dropping.named import EXPECTED, Dropping

from .coding import coded
from .document_cache import DocumentCache
from .row_parts import Form
from .sections import RowsOnDevice

if TYPE_CHECKING:
    from goldfinch.models.language_model import LanguageModel
    from goldfinch.models.state import HeadRows, Ranges
    from goldfinch.policies.dropping.choosing import Chooser


def obstacle_to_dropping(model: LanguageModel, policy: str) -> str | None:
    """Why a policy drops no rows of this model's caches; None where it can."""
    if not (model.config.n_gold or model.config.n_attention):
        return "the model has no attention layers: it keeps a state and no rows"
    if model.config.rope is not None and policy == EXPECTED:
        return "the model rotates its keys, which expected attention takes as they are"
    return None


def check_droppable(model: LanguageModel, cache: DocumentCache, dropping: Dropping) -> None:
    """Refuse to drop rows where a smaller cache would not be what the policy says.

    Raises:
        GoldFinchError: the model has no attention layers, or rotates keys that the policy takes as they are; rows of
            the cache were rounded or dropped before.
    """
    reason, hint = obstacle_to_dropping(model, dropping.policy), None
    if reason is not None:
        hint = "another --drop" if model.config.n_gold or model.config.n_attention else None
    elif cache.numerics.dropping is not None:
        reason = f"rows of it were dropped before ({cache.numerics.dropping})"
    elif cache.row_parts or cache.numerics.rows_codec is not None:
        reason, hint = "a codec has rounded its rows", "pre-fill the document again with --drop and --codec together"
    else:
        return
    raise GoldFinchError(f"rows cannot be dropped: {reason}", hint=hint)


def dropped(
    model: LanguageModel, cache: DocumentCache, dropping: Dropping, chooser: Chooser | None = None
) -> DocumentCache:
    """A cache without the rows that a policy drops; the cache itself where it keeps all.

    Args:
        cache: as computed, all rows.
        chooser: of this document and policy, where there is one already.

    Raises:
        GoldFinchError: see `check_droppable`.
    """
    check_droppable(model, cache, dropping)
    if chooser is None:
        from goldfinch.policies.dropping.choosing import Chooser

        chooser = Chooser(model, cache.ids_on(model.device), dropping.policy)
    if not model.config.n_gold:
        return without_in_layers(cache, chooser.kept_in_layers(dropping.keep), dropping)
    return without(cache, chooser.kept(dropping.keep), dropping)


def without_in_layers(cache: DocumentCache, kept: Sequence[HeadRows], dropping: Dropping) -> DocumentCache:
    """The same of attention layers that keep keys and values, the heads of each of which keep these rows."""
    if kept[0].count == cache.length:
        return cache
    layers, sets = list(cache.state.layers), iter(kept)
    for n, layer in enumerate(layers):
        if layer.keys.length:
            layers[n] = layer.keeping(next(sets))
    state, numerics = replace(cache.state, layers=tuple(layers)), replace(cache.numerics, dropping=str(dropping))
    return replace(cache, state=state, checkpoints=(), numerics=numerics)


def without(cache: DocumentCache, kept: Ranges, dropping: Dropping) -> DocumentCache:
    """A cache that keeps these runs of its rows. Nothing can be resumed from it: it has no checkpoints."""
    rows = cache.rows()
    assert rows is not None
    assert not isinstance(rows, RowsOnDevice)
    if kept == ((0, cache.length),):
        return cache
    stored = arrays.places_on(tokens_stored(kept), rows)
    numerics = replace(cache.numerics, dropping=str(dropping))
    return replace(cache, compressed_k=rows[:, stored], kept=kept, checkpoints=(), numerics=numerics)


def formed(model: LanguageModel, cache: DocumentCache, form: Form) -> DocumentCache:
    """A cache as a file of that form will give it back: rows are dropped first, what is left is rounded.

    Raises:
        GoldFinchError: see `check_droppable`.
    """
    if form.dropping is not None:
        cache = dropped(model, cache, form.dropping)
    return coded(cache, form)

"""Rows dropped for one question, as the papers' code does it: nothing that a file could hold.

A cache in a file is made before any question is known. SnapKV (arXiv 2404.14469) was measured with the question at the
end of its window, and the H2O of the benchmark 2407.01527 is scored by tokens that have read the question. The same
here, for a comparison alone: the question's queries choose the rows of the document, for each question anew. Of H2O
they are all that is scored, standing for the first steps of decoding, which that benchmark scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.kept import check_droppable, without, without_in_layers
from goldfinch.foreign.dropping import rows as foreign
from goldfinch.foreign.models import ForeignModel
from goldfinch.foreign.running.files import ForeignCache
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.dropping.base import Observer, Policy, at_ends, top
from goldfinch.policies.dropping.choosing import POLICIES, head_rows, runs_of
from goldfinch.policies.dropping.named import H2O, SNAPKV, Dropping
from goldfinch.policies.dropping.snapkv import WINDOW
from goldfinch.policies.dropping.watching import watched_scores

# Those whose papers, or whose code in the benchmark, let the question choose.
WITH_QUESTION = (H2O, SNAPKV)


@dataclass(frozen=True)
class _LastQueries:
    """A policy that looks at so many of the last queries."""

    policy: Policy
    count: int

    def queries(self, tokens: int) -> int:
        return self.count

    def observer(self, tokens: int) -> Observer:
        return self.policy.observer(tokens)

    def kept(self, scores: torch.Tensor | None, tokens: int, count: int) -> torch.Tensor:
        return self.policy.kept(scores, tokens, count)


def dropped_of_heads(
    model: ForeignModel, cache: ForeignCache, dropping: Dropping, question_ids: Sequence[int]
) -> ForeignCache:
    """The same of a model of others, each head of which keeps rows of its own; errors as of `dropping.dropped`."""
    foreign.check_droppable(model, cache, dropping)
    tokens, asked = cache.length, len(question_ids)
    seen, count = _looked_at(dropping, tokens, asked), dropping.count(tokens, 1)
    ids = np.append(cache.token_ids, np.array(question_ids, cache.token_ids.dtype))
    looking = foreign.LastQueries(POLICIES[dropping.policy](), seen)
    always = at_ends(tokens, 0, _stay(dropping, seen, asked, count))
    kept: list[np.ndarray | None] = [None] * len(model.layers)
    for number, scores in foreign.watched_scores(model, cache.state, ids, looking).items():
        rows = top(scores[:, :tokens], count, always)
        kept[number] = foreign.positions_of(rows, model.layers[number].kv_heads)
    return foreign.without(cache, tuple(kept), dropping)


def _looked_at(dropping: Dropping, tokens: int, asked: int) -> int:
    """How many of the last queries choose."""
    return asked if dropping.policy == H2O else min(WINDOW, tokens + asked)


def _stay(dropping: Dropping, seen: int, asked: int, count: int) -> int:
    """Last rows that stay. Of SnapKV's window, what reaches into the document, as in the paper; of H2O half of all."""
    return count // 2 if dropping.policy == H2O else min(max(seen - asked, 0), count)


def dropped_for(
    model: LanguageModel, cache: DocumentCache, dropping: Dropping, question_ids: Sequence[int]
) -> DocumentCache:
    """A cache of the rows that a policy keeps of a document for one question.

    Args:
        cache: as computed, all rows.
        dropping: its policy one of WITH_QUESTION.
        question_ids: the question in the prompt, one token or more.

    Raises:
        GoldFinchError: see `kept.check_droppable`.
    """
    check_droppable(model, cache, dropping)
    tokens, asked = cache.length, len(question_ids)
    ids = torch.cat([cache.ids_on(model.device), torch.tensor([list(question_ids)], device=model.device)], dim=1)
    seen = _looked_at(dropping, tokens, asked)
    policy = _LastQueries(POLICIES[dropping.policy](), seen)
    by_head = watched_scores(model, ids, policy)[..., :tokens]  # (L, H, T)
    if not model.config.n_gold:
        count = dropping.count(tokens, 1)
        each = top(by_head, count, at_ends(tokens, 0, _stay(dropping, seen, asked, count)))
        return without_in_layers(cache, head_rows(each, dropping), dropping)
    scores = by_head.sum((0, 1))
    tail = min(model.config.tail_length, tokens)
    count = dropping.count(tokens, tail)
    rows = top(scores, count, at_ends(tokens, 0, _stay(dropping, seen, asked, count)))
    rows[tokens - tail :] = True
    return without(cache, runs_of(rows), dropping)

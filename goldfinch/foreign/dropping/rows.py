"""Caches of models of others that keep some of their keys and values: each head of each layer the rows of its own.

Notation: T tokens, Q question tokens, G key-value heads of a layer, N rows that each of them keeps, D channels.

Rows are dropped of layers that keep all of them; those of a window, and states, are bounded and stay. Kept rows are as
they were computed, their keys turned to the positions that they had; what follows has its true position. A policy that
looks at queries sees those that the library computes, block by block, in one more pass; the query heads of a key-value
head share its rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from goldfinch.errors import GoldFinchError
from goldfinch.foreign import library
from goldfinch.foreign.models import ForeignModel
from goldfinch.foreign.running.files import ForeignCache
from goldfinch.foreign.running.joining import computed_alone
from goldfinch.foreign.running.prefill import keeps_blocks
from goldfinch.foreign.running.states import Held, SequenceState, can_cut, put_in
from goldfinch.policies.dropping.base import Policy
from goldfinch.policies.dropping.choosing import POLICIES
from goldfinch.policies.dropping.named import EXPECTED, Dropping

from .watching import obstacle_to_watching, takes_positions, watched

# Of each layer the positions (G, N) int64 that its heads keep, ascending; None of one that drops nothing.
Kept = tuple[np.ndarray | None, ...]
# Positions at which a key is compared with that of the first.
_ELSEWHERE = (1, 200)


def obstacle_to_dropping(model: ForeignModel, policy: str, token_ids: np.ndarray | None = None) -> str | None:
    """Why a policy drops no rows of this model's caches, None where it can.

    Args:
        token_ids: (T,) of the document, where it is known.
    """
    if not any(layer.kind == "full" for layer in model.layers):
        return f"no layer of {model.name} keeps keys and values of every token"
    if not takes_positions(model.network):
        return f"{model.name} takes no positions: it would count the rows that are left"
    if token_ids is not None and keeps_blocks(model, len(token_ids)):
        return f"{model.name} keeps this document in blocks, of which a question reads a few"
    looks = POLICIES[policy]().queries(1) > 0
    if looks and (obstacle := obstacle_to_watching(model.network)) is not None:
        return f"{policy} looks at queries, and {obstacle}"
    if policy == EXPECTED and _positions_show(model):
        return f"the keys of {model.name} know their positions, which expected attention takes as they are"
    return None


def _positions_show(model: ForeignModel) -> bool:
    """Whether a token that stands alone has other keys at other positions."""
    first = computed_alone(model, 0)
    return any(
        one.keys is not None and other.keys is not None and not torch.equal(one.keys, other.keys)
        for steps in _ELSEWHERE
        for one, other in zip(first, computed_alone(model, steps), strict=True)
    )


@dataclass(frozen=True)
class LastQueries:
    """A policy that looks at so many of the last queries, whatever it would look at."""

    policy: Policy
    count: int

    def queries(self, tokens: int) -> int:
        return self.count


class ForeignChooser:
    """Chooses rows of one document; what a policy sees of it is computed once.

    Args:
        model: that can drop rows by the policy (`obstacle_to_dropping`).
        cache: of the document, all rows as computed.
        policy: a name in POLICIES.
    """

    def __init__(self, model: ForeignModel, cache: ForeignCache, policy: str) -> None:
        self.policy = policy
        self._layers, self._tokens, self._chooses = model.layers, cache.length, POLICIES[policy]()
        self._scores: dict[int, Tensor] | None = None
        if self._chooses.queries(cache.length):
            self._scores = watched_scores(model, cache.state, cache.token_ids, self._chooses)

    def kept(self, keep: float) -> Kept:
        """The rows that stay: a share of them in each head, another choice in each."""
        count, found = Dropping(self.policy, keep).count(self._tokens, 1), list[np.ndarray | None]()
        for number, layer in enumerate(self._layers):
            if layer.kind != "full":
                found.append(None)
                continue
            rows = self._chooses.kept(None if self._scores is None else self._scores[number], self._tokens, count)
            found.append(positions_of(rows, layer.kv_heads))
        return tuple(found)


def positions_of(rows: Tensor, heads: int) -> np.ndarray:
    """Rows (T,) or (G, T) bool, as many true in each head, as ascending positions (G, N) int64."""
    each = rows.expand(heads, -1)
    return each.nonzero()[:, 1].view(heads, -1).cpu().numpy()


@torch.no_grad()
def watched_scores(
    model: ForeignModel, state: SequenceState, token_ids: np.ndarray, policy: Policy | LastQueries
) -> dict[int, Tensor]:
    """What a policy makes of each row, (G, T + Q) float64 on the CPU, of each layer that keeps all rows.

    Args:
        state: behind the first T tokens, all rows there: what comes before the queries is not computed again, where
            the model can be cut there.
        token_ids: (T + Q,), one or more queries of which are looked at.
    """
    looked = policy.policy if isinstance(policy, LastQueries) else policy
    tokens, block = len(token_ids), model.block_tokens
    wanted = tokens - policy.queries(tokens)
    observers = {n: looked.observer(tokens) for n, layer in enumerate(model.layers) if layer.kind == "full"}
    before: SequenceState | None = state
    if wanted < state.position:
        cut = wanted // block * block if model.schedule == "blocks" and can_cut(model.layers) else 0
        before = state.nothing_at(cut).with_rows(model.layers, state) if cut else None
    start = 0 if before is None else before.position
    layers = put_in(lambda: library.new_cache(model.network), model.layers, before, capacity=tokens)
    step = block if model.schedule == "blocks" else 1 if start else tokens
    at = start

    def see(number: int, q: Tensor, k: Tensor) -> None:
        passed = max(wanted - at, 0)
        if number in observers and passed < q.shape[1]:
            observers[number].see(q[:, passed:], k, at + passed)

    with watched(model.network, see):
        for at in range(start, tokens, step):
            library.forward(model.network, torch.from_numpy(token_ids[at : at + step]), layers, at, last=True)
    rows = {n: (layers.layers[n].keys[0], layers.layers[n].values[0]) for n in observers}
    return {n: observer.scores(*rows[n]).cpu() for n, observer in observers.items()}


def check_droppable(model: ForeignModel, cache: ForeignCache, dropping: Dropping) -> None:
    """Refuse to drop rows where a smaller cache would not be what the policy says.

    Raises:
        GoldFinchError: the model cannot (`obstacle_to_dropping`), or rows of the cache were rounded or dropped before.
    """
    reason, hint = obstacle_to_dropping(model, dropping.policy), None
    if cache.blocks is not None:
        reason, hint = "the document is kept in blocks", "pre-fill it with --layout whole"
    elif reason is None and cache.kept is not None:
        reason = f"rows of it were dropped before ({cache.numerics.dropping})"
    elif reason is None and cache.row_parts:
        reason, hint = "a codec has rounded its rows", "pre-fill the document again with --drop and --codec together"
    if reason is not None:
        raise GoldFinchError(f"rows cannot be dropped: {reason}", hint=hint)


def dropped(
    model: ForeignModel, cache: ForeignCache, dropping: Dropping, chooser: ForeignChooser | None = None
) -> ForeignCache:
    """A cache without the rows that a policy drops; the cache itself where it keeps all.

    Args:
        cache: as computed, all rows.
        chooser: of this document and policy, where there is one already.

    Raises:
        GoldFinchError: see `check_droppable`.
    """
    check_droppable(model, cache, dropping)
    chooser = chooser or ForeignChooser(model, cache, dropping.policy)
    return without(cache, chooser.kept(dropping.keep), dropping)


def without(cache: ForeignCache, kept: Kept, dropping: Dropping) -> ForeignCache:
    """A cache that keeps these of its rows. Nothing can be resumed from it: it has no checkpoints."""
    lost = cache.length - next(rows.shape[1] for rows in kept if rows is not None)
    if lost == 0:
        return cache
    layers = tuple(_picked(held, rows) for held, rows in zip(cache.state.layers, kept, strict=True))
    return replace(
        cache,
        state=SequenceState(cache.length, layers, lost),
        kept=kept,
        checkpoints=(),
        numerics=replace(cache.numerics, dropping=str(dropping)),
    )


def _picked(held: Held, rows: np.ndarray | None) -> Held:
    if rows is None or held.keys is None or held.values is None:
        return held
    index = torch.from_numpy(rows).to(held.keys.device)[..., None]
    return replace(held, keys=held.keys.take_along_dim(index, 1), values=held.values.take_along_dim(index, 1))


def differing(one: Kept, other: Kept) -> str | None:
    """Where two choices of rows differ first, in words; None where they are one."""
    for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
        if mine is not None and theirs is not None and not np.array_equal(mine, theirs):
            return f"layer {number}"
    return None

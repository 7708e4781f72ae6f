"""What questions read of a document that a model of others keeps: all of it, or the blocks that fit them.

The blocks are those of "Find, then read" (`goldfinch.policies`), found by the question's words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from goldfinch.engine.reading import CLOSE, MOST_RANKED, NO_VECTORS, Candidate, Reading
from goldfinch.errors import GoldFinchError, TokenizerError
from goldfinch.foreign.models import ForeignModel
from goldfinch.policies.base import BY_WORDS, Chosen, best_blocks
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.measured import LEAST_LIKELIHOOD
from goldfinch.policies.named import ALL, AUTO, HYBRID, INSTALL_VECTORS, LEXICAL, MOST_CANDIDATES, POLICIES
from goldfinch.policies.places import Found
from goldfinch.policies.vectors import vectors_at_hand

from .blocks import record_for
from .files import ForeignCache
from .joining import joined as joined_state
from .joining import obstacle_to_joining
from .states import SequenceState

# Of the context, that blocks which are read together may take.
MOST_SHARE = 0.75


class WholeReader:
    """What questions read of a document that is kept whole: everything.

    Args:
        cache: of the document.
        policy: "auto" or "all"; blocks that are chosen already are taken as "all".

    Raises:
        GoldFinchError: a policy that is none, or chooses blocks.
    """

    policy, blocks, candidates, remark = ALL, 1, 1, None

    def __init__(self, model: ForeignModel, cache: ForeignCache, policy: str | Chosen) -> None:
        if not isinstance(policy, Chosen) and policy not in (ALL, AUTO):
            _check_policy(policy)
            raise GoldFinchError(
                f"the reading policy {policy!r} cannot be followed: the document is kept whole, and is read whole",
                hint="read all, or pre-fill it with --layout blocks",
            )
        self._model, self._cache = model, cache

    @cached_property
    def index(self) -> DocumentIndex:
        """The document's blocks, which quotes and citations name."""
        return _index_of(self._model, self._cache)

    def own_tokens(self, reading: Reading) -> Tensor:
        """The number of the document's own token that each row behind the prompt is of, (n,)."""
        start, end = self._cache.document_range
        return torch.arange(end - start)

    def readings(self, question: str | None) -> list[Reading]:
        """What a question reads, one reading for each answer that one is chosen of; None: text to continue."""
        return [Reading(ALL, (), None, self._cache.row_count)]

    def read(self, question: str | None) -> Reading:
        """What a question reads; of several readings that whose answer was given, or the best."""
        return self.readings(question)[0]

    def state(self, reading: Reading) -> SequenceState:
        """What the layers hold behind what is read."""
        return self._cache.state

    def best(self, answers: Sequence[tuple[Reading, float | None]]) -> int:
        """Which of the answers to give: there is one."""
        return 0

    def settle(self, question: str, reading: Reading) -> None:
        """Note what the answer that was given had read: there is nothing else."""

    def explained(self, question: str) -> list[Candidate]:
        """Blocks for a question: none."""
        return []


class BlockReader:
    """What questions read of a document that is kept in blocks: those that fit them best, each by itself.

    Text to continue (None in place of a question) follows the last block, as it follows the document.

    Args:
        model: that is asked.
        cache: of the document.
        policy: "auto", "lexical", "hybrid", or blocks that are chosen already. "auto" is what was measured for the
            model, else hybrid; lexical where the word vectors are not installed.
        blocks: how many are read. By default as measured, else 1.
        joined: read them together, in one answer, or ask each by itself and give the likeliest answer; by default as
            measured, else each by itself.

    Attributes:
        policy: that is followed, never "auto".
        blocks: that one answer is given from: joined (`joining`), in the order of the document.
        candidates: answers that one is chosen of.
        remark: what a user should know of the choice, or None.

    Raises:
        GoldFinchError: another policy, another number of blocks than 1 to MOST_CANDIDATES, or blocks to join of a model
            that cannot.
    """

    def __init__(
        self, model: ForeignModel, cache: ForeignCache, policy: str | Chosen, blocks: int | None, joined: bool | None
    ) -> None:
        self._model, self._cache, self.remark = model, cache, None
        self._chosen: tuple[Found, ...] = ()
        name = policy.policy if isinstance(policy, Chosen) else policy
        self._settled: dict[str, Reading] = {}
        self._ranked: dict[str, list[Found]] = {}
        if isinstance(policy, Chosen):
            self._chosen, blocks = policy.found, min(len(policy.found), MOST_CANDIDATES)
        _check_policy(name)
        measured = record_for(model).reading(cache.length)
        if name == AUTO:
            if measured.policy in BY_WORDS:
                name, blocks = measured.policy, blocks or max(measured.blocks, measured.candidates)
            else:
                name = HYBRID
            if name == HYBRID and not vectors_at_hand():
                name = LEXICAL
                self.remark = f"{NO_VECTORS}, so blocks are chosen by their words alone"
        if name not in BY_WORDS:
            raise GoldFinchError(
                f"the reading policy {name!r} cannot be followed: the document is kept in blocks",
                hint=f"read {' or '.join(BY_WORDS)}, or pre-fill it with --layout whole",
            )
        if name == HYBRID and not vectors_at_hand():
            raise GoldFinchError(NO_VECTORS, hint=f"{INSTALL_VECTORS}, or the policy 'lexical'")
        if blocks is not None and not 1 <= blocks <= MOST_CANDIDATES:
            raise GoldFinchError(f"the number of blocks to read is {blocks}, allowed: 1 to {MOST_CANDIDATES}")
        self.policy, together = name, measured.blocks > 1 if joined is None else joined
        if together and (blocks or 1) > 1:
            obstacle = obstacle_to_joining(model)
            if obstacle is not None and joined:
                raise GoldFinchError(f"{model.name} cannot read blocks together: {obstacle}")
            together = obstacle is None
        self.blocks, self.candidates = (blocks or 1, 1) if together else (1, blocks or 1)

    @cached_property
    def index(self) -> DocumentIndex:
        """The document's blocks; from its file, else found in its token ids at the first question."""
        return _index_of(self._model, self._cache)

    def own_tokens(self, reading: Reading) -> Tensor:
        """The number of the document's own token that each row behind the prompt is of, (R,); -1 of a line break that
        was added."""
        parts, blocks = list[Tensor](), self._cache.blocks
        assert blocks is not None
        for found in reading.found:
            start, heading_end, first, last = blocks.places[found.block].tolist()
            parts += [torch.arange(start, heading_end), torch.arange(first, last)]
            added = len(blocks.token_ids[found.block]) - sum(map(len, parts[-2:]))
            parts.append(torch.full((added,), -1))
        return torch.cat(parts)

    def readings(self, question: str | None) -> list[Reading]:
        """What a question reads, one reading for each answer that one is chosen of, the best block first."""
        if question is None:
            return [self._of([self.index.found(len(self.index) - 1, 0.0)])]
        found = self._found(question, max(self.blocks, self.candidates))
        if self.blocks > 1:
            return [self._of(sorted(self._fitting(found[: self.blocks]), key=lambda one: one.block))]
        return [self._of([one]) for one in found[: self.candidates]]

    def _fitting(self, found: Sequence[Found]) -> Sequence[Found]:
        """The best of the blocks that leave the context room for question and answer; one at least."""
        blocks, tokens, count = self._cache.blocks, self._cache.state.position, 0
        assert blocks is not None
        for one in found:
            tokens += len(blocks.token_ids[one.block])
            if tokens > MOST_SHARE * self._model.context_length:
                break
            count += 1
        return found[: max(count, 1)]

    def read(self, question: str | None) -> Reading:
        """What a question reads; of several readings that whose answer was given, or the best."""
        if question is not None and question in self._settled:
            return self._settled[question]
        return self.readings(question)[0]

    def state(self, reading: Reading) -> SequenceState:
        """What the layers hold behind what is read."""
        blocks = self._cache.blocks
        assert blocks is not None
        numbers = [found.block for found in reading.found]
        if len(numbers) == 1:
            return blocks.behind(self._cache.state, numbers[0])
        return joined_state(self._model, self._cache.state, blocks, numbers)

    def best(self, answers: Sequence[tuple[Reading, float | None]]) -> int:
        """Which of the answers from several blocks to give: the likeliest, the first of several."""
        scores = [math.log(max(likelihood or 0.0, LEAST_LIKELIHOOD)) for _, likelihood in answers]
        return max(range(len(scores)), key=lambda n: (scores[n], -n))

    def settle(self, question: str, reading: Reading) -> None:
        """Note what the answer that was given had read: until the next, it is what the question reads."""
        self._settled = {question: reading}

    def explained(self, question: str) -> list[Candidate]:
        """The best blocks for a question and the next ones, best first."""
        read = {found.block for found in self.read(question).found}
        found = self._found(question, max(self.blocks, self.candidates) + CLOSE)
        words = self.index.words
        return [Candidate(one, words.matched(question, one.block), one.block in read) for one in found]

    def _found(self, question: str, count: int) -> Sequence[Found]:
        """The blocks that fit best. Those that are chosen already may be of other rules: the file's stand there."""
        blocks = self._cache.blocks
        assert blocks is not None
        if not self._chosen:
            return self._best(question, count)
        return [self.index.found(blocks.at(found.rows[-1][0]), found.score) for found in self._chosen]

    def _best(self, question: str, count: int) -> list[Found]:
        if question not in self._ranked:
            if len(self._ranked) >= MOST_RANKED:
                self._ranked.clear()
            self._ranked[question] = best_blocks(
                self.policy, self.index, question, max(self.blocks, self.candidates) + CLOSE
            )
        return self._ranked[question][:count]

    def _of(self, found: Sequence[Found]) -> Reading:
        start = self._cache.document_range[0]
        rows = tuple((start + first, start + last) for one in found for first, last in one.rows)
        tokens = self._cache.state.position + sum(last - first for first, last in rows)
        return Reading(self.policy, tuple(found), rows, tokens)


Reader = WholeReader | BlockReader


def reader_of(
    model: ForeignModel, cache: ForeignCache, policy: str | Chosen, blocks: int | None, joined: bool | None = None
) -> Reader:
    """What questions to a cached document read; arguments and errors as of the readers."""
    return (
        WholeReader(model, cache, policy) if cache.blocks is None else BlockReader(model, cache, policy, blocks, joined)
    )


def _index_of(model: ForeignModel, cache: ForeignCache) -> DocumentIndex:
    if model.tokenizer is None:
        raise TokenizerError("this model has no tokenizer, so its documents have no blocks and lines")
    blocks = None if cache.blocks is None else cache.blocks.places
    return DocumentIndex(model.tokenizer, cache.own_token_ids, cache.index, blocks=blocks)


def _check_policy(policy: str) -> None:
    if policy not in POLICIES:
        raise GoldFinchError(f"the reading policy is {policy!r}, allowed: {', '.join(POLICIES)}")

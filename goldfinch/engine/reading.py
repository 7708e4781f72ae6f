"""What of a cached document one question reads: a policy's choice of blocks, as rows that the GOLD layers attend to.

Notation: T document tokens, K tail_length, N blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.errors import GoldFinchError
from goldfinch.models.language_model import LanguageModel
from goldfinch.policies.base import Chosen, best_blocks, rows_to_read
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.measured import measured_reading
from goldfinch.policies.named import ALL, AUTO, HYBRID, INSTALL_VECTORS, LEXICAL, MOST_BLOCKS, POLICIES
from goldfinch.policies.places import Found
from goldfinch.policies.vectors import PACKAGE, vectors_at_hand

Rows = tuple[tuple[int, int], ...]

# Blocks beside those that are read which an explanation names.
CLOSE = 3
NO_VECTORS = f"the word vectors of the package {PACKAGE} are not installed"


@dataclass(frozen=True)
class Reading:
    """What a question reads.

    Attributes:
        policy: that chose, or "all".
        found: the blocks, best first; none where the whole document is read.
        rows: (start, end) of the cache's rows, ascending and apart; None for all of them.
        tokens: how many rows that is.
    """

    policy: str
    found: tuple[Found, ...]
    rows: Rows | None
    tokens: int


@dataclass(frozen=True)
class Candidate:
    """A block that may answer a question: the stems that both have, the most telling first; whether it is read."""

    found: Found
    words: list[str]
    read: bool


class DocumentReader:
    """Chooses what questions to one cached document read.

    Args:
        model: that is asked.
        cache: the document.
        policy: a name in POLICIES, or blocks that are chosen already, which a model that cannot read blocks takes as
            "all". "auto" is what was measured to answer best with this model (`measured_reading`).
        blocks: how many blocks to read; None for what was measured, else 1.

    Attributes:
        policy: that is followed: "all", or one that chooses by words.
        blocks: how many it chooses.
        remark: what a user should know of the choice, or None.

    Raises:
        GoldFinchError: no such policy, a number of blocks outside 1 to MOST_BLOCKS, or a policy that this model,
            or this installation, cannot follow.
    """

    def __init__(
        self, model: LanguageModel, cache: DocumentCache, policy: str | Chosen = AUTO, blocks: int | None = None
    ) -> None:
        obstacle = _obstacle(model)
        self._chosen: tuple[Found, ...] = ()
        if isinstance(policy, Chosen):
            self._chosen, blocks = policy.found, len(policy.found)
            policy = ALL if obstacle else policy.policy
        if policy not in POLICIES:
            raise GoldFinchError(f"the reading policy is {policy!r}, allowed: {', '.join(POLICIES)}")
        if blocks is not None and not 1 <= blocks <= MOST_BLOCKS:
            raise GoldFinchError(f"the number of blocks to read is {blocks}, allowed: 1 to {MOST_BLOCKS}")
        measured = measured_reading(model.card.model_fingerprint if model.card else None, cache.length)
        self.remark: str | None = None
        if policy == AUTO:
            policy, blocks = (ALL, blocks) if obstacle else (measured.policy, blocks or measured.blocks)
            if policy == HYBRID and not vectors_at_hand():
                policy, self.remark = LEXICAL, f"{NO_VECTORS}, so blocks are chosen by their words alone"
        elif policy != ALL and obstacle:
            raise GoldFinchError(f"the reading policy {policy!r} cannot be followed: {obstacle}", hint="read all")
        if policy == HYBRID and not vectors_at_hand():
            raise GoldFinchError(NO_VECTORS, hint=f"{INSTALL_VECTORS}, or the policy 'lexical'")
        self.policy, self.blocks = policy, blocks or 1
        self._tokenizer, self._cache, self._tail = model.tokenizer, cache, model.config.tail_length

    @cached_property
    def index(self) -> DocumentIndex:
        """The document's blocks; from its file, else found in its token ids at the first question."""
        found = self._cache.document_index()
        assert found is not None
        return found

    def candidates(self, question: str) -> list[Candidate]:
        """The best blocks for a question and the next ones, best first; none where the whole document is read."""
        reading = self.read(question)
        if reading.rows is None:
            return []
        found = self._chosen or best_blocks(self.policy, self.index, question, self.blocks + CLOSE)
        words = self.index.words
        return [Candidate(f, words.matched(question, f.block), n < self.blocks) for n, f in enumerate(found)]

    def read(self, question: str | None) -> Reading:
        """What a question reads; None stands for text to continue, which reads everything."""
        whole = Reading(ALL, (), None, self._cache.length)
        if self.policy == ALL or question is None:
            return whole
        found: Sequence[Found] = self._chosen
        if not found:
            if len(self.index) <= self.blocks:
                return whole
            found = best_blocks(self.policy, self.index, question, self.blocks)
            if found[0].score <= 0:  # nothing in the document resembles the question
                return whole
        rows = rows_to_read(found, self._cache.document_range[0], self._cache.length, self._tail)
        return Reading(self.policy, tuple(found), tuple(rows), sum(end - start for start, end in rows))


def _obstacle(model: LanguageModel) -> str | None:
    """Why no blocks can be chosen for a model, None where they can."""
    if not model.config.n_gold:
        return "the model has no GOLD layers, it answers from its state or from all keys"
    if model.tokenizer is None:
        return "the model has no tokenizer, so its documents have no words"
    return None

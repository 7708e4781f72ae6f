"""What of a cached document one question reads: a policy's choice of blocks, as rows that the GOLD layers attend to.

Notation: T document tokens, K tail_length, N blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.caching.kept_rows import rows_in
from goldfinch.errors import GoldFinchError
from goldfinch.policies.base import Chosen, best_blocks, rows_to_read
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.measured import Evidence, ModelRecord, record_of
from goldfinch.policies.named import (
    ALL,
    ATTENTION,
    AUTO,
    DEFAULT_BLOCKS,
    HYBRID,
    INSTALL_VECTORS,
    LEXICAL,
    MOST_BLOCKS,
    MOST_CANDIDATES,
    POLICIES,
)
from goldfinch.policies.places import Found
from goldfinch.policies.vectors import PACKAGE, vectors_at_hand
from goldfinch.weights.noted import place_of

if TYPE_CHECKING:
    from goldfinch.models.language_model import LanguageModel
    from goldfinch.policies.attention import AttentionFinder

Rows = tuple[tuple[int, int], ...]

# Blocks beside those that are read which an explanation names.
CLOSE = 3
# Questions whose best blocks are kept, and whose choice among them is.
MOST_RANKED, MOST_SETTLED = 64, 4096
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

    @property
    def score(self) -> float:
        """Of the best block; 0 where the whole document is read."""
        return self.found[0].score if self.found else 0.0


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
            "all". "auto" is what was measured to answer best with this model (`policies.measured`).
        blocks: how many blocks to read; None for what was measured, else 1.
        candidates: of how many blocks, each read by itself, the model chooses the one that it answers from; None for
            what was measured, else 1.

    Attributes:
        policy: that is followed, never "auto".
        blocks: how many it chooses.
        candidates: of how many blocks the model chooses one.
        record: what was measured of the model.
        remark: what a user should know of the choice, or None.

    Raises:
        GoldFinchError: no such policy, a number of blocks outside 1 to MOST_BLOCKS or of candidates outside 1 to
            MOST_CANDIDATES, several of both, or a policy that this model, or this installation, cannot follow.
    """

    def __init__(
        self,
        model: LanguageModel,
        cache: DocumentCache,
        policy: str | Chosen = AUTO,
        blocks: int | None = None,
        candidates: int | None = None,
    ) -> None:
        obstacle = obstacle_to_blocks(model) or _obstacle_of(cache)
        self._chosen: tuple[Found, ...] = ()
        if isinstance(policy, Chosen):
            self._chosen, blocks = policy.found, len(policy.found)
            policy = ALL if obstacle else policy.policy
        if policy not in POLICIES:
            raise GoldFinchError(f"the reading policy is {policy!r}, allowed: {', '.join(POLICIES)}")
        if blocks is not None and not 1 <= blocks <= MOST_BLOCKS:
            raise GoldFinchError(f"the number of blocks to read is {blocks}, allowed: 1 to {MOST_BLOCKS}")
        if candidates is not None and not 1 <= candidates <= MOST_CANDIDATES:
            raise GoldFinchError(f"the number of candidates is {candidates}, allowed: 1 to {MOST_CANDIDATES}")
        self.record = _record(model)
        measured = self.record.reading(cache.length)
        self._choice = measured.choice
        self._settled: dict[str, Reading] = {}
        self._ranked: dict[str, list[Found]] = {}
        self.remark: str | None = None
        if policy == AUTO:
            if blocks is None and candidates is None:
                candidates = measured.candidates
            policy, blocks = (ALL, blocks) if obstacle else (measured.policy, blocks or measured.blocks)
            if policy == ATTENTION and cache.kept is not None:
                policy = LEXICAL
            if policy == HYBRID and not vectors_at_hand():
                policy, self.remark = LEXICAL, f"{NO_VECTORS}, so blocks are chosen by their words alone"
        elif policy != ALL and obstacle:
            raise GoldFinchError(f"the reading policy {policy!r} cannot be followed: {obstacle}", hint="read all")
        if policy == ATTENTION and cache.kept is not None:
            dropped = f"it looks at every key, and rows were dropped ({cache.numerics.dropping})"
            raise GoldFinchError(f"the reading policy {policy!r} cannot be followed: {dropped}", hint="read all")
        if policy == HYBRID and not vectors_at_hand():
            raise GoldFinchError(NO_VECTORS, hint=f"{INSTALL_VECTORS}, or the policy 'lexical'")
        self.policy, self.blocks, self.candidates = policy, blocks or DEFAULT_BLOCKS.get(policy, 1), candidates or 1
        if self.blocks > 1 and self.candidates > 1:
            raise GoldFinchError(
                f"{self.candidates} candidates of {self.blocks} blocks each, allowed: several of one of them",
                hint="each candidate reads one block",
            )
        self._model, self._tokenizer = model, model.tokenizer
        self._cache, self._tail = cache, model.config.tail_length

    @cached_property
    def index(self) -> DocumentIndex:
        """The document's blocks; from its file, else found in its token ids at the first question."""
        found = self._cache.document_index()
        assert found is not None
        return found

    def explained(self, question: str) -> list[Candidate]:
        """The best blocks for a question and the next ones, best first; none where the whole document is read."""
        reading = self.read(question)
        if reading.rows is None:
            return []
        count = max(self.blocks, self.candidates) + CLOSE
        found, read = self._chosen or self._best(question, count), {f.block for f in reading.found}
        if self.policy == ATTENTION:
            return [Candidate(f, [], f.block in read) for f in found]
        words = self.index.words
        return [Candidate(f, words.matched(question, f.block), f.block in read) for f in found]

    def readings(self, question: str) -> list[Reading]:
        """The parts of the document of which one is to answer a question, the best found first."""
        reading = self._read(question, max(self.blocks, self.candidates))
        if self.candidates == 1 or reading.rows is None or self._chosen:
            return [reading]
        return [self._of([found]) for found in reading.found]

    def choose(self, question: str, readings: Sequence[Reading], evidence: Sequence[Evidence]) -> int:
        """Which of several parts answers a question; from then on it is what the question reads.

        Args:
            evidence: of each, the weights those of the model's record.
        """
        best = self._choice.best(evidence)
        if len(self._settled) >= MOST_SETTLED:
            del self._settled[next(iter(self._settled))]
        self._settled[question] = readings[best]
        return best

    def confidence(self, reading: Reading, likelihood: float | None) -> tuple[float | None, str | None]:
        """The probability that an answer is right, as it was calibrated for the model; or None, and why."""
        calibration = self.record.calibrations.get(reading.policy)
        if calibration is None:
            return None, f"nothing was calibrated for this model and the reading policy {reading.policy!r}"
        if likelihood is None:
            return None, "the answer is empty"
        probability = calibration.probability(reading.score, likelihood)
        return probability, calibration.reason if probability is None else None

    def read(self, question: str | None) -> Reading:
        """What a question reads; None stands for text to continue, which reads everything."""
        if question is not None and question in self._settled:
            return self._settled[question]
        return self._read(question, self.blocks)

    def _read(self, question: str | None, count: int) -> Reading:
        whole = Reading(ALL, (), None, self._cache.read_count)
        if self.policy == ALL or question is None:
            return whole
        found: Sequence[Found] = self._chosen
        if not found:
            if self._block_count <= self.blocks:
                return whole
            found = self._best(question, count)
            if self.policy != ATTENTION and found[0].score <= 0:  # nothing in the document resembles the question
                return whole
        return self._of(found)

    @property
    def _block_count(self) -> int:
        return len(self._attention.blocks) if self.policy == ATTENTION else len(self.index)

    def _best(self, question: str, count: int) -> list[Found]:
        """The best blocks; what an explanation or a citation asks for afterwards is kept."""
        if len(self._ranked.get(question, ())) < min(count, self._block_count):
            if len(self._ranked) >= MOST_RANKED:
                self._ranked.clear()
            most = max(count, self.blocks + CLOSE, self.candidates + CLOSE)
            if self.policy == ATTENTION:
                self._ranked[question] = self._attention.best(question, most)
            else:
                self._ranked[question] = best_blocks(self.policy, self.index, question, most)
        return self._ranked[question][:count]

    @cached_property
    def _attention(self) -> AttentionFinder:
        from goldfinch.policies.attention import AttentionFinder, GoldScores, LayerScores

        cache, model = self._cache, self._model
        if not model.config.n_gold:
            return AttentionFinder(model, LayerScores(model, cache.state), cache.own_token_ids, cache.document_range)
        document = cache.on_device(model.device)  # all of it: every key is looked at
        scores = GoldScores(model, document, cache.state, cache.tail_hidden)
        return AttentionFinder(model, scores, cache.own_token_ids, cache.document_range)

    def _of(self, found: Sequence[Found]) -> Reading:
        rows = tuple(rows_to_read(found, self._cache.document_range[0], self._cache.length, self._tail))
        held = self._cache.held(rows) or ()
        return Reading(self.policy, tuple(found), held, rows_in(held))


def _record(model: LanguageModel) -> ModelRecord:
    fingerprint = model.card.model_fingerprint if model.card else None
    return record_of(fingerprint, place_of(fingerprint) if fingerprint else None)


def _obstacle_of(cache: DocumentCache) -> str | None:
    """Why no blocks can be chosen of a cache, None where they can."""
    if cache.kept is None and cache.numerics.dropping is not None:
        return f"rows of each head were dropped ({cache.numerics.dropping}): what is left is read whole"
    return None


def obstacle_to_blocks(model: LanguageModel) -> str | None:
    """Why no blocks can be chosen for a model, None where they can."""
    if not model.config.n_gold and not model.config.n_attention:
        return "the model has no attention layers, it answers from its state"
    if model.tokenizer is None:
        return "the model has no tokenizer, so its documents have no words"
    return None

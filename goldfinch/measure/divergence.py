"""What codecs and dropping rows cost: how far the next-token distributions behind a smaller cache are from those behind
the same cache as it was computed.

Measured where the document goes on from itself: passages of it, drawn at random, are read once more behind the whole
document, and every token of them is predicted from the cache; and behind questions that suit any document, of which
the user's own is none. The divergence is KL(as computed || rounded), in nats.

Notation: V vocab_size.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from gfcache import Divergence, Receipt
from torch import Tensor

from goldfinch.engine.base import Start
from goldfinch.policies.named import ALL

# Passages, and tokens of each: 256 positions.
PASSAGES, PASSAGE_TOKENS = 16, 16
# Tokens of an answer to each question, that of the cache as computed.
ANSWER_TOKENS = 4
QUESTIONS = (
    "What is this document about?",
    "Who wrote this document?",
    "When was it written?",
    "What is the first thing that it says?",
    "What is the last thing that it says?",
    "Which names does it mention?",
    "Which places does it mention?",
    "Which numbers does it mention?",
    "What is the most important point?",
    "What happens in the middle?",
    "What is the title?",
    "Which words are used most?",
    "Summarize the document in one sentence.",
    "What does the document say about time?",
    "What does the document say about people?",
    "Is there anything surprising in it?",
)
# The draws: one chooses a setting, another reports what it costs.
DRAWS = CHOOSING, REPORTING = "choosing", "reporting"


def between(computed: Tensor, rounded: Tensor) -> Divergence:
    """The divergence of log probabilities (n, V)."""
    share = computed.exp()
    kl = torch.where(share > 0, share * (computed - rounded), 0.0).sum(-1).clamp_min(0)
    flips = int((computed.argmax(-1) != rounded.argmax(-1)).sum())
    return Divergence(len(kl), float(kl.mean()), float(kl.max()), flips)


class Yardstick:
    """Measures roundings of one cache against the cache as it was computed, whose answers it computes once.

    Args:
        engine: of the cache's model, ours or of others.
        computed: the cache, nothing of it rounded.
        seed: of the draw of passages.
    """

    def __init__(self, engine: Any, computed: Any, seed: int = 0) -> None:
        self._engine, self._computed, self.seed = engine, computed, seed
        start, end = computed.document_range
        self.passage_tokens = max(1, min(PASSAGE_TOKENS, (end - start) // 2))
        starts = list(range(start, max(end - self.passage_tokens, start) + 1))
        random.Random(seed).shuffle(starts)
        drawn = [starts[n % len(starts)] for n in range(2 * PASSAGES)]  # a short document has fewer than that
        self._starts = {REPORTING: drawn[:PASSAGES], CHOOSING: drawn[PASSAGES:]}
        self._known: dict[str, tuple[Tensor, Tensor | None]] = {}

    def _passages(self, draw: str) -> list[list[int]]:
        ids = self._computed.token_ids.tolist()
        return [ids[at : at + self.passage_tokens] for at in self._starts[draw]]

    @cached_property
    def _session(self) -> Any:
        return self._engine.session(self._computed, read=ALL)

    @cached_property
    def _answers(self) -> dict[str, list[tuple[list[int], list[int]]]]:
        """By draw: the tokens of each question, and those of its answer from the cache as computed."""
        asked = () if self._engine.tokenizer is None else QUESTIONS
        return {draw: [self._answered(question) for question in asked[n::2]] for n, draw in enumerate(DRAWS)}

    def _answered(self, question: str) -> tuple[list[int], list[int]]:
        ids = self._session.question_token_ids(question)
        return ids, self._session.likeliest(ids, ANSWER_TOKENS - 1)

    def _behind_passages(self, session: Any, draw: str) -> Tensor:
        """Log probabilities (passages x tokens, V) of what follows each token of each passage."""
        return _log_probabilities(session, [(ids[:1], ids[1:]) for ids in self._passages(draw)], copies=False)

    def divergences(self, rounded: Any, draw: str = CHOOSING) -> tuple[Divergence, Divergence]:
        """Behind the passages of a draw, and behind its questions."""
        session, answers = self._engine.session(rounded, read=ALL), self._answers[draw]
        if draw not in self._known:
            behind_questions = _log_probabilities(self._session, answers, copies=True) if answers else None
            self._known[draw] = self._behind_passages(self._session, draw), behind_questions
        passages, questions = self._known[draw]
        document = between(passages, self._behind_passages(session, draw))
        if questions is None:
            return document, Divergence(0, 0.0, 0.0, 0)
        return document, between(questions, _log_probabilities(session, answers, copies=True))

    def receipt(self, rounded: Any) -> Receipt:
        """Everything, measured where no setting was chosen."""
        errors = rounded.channel_errors(self._computed)
        measured = self.divergences(rounded, REPORTING)
        return Receipt(self.seed, tuple(self._starts[REPORTING]), self.passage_tokens, *measured, errors)


def _log_probabilities(session: Any, continuations: Sequence[tuple[list[int], list[int]]], *, copies: bool) -> Tensor:
    """Log probabilities (n, V), float64, behind the first tokens of each continuation and behind each that follows."""
    found = [session.behind(first, then, copies=copies).double().cpu() for first, then in continuations]
    return torch.cat(found).log_softmax(-1)


def reproduced(engine: Any, cache: Any) -> Receipt:
    """The receipt of a cache measured again, against its document computed once more.

    Args:
        engine: of its model.
        cache: with a receipt.
    """
    assert cache.receipt is not None
    computed = engine.prefill_from(Start(), cache.token_ids, document_range=cache.document_range)
    return Yardstick(engine, computed, cache.receipt.seed).receipt(cache)

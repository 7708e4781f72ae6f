"""What a pointer is trained on: questions as they are read, with what the rest of the model made of them.

A document is pre-filled once; each of its questions reads the rows that a reading policy would choose (the same blocks,
the same code) and runs with its answer behind them. What stays of a question is small: the ids and compressed keys of
the rows, and the stream at the positions that predict the answer. Training the pointer then runs no other layer.

Notation: T document tokens, n rows read, m question tokens, A answer tokens with the end, C d_model, R width of
compressed_k.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from goldfinch.caching.document_cache import DocumentCache
from goldfinch.datasets.facts import NOT_STATED
from goldfinch.engine.prefill import prefill
from goldfinch.engine.reading import Reading
from goldfinch.engine.session import Session
from goldfinch.models.language_model import LanguageModel
from goldfinch.models.state import Ranges
from goldfinch.policies.base import rows_to_read
from goldfinch.policies.blocks import TokenMap, map_tokens
from goldfinch.policies.index import DocumentIndex
from goldfinch.policies.named import ALL, LEXICAL
from goldfinch.text.prompt import document_token_ids, template_of

from .plan import PointerPlan

# A document of more tokens is never read whole here: its rows would make every other example of a batch wait.
MOST_WHOLE_TOKENS = 700
# Answers whose tokens are no tokens of the document (a part of a word) are kept in this share: they teach no copying.
KEEP_UNALIGNED = 0.15


@dataclass(frozen=True)
class Example:
    """One question as it is read.

    Attributes:
        document: token ids (T,) and compressed keys (T, R), shared by the questions of a document.
        rows: (n,) the rows that are read.
        question: token ids (m,) and compressed keys (m, R).
        stream: (A, C), bfloat16, what enters the last norm at the positions that predict the answer.
        targets: (A,), the answer's token ids and the end.
        places: the first of the rows, counted among those read, of each place where the answer stands.
        answer_k: (A - 1, R), compressed keys of the answer's tokens.
        below: (P, C), bfloat16, the stream below the GOLD layers at the document's tail, question and answer; None
            where these are not trained.
    """

    document: tuple[Tensor, Tensor]
    rows: Tensor
    question: tuple[Tensor, Tensor]
    stream: Tensor
    targets: Tensor
    places: tuple[int, ...]
    answer_k: Tensor
    below: Tensor | None = None


@dataclass(frozen=True)
class _Document:
    """A pre-filled document, its blocks and where its tokens lie in its text."""

    cache: DocumentCache
    index: DocumentIndex
    tokens: TokenMap


class ExampleMaker:
    """Makes examples of documents with questions.

    Args:
        model: whose layers below the pointer are run; it has a tokenizer.
        plan: for `right`, `wrong` and `most_blocks`.
        keep_below: keep what lies below the GOLD layers, to train these.
    """

    def __init__(self, model: LanguageModel, plan: PointerPlan, *, keep_below: bool = False) -> None:
        self.model, self.template, self._keep_below = model, template_of(model), keep_below
        self._right, self._some_block, self._most_blocks = plan.right, plan.right + plan.wrong, plan.most_blocks

    @torch.no_grad()
    def examples(self, text: str, questions: Sequence[tuple[str, str]], rng: Random) -> Iterator[Example]:
        """The examples of one document; questions whose answer it does not hold in a copyable form may be left out."""
        ids, own = document_token_ids(self.model, text)
        session = Session(self.model, prefill(self.model, ids, document_range=own), read=LEXICAL)
        index = session.reader.index
        if not len(index):
            return
        document = _Document(session.cache, index, map_tokens(self.model.tokenizer, ids[0, own[0] : own[1]].tolist()))
        small = self.model.config.vocab_size < 1 << 15
        kept = (ids[0].to(torch.int16 if small else torch.int64), _half(session.cache))
        for question, answer in questions:
            chosen = self._chosen(document, question, answer, rng)
            if chosen is not None:
                yield self._example(session, kept, question, *chosen)

    def _chosen(
        self, document: _Document, question: str, answer: str, rng: Random
    ) -> tuple[Ranges, list[int], list[int]] | None:
        """Ranges of rows to read, the answer's tokens and the places in the document where they stand."""
        index, length = document.index, document.cache.length
        many = rng.randint(1, self._most_blocks) if self._most_blocks > 1 else 1
        order = np.argsort(-index.words.scores(question), kind="stable").tolist()
        rows: Ranges = ((0, length),)
        choice = rng.random()
        if answer == NOT_STATED:
            read_all = choice >= self._some_block and length <= MOST_WHOLE_TOKENS
            return (rows if read_all else self._rows(document, order[:many])), self._encoded(answer), []
        holding = [n for n in order if answer in index.texts[n]]
        others = [n for n in order if answer.lower() not in index.texts[n].lower()]
        if self._right <= choice < self._some_block and others:
            return self._rows(document, others[:many]), self._encoded(NOT_STATED), []
        if (choice >= self._some_block and length <= MOST_WHOLE_TOKENS) or not holding:
            if length > MOST_WHOLE_TOKENS or (rng.random() > KEEP_UNALIGNED and not holding):
                return None
        else:
            best = [n for n in order if n != holding[0]]
            rows = self._rows(document, [holding[0], *best[: many - 1]])
        answer_ids, places = self._copyable(document, answer, rows)
        if not places:
            if rng.random() > KEEP_UNALIGNED:
                return None
            answer_ids = self._encoded(answer)
        return rows, answer_ids, places

    def _rows(self, document: _Document, blocks: Sequence[int]) -> Ranges:
        cache, found = document.cache, [document.index.found(block, 0.0) for block in blocks]
        return tuple(rows_to_read(found, cache.document_range[0], cache.length, self.model.config.tail_length))

    def _encoded(self, answer: str) -> list[int]:
        ids: list[int] = self.model.tokenizer.encode(self.template.answer_text(answer))
        return ids

    def _copyable(self, document: _Document, answer: str, rows: Ranges) -> tuple[list[int], list[int]]:
        """The answer in the document's own tokens, and where these begin in the rows, counted in the cache's."""
        text, places, first = document.tokens.text, list[int](), document.cache.document_range[0]
        all_ids = document.cache.token_ids.tolist()
        answer_ids: list[int] = []
        at = text.find(answer)
        while at >= 0:
            begin = at - 1 if at > 0 and text[at - 1] == " " else at
            a, b = (first + token for token in document.tokens.tokens(begin, at + len(answer)))
            ids = all_ids[a:b]
            read = any(start <= a and b <= end for start, end in rows)
            exact = read and self.model.tokenizer.decode(ids).strip() == answer.strip()
            if exact and (not answer_ids or ids == answer_ids):
                answer_ids = ids
                places.append(a)
            at = text.find(answer, at + len(answer))
        return answer_ids, places

    def _example(
        self,
        session: Session,
        kept: tuple[Tensor, Tensor],
        question: str,
        rows: Ranges,
        answer_ids: list[int],
        places: list[int],
    ) -> Example:
        model = self.model
        question_ids = session.question_token_ids(question)
        state = session.state_for(Reading(LEXICAL if rows[0][1] == 1 else ALL, (), rows, 0))
        ids = torch.tensor([[*question_ids, *answer_ids]], device=model.device)
        x, state = model.run_prefill_layers(ids, state)
        compressed_k = model.compress_keys(x)
        state = model.remember(state, ids, compressed_k)
        below = torch.cat([session.cache.tail_hidden, x], dim=1)
        x, _ = model.run_gold_layers(below, state)
        m = len(question_ids)
        positions = torch.cat([torch.arange(a, b) for a, b in rows])
        where = {int(p): n for n, p in enumerate(positions)}
        return Example(
            document=kept,
            rows=positions.to(torch.int32),
            question=(torch.tensor(question_ids), compressed_k[0, :m].half().cpu()),
            stream=x[0, -len(answer_ids) - 1 :].bfloat16().cpu(),
            targets=torch.tensor([*answer_ids, self.template.end_token_id]),
            places=tuple(where[p] for p in places if p in where),
            answer_k=compressed_k[0, m:].half().cpu(),
            below=below[0].bfloat16().cpu() if self._keep_below else None,
        )


def _half(cache: DocumentCache) -> Tensor:
    assert cache.compressed_k is not None
    return cache.compressed_k[0].half().cpu()

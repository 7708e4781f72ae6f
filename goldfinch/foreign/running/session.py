"""Asking a document that a model of others has read: question and answer behind what its cache holds.

Notation: T document tokens, Q question tokens, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Unpack

import torch
from torch import Tensor

from goldfinch.devices import synchronize
from goldfinch.engine.answer import Answer, Answering, StreamedText, Usage
from goldfinch.engine.quoting import Quotable, Quoting
from goldfinch.engine.reading import Reading
from goldfinch.engine.sampling import Sampling, SamplingOptions
from goldfinch.errors import ContextTooLong, EmptyInput, TokenizerError
from goldfinch.foreign import library
from goldfinch.foreign.models import ForeignModel
from goldfinch.foreign.prompts import question_ids
from goldfinch.policies.base import Chosen
from goldfinch.policies.named import AUTO
from goldfinch.text.prompt import check_question_tokens

from .files import ForeignCache
from .reading import reader_of
from .states import SequenceState, put_in

# What a question takes at least: what is decoded, and what layers keep of a block.
LEAST_QUESTION_BYTES = 32 << 20


class ForeignSession:
    """A model of others and a cached document, ready for questions. Asking changes neither.

    Args:
        model: that the cache belongs to.
        cache: of the document.
        read: the reading policy; see the readers (`reading`).
        read_blocks: how many blocks are read, of a document that is kept in blocks.
        joined: all in one answer, or each by itself; as of the readers.
    """

    def __init__(
        self,
        model: ForeignModel,
        cache: ForeignCache,
        *,
        read: str | Chosen = AUTO,
        read_blocks: int | None = None,
        joined: bool | None = None,
    ) -> None:
        self.model, self.cache = model, cache
        self.reader = reader_of(model, cache, read, read_blocks, joined)
        self.chosen_path = f"keys, values and states of {cache.length:,} tokens are held"
        if cache.kept is not None:
            self.chosen_path = f"{cache.row_count:,} rows of each head are held of {cache.length:,} tokens"
        if cache.blocks is not None:
            self.chosen_path = f"keys and values of {len(cache.blocks.token_ids):,} blocks are read when they are asked"
        self.runs_on = f"{cache.numerics.library}"
        self.last_usage = Usage(cache.length)
        self._quotable: dict[Reading, Quotable] = {}

    @property
    def expanded_bytes(self) -> int:
        """Nothing is held besides the cache."""
        return 0

    @property
    def question_bytes(self) -> int:
        """What a question under way takes, estimated: a copy of all that layers keep of what it reads."""
        parts = [part for held in self.cache.state.layers for part in (held.keys, held.values) if part is not None]
        return sum(part.nbytes for part in parts) + LEAST_QUESTION_BYTES

    def question_token_ids(self, question: str, *, raw: bool = False) -> list[int]:
        """Tokens of a question in the model's template; as it is when `raw`."""
        return question_tokens(self.model, question, raw=raw)

    def start(
        self, token_ids: list[int], most_tokens: int = 0, state: SequenceState | None = None
    ) -> tuple[Tensor, Any]:
        """Logits (V,) of the token after the document and `token_ids`, and the library's cache there.

        Args:
            token_ids: of the question; at least one.
            most_tokens: that will be decoded: memory is taken for them.
            state: behind what is read; by default that of text to continue.

        Raises:
            EmptyInput: no tokens.
            ContextTooLong: no position is left for an answer.
        """
        if not token_ids:
            raise EmptyInput("there is no text to continue with, and this model needs a token to resume from")
        model, state = self.model, state or self.reader.state(self.reader.read(None))
        T = state.position
        if T + len(token_ids) >= model.context_length:
            raise ContextTooLong(T + len(token_ids) + 1, model.context_length, model.name, "document and question")
        layers = self.resumed(state, min(T + len(token_ids) + most_tokens, model.context_length))
        step = model.block_tokens if model.schedule == "blocks" else 1
        ids = torch.tensor(token_ids, dtype=torch.int64)
        logits = None
        for at in range(0, len(token_ids), step):
            logits = library.forward(model.network, ids[at : at + step], layers, T + at, last=True)
        assert logits is not None
        return logits[-1], layers

    def resumed(self, state: SequenceState, capacity: int) -> Any:
        """A cache of the library that goes on from a state, with memory for so many rows."""
        return put_in(lambda: library.new_cache(self.model.network), self.model.layers, state, capacity)

    def continued(self, token_ids: Sequence[int]) -> Tensor:
        """Logits (n, V) behind each of n tokens that follow the text, read block by block.

        Raises:
            ContextTooLong: they do not fit behind the document.
        """
        model, state = self.model, self.reader.state(self.reader.read(None))
        T = state.position
        if T + len(token_ids) > model.context_length:
            raise ContextTooLong(T + len(token_ids), model.context_length, model.name, "document and what follows")
        layers = self.resumed(state, T + len(token_ids))
        step = model.block_tokens if model.schedule == "blocks" else 1
        ids = torch.tensor(token_ids, dtype=torch.int64)
        found = [library.forward(model.network, ids[at : at + step], layers, T + at) for at in range(0, len(ids), step)]
        return torch.cat(found)

    def behind(self, first: list[int], then: list[int], *, copies: bool = True) -> Tensor:
        """Logits (1 + len(then), V) behind `first` and behind each token of `then`; nothing is copied."""
        return self.continued([*first, *then])[len(first) - 1 :]

    def likeliest(self, token_ids: list[int], count: int) -> list[int]:
        """The likeliest tokens behind `token_ids`, one after the other; one that ends an answer ends nothing."""
        found = list[int]()
        state = self.reader.state(self.reader.read(None))
        logits, layers = self.start(token_ids, count, state)
        at = state.position + len(token_ids)
        while len(found) < count:
            found.append(int(logits.argmax()))
            if len(found) < count:
                logits = library.forward(self.model.network, torch.tensor(found[-1:]), layers, at, last=True)[-1]
                at += 1
        return found

    def generate(self, token_ids: list[int], **sampling: Unpack[SamplingOptions]) -> list[int]:
        """Token ids that follow the document and `token_ids`; the end token is not among them.

        Args:
            token_ids: what stands between document and answer.
            **sampling: fields of `Sampling`.
        """
        usage = self._usage(token_ids, self.reader.read(None))
        answering = Answering(Sampling(**sampling), self.model.stop_token_ids, usage)
        for _ in self._decode(token_ids, answering):
            pass
        return answering.token_ids

    def stream(self, question: str, *, raw: bool = False, **sampling: Unpack[SamplingOptions]) -> Iterator[str]:
        """The answer in pieces of text, as they are decoded; arguments as of `Session.stream`."""
        for answering in self.answering(question, raw, Sampling(**sampling)):
            if answering.piece:
                yield answering.piece

    def ask(self, question: str, *, raw: bool = False, **sampling: Unpack[SamplingOptions]) -> Answer:
        """The whole answer; arguments as in `stream`."""
        *_, answering = self.answering(question, raw, Sampling(**sampling))
        return answering.answer()

    def _usage(self, token_ids: list[int], reading: Reading) -> Usage:
        times = {"question": 0.0, "decode": 0.0}
        return Usage(self.cache.length, question_tokens=len(token_ids), timings_s=times, reading=reading)

    def begin(self, question: str, raw: bool, sampling: Sampling, reading: Reading) -> tuple[list[int], Answering]:
        """The tokens of a question, and its answer, which has as many tokens as there are positions left at most."""
        model, ids = self.model, self.question_token_ids(question, raw=raw)
        read = (
            self.cache.length if self.cache.blocks is None else reading.tokens + len(reading.found)
        )  # line breaks may be added
        room = model.context_length - read - len(ids)
        sampling = replace(sampling, max_tokens=max(min(sampling.max_tokens, room), 1))
        if raw:  # text that goes on is never withheld
            sampling = replace(sampling, least_likelihood=0.0)
        stops = sampling.stop if raw else (*model.template.stop, *sampling.stop)
        text = StreamedText(model.tokenizer, stops, strip=not raw)
        quoting = self._quoting(reading) if sampling.quote and not raw else None
        return ids, Answering(sampling, model.stop_token_ids, self._usage(ids, reading), text, quoting=quoting)

    def _quoting(self, reading: Reading) -> Quoting:
        """What a quote may be of what was read."""
        if reading not in self._quotable:
            self._quotable.clear()  # of the last reading alone: questions read different blocks
            self._quotable[reading] = Quotable(self.reader.index, reading.found)
        return Quoting(self._quotable[reading], self.model.stop_token_ids, self.model.config.vocab_size)

    def answering(self, question: str, raw: bool, sampling: Sampling) -> Iterator[Answering]:
        """The answer after each token and once more when it is finished; only then where it may yet be withheld."""
        readings = self.reader.readings(None if raw else question)
        if len(readings) > 1:
            yield self._best_of(question, readings, sampling)
            return
        ids, answering = self.begin(question, raw, sampling, readings[0])
        certain = not answering.sampling.least_likelihood
        for _ in self._decode(ids, answering):
            if certain:
                yield answering
        answering.finish()
        if not certain:
            answering.piece = answering.answer().text
        yield answering

    def _best_of(self, question: str, readings: Sequence[Reading], sampling: Sampling) -> Answering:
        """The best of the answers to one question from several blocks."""
        answers = []
        for reading in readings:
            ids, answering = self.begin(question, False, sampling, reading)
            for _ in self._decode(ids, answering):
                pass
            answering.finish()
            answers.append(answering)
        best = self.reader.best([(r, a.usage.likelihood) for r, a in zip(readings, answers, strict=True)])
        self.reader.settle(question, readings[best])
        self.last_usage = answers[best].usage
        answers[best].piece = answers[best].answer().text
        return answers[best]

    def _decode(self, token_ids: list[int], answering: Answering) -> Iterator[None]:
        """Let `answering` take token after token, its usage up to date after each."""
        model, device = self.model, torch.device(self.model.device)
        self.last_usage = usage = answering.usage
        assert usage.timings_s is not None
        assert usage.reading is not None
        started = time.perf_counter()
        state = self.reader.state(usage.reading)
        logits, layers = self.start(token_ids, answering.sampling.max_tokens, state)
        synchronize(device)
        usage.timings_s["question"] = time.perf_counter() - started
        started, at = time.perf_counter(), state.position + len(token_ids)
        while (token := answering.take(logits)) is not None:
            usage.timings_s["decode"] = time.perf_counter() - started
            yield
            if not answering.going:
                return
            logits = library.forward(model.network, torch.tensor([token]), layers, at, last=True)[-1]
            at += 1


def question_tokens(model: ForeignModel, question: str, *, raw: bool = False) -> list[int]:
    """Tokens of a question in the model's template; as it is when `raw`.

    Raises:
        TokenizerError: the model has no tokenizer.
        QuestionTooLong: as said.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise TokenizerError("this model has no tokenizer, so it cannot read a question")
    return check_question_tokens(question, lambda: question_ids(tokenizer, model.template, question, raw=raw))
